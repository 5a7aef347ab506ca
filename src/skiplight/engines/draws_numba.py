"""The draws of a whole segment, in loops that vectorise: the first two stages of the fused CPU engine.

One Philox call is a chain of ten dependent rounds; calls of different tokens are independent, so a loop that makes them
one after the other from consecutive places runs eight at a time in vector registers. What they decide is
`sampling/draws.py`; the tests hold it against `WindowSampler`.
"""

from __future__ import annotations

import numpy as np

from skiplight.compiled import kernel
from skiplight.sampling.draws import ATTEMPTS
from skiplight.sampling.draws_numba import draw_negative, noise_bits, noise_word, scaled, token_bits


@kernel()
def draw_tokens(begin, count, seed, epoch, words):
    """The calls of `count` tokens from place `begin` on; words: uint32 [4, >= count]."""
    w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
    for i in range(count):
        w0[i], w1[i], w2[i], w3[i] = token_bits(begin + np.uint64(i), 0, seed, epoch)


@kernel()
def keep_tokens(ids, words, keep, window, kept, half, at):
    """Subsamples a segment: word, half-width and offset of each kept token, int32; returns their number."""
    n = 0
    for i in range(len(ids)):
        kept[n], at[n] = ids[i], i
        half[n] = 1 + scaled(np.uint64(words[1, i]), window)
        n += words[0, i] <= keep[ids[i]]
    return n


@kernel()
def link_equals(kept, n, reach, chain, before, after):
    """Finds equal words that are at most `reach` kept tokens apart.

    Args:
        chain: int32 [>= n], overwritten.
        before: int32 [>= n], the nearest place before with the same word, or -1.
        after: bool [>= n], whether there is such a place after.
    """
    newest = np.full(1024, -1, np.int32)  # by the last bits of the word; `chain` leads on to older ones
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
def draw_for_windows(begin, at, n, words, seed, epoch, columns, calls, negatives):
    """All negatives of n windows, each its first attempt.

    Args:
        at: offsets of the n centres; words: what `draw_tokens` gave, uint32 [4, tokens].
        calls: uint32 [4, >= n], overwritten.
        negatives: int32 [K, >= n], the result.
    """
    w0, w1, w2, w3 = calls[0], calls[1], calls[2], calls[3]
    count = len(negatives)
    for c in range(n):
        w0[c], w1[c] = words[2, at[c]], words[3, at[c]]
    _look_up(w0, w1, n, columns, negatives[0])
    for slot in range(count // 2):
        for c in range(n):
            w0[c], w1[c], w2[c], w3[c] = noise_bits(begin + np.uint64(at[c]), slot, 0, seed, epoch)
        _look_up(w0, w1, n, columns, negatives[2 * slot + 1])
        if 2 * slot + 2 < count:
            _look_up(w2, w3, n, columns, negatives[2 * slot + 2])


@kernel()
def _look_up(a, b, n, columns, drawn):
    for c in range(n):
        drawn[c] = noise_word(a[c], b[c], columns)


@kernel()
def draw_for_pairs(place, first, second, n, seed, epoch, columns, calls, negatives):
    """The first n negatives of a place, each its first attempt.

    Args:
        first, second: words 2 and 3 of the token's own call, which draw negative 0.
        calls: uint32 [4, >= n / 2], overwritten.
        negatives: int32 [>= n], the result.
    """
    w0, w1, w2, w3 = calls[0], calls[1], calls[2], calls[3]
    for slot in range(n // 2):
        w0[slot], w1[slot], w2[slot], w3[slot] = noise_bits(place, slot, 0, seed, epoch)
    negatives[0] = noise_word(first, second, columns)
    for slot in range(n // 2):
        negatives[2 * slot + 1] = noise_word(w0[slot], w1[slot], columns)
    for slot in range((n - 1) // 2):
        negatives[2 * slot + 2] = noise_word(w2[slot], w3[slot], columns)


@kernel()
def permitted(word, place, n, seed, epoch, columns, kept, centre, left, right, exclude):
    """`word` where it may be negative n of a window, else what further attempts give; -1 where all are excluded.

    exclude: 0 nothing, 1 the centre, 2 all words from `left` to `right`.
    """
    for attempt in range(1, ATTEMPTS + 1):
        excluded = exclude > 0 and word == kept[centre]
        if exclude == 2:
            for i in range(left, right + 1):
                excluded |= word == kept[i]
        if not excluded:
            return np.int32(word)
        word = draw_negative(place, n, attempt, seed, epoch, columns)
    return np.int32(-1)


@kernel()
def exclude_from_windows(begin, at, n, seed, epoch, columns, kept, half, exclude, hits, negatives):
    """Draws again what the windows exclude, and puts -1 where nothing is left.

    hits: bool [>= n], overwritten; negatives: int32 [K, >= n].
    """
    for c in range(n):
        hits[c] = exclude == 2
    for k in range(len(negatives)):
        row = negatives[k]
        for c in range(n):
            hits[c] |= row[c] == kept[c]
    for c in range(n):
        if hits[c]:
            place, left, right = begin + np.uint64(at[c]), max(c - half[c], 0), min(c + half[c], n - 1)
            for k in range(len(negatives)):
                negatives[k, c] = permitted(
                    negatives[k, c], place, k, seed, epoch, columns, kept, c, left, right, exclude
                )
