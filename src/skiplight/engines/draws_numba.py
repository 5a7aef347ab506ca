"""The draws of a whole segment, in loops that vectorise: the first two stages of the fused CPU engine.

One Philox call is a chain of ten dependent rounds, but the calls of different tokens are independent. A loop over
consecutive positions therefore computes eight calls at a time in vector registers. `sampling/draws.py` specifies the
draws; the tests compare them with those of `WindowSampler`.
"""

from __future__ import annotations

import numpy as np

from skiplight.compiled import kernel
from skiplight.sampling.draws import ATTEMPTS
from skiplight.sampling.draws_numba import draw_negative, draw_noise_word, noise_bits, scale_bits, token_bits


@kernel()
def draw_tokens(begin, count, seed, epoch, bits):
    """Write the random bits of `count` tokens from position `begin` on to `bits`, uint32 [4, >= count]."""
    b0, b1, b2, b3 = bits[0], bits[1], bits[2], bits[3]
    for i in range(count):
        b0[i], b1[i], b2[i], b3[i] = token_bits(begin + np.uint64(i), 0, seed, epoch)


@kernel()
def keep_tokens(ids, bits, keep, window, kept, half, at):
    """Subsample a segment, and return the number of kept tokens, n.

    Args:
        ids: int32 [tokens], the segment.
        bits: uint32 [4, >= tokens], from `draw_tokens`.
        keep: uint32 [V], keep thresholds.
        window: W.
        kept, half, at: int32 [>= tokens], overwritten by the word, half-width and offset of each kept token.
    """
    n = 0
    for i in range(len(ids)):
        kept[n], at[n] = ids[i], i
        half[n] = 1 + scale_bits(np.uint64(bits[1, i]), window)
        n += bits[0, i] <= keep[ids[i]]
    return n


@kernel()
def link_equals(kept, n, reach, chain, before, after):
    """Find equal words that are at most `reach` kept tokens apart.

    Args:
        kept: int32 [>= n], the words of the kept tokens.
        chain: int32 [>= n], overwritten.
        before: int32 [>= n], overwritten by the index of the last earlier token with the same word, or -1.
        after: bool [>= n], overwritten by whether the same word occurs again within reach.
    """
    newest = np.full(1024, -1, np.int32)  # by the last bits of the word; `chain` links to older tokens
    for i in range(n):
        word, bucket = kept[i], np.uint64(kept[i]) & np.uint64(1023)
        j = newest[bucket]
        newest[bucket], chain[i] = i, j
        while j >= max(0, i - reach) and kept[j] != word:
            j = chain[j]
        before[i], after[i] = -1, False
        if j >= max(0, i - reach):
            before[i], after[j] = j, True


@kernel()
def draw_for_windows(begin, at, n, bits, seed, epoch, columns, calls, negatives):
    """Draw the first attempt of all negatives of n windows.

    Args:
        begin: position of the segment's first token.
        at: int32 [>= n], offsets of the centres.
        bits: uint32 [4, tokens], from `draw_tokens`.
        columns: uint64 [V], `NoiseDistribution.columns`.
        calls: uint32 [4, >= n], overwritten.
        negatives: int32 [K, >= n], overwritten by the negatives.
    """
    b0, b1, b2, b3 = calls[0], calls[1], calls[2], calls[3]
    count = len(negatives)
    for c in range(n):
        b0[c], b1[c] = bits[2, at[c]], bits[3, at[c]]
    _look_up(b0, b1, n, columns, negatives[0])
    for slot in range(count // 2):
        for c in range(n):
            b0[c], b1[c], b2[c], b3[c] = noise_bits(begin + np.uint64(at[c]), slot, 0, seed, epoch)
        _look_up(b0, b1, n, columns, negatives[2 * slot + 1])
        if 2 * slot + 2 < count:
            _look_up(b2, b3, n, columns, negatives[2 * slot + 2])


@kernel()
def _look_up(a, b, n, columns, drawn):
    for c in range(n):
        drawn[c] = draw_noise_word(a[c], b[c], columns)


@kernel()
def draw_for_pairs(position, first, second, n, seed, epoch, columns, calls, negatives):
    """Draw the first attempt of the first n negatives at a position.

    Args:
        first, second: the last two of the token's four random integers, which draw negative 0.
        columns: uint64 [V], `NoiseDistribution.columns`.
        calls: uint32 [4, >= n / 2], overwritten.
        negatives: int32 [>= n], overwritten by the negatives.
    """
    b0, b1, b2, b3 = calls[0], calls[1], calls[2], calls[3]
    for slot in range(n // 2):
        b0[slot], b1[slot], b2[slot], b3[slot] = noise_bits(position, slot, 0, seed, epoch)
    negatives[0] = draw_noise_word(first, second, columns)
    for slot in range(n // 2):
        negatives[2 * slot + 1] = draw_noise_word(b0[slot], b1[slot], columns)
    for slot in range((n - 1) // 2):
        negatives[2 * slot + 2] = draw_noise_word(b2[slot], b3[slot], columns)


@kernel()
def permitted(word, position, n, seed, epoch, columns, kept, centre, left, right, exclude):
    """Return `word` if it may be negative n of a window, else the first allowed attempt, or -1 if there is none.

    Args:
        kept: int32, the words of the segment's kept tokens; the window is those from `left` to `right`.
        exclude: 0 to exclude nothing, 1 the word at `centre`, 2 all words of the window.
    """
    for attempt in range(1, ATTEMPTS + 1):
        excluded = exclude > 0 and word == kept[centre]
        if exclude == 2:
            for i in range(left, right + 1):
                excluded |= word == kept[i]
        if not excluded:
            return np.int32(word)
        word = draw_negative(position, n, attempt, seed, epoch, columns)
    return np.int32(-1)


@kernel()
def exclude_from_windows(begin, at, n, seed, epoch, columns, kept, half, exclude, excluded, negatives):
    """Draw the excluded negatives of n windows again; -1 marks a slot whose attempts are all excluded.

    Args:
        exclude: as for `permitted`.
        excluded: bool [>= n], overwritten.
        negatives: int32 [K, >= n], from `draw_for_windows`; changed.
    """
    for c in range(n):
        excluded[c] = exclude == 2
    for k in range(len(negatives)):
        row = negatives[k]
        for c in range(n):
            excluded[c] |= row[c] == kept[c]
    for c in range(n):
        if excluded[c]:
            position, left, right = begin + np.uint64(at[c]), max(c - half[c], 0), min(c + half[c], n - 1)
            for k in range(len(negatives)):
                negatives[k, c] = permitted(
                    negatives[k, c], position, k, seed, epoch, columns, kept, c, left, right, exclude
                )
