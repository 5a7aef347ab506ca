"""The draws of a whole segment, in loops that vectorise: the first two stages of the fused CPU engine.

One Philox call is a chain of ten dependent rounds; calls of different tokens are independent, so a loop that makes them
one after the other from consecutive places runs eight at a time in vector registers. What they decide is
`sampling/draws.py`; the tests hold it against `WindowSampler`.
"""

from __future__ import annotations

import numpy as np

from skiplight.compiled import kernel
from skiplight.sampling.draws import ATTEMPTS
from skiplight.sampling.draws_numba import draw_negative, noise_words, scaled, token_words


@kernel()
def draw_tokens(begin, count, seed, epoch, words):
    """The calls of `count` tokens from place `begin` on; words: uint32 [4, >= count]."""
    w0, w1, w2, w3 = words[0], words[1], words[2], words[3]
    for i in range(count):
        w0[i], w1[i], w2[i], w3[i] = token_words(begin + np.uint64(i), 0, seed, epoch)


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
def link_equals(kept, n, reach, before, after):
    """Where the nearest equal word stands, at most `reach` kept tokens before (-1: nowhere); if one comes after."""
    for i in range(n):
        word, found = kept[i], np.int64(-1)
        for j in range(max(0, i - reach), i):
            found = max(found, j if kept[j] == word else np.int64(-1))
        before[i], after[i] = found, False
        if found >= 0:
            after[found] = True


@kernel()
def noise_word(a, b, columns):
    """The word that two random words draw; columns: uint32 [V, 2], threshold and alias side by side."""
    column = scaled(np.uint64(a), len(columns))
    return np.int32(column) if b < columns[column, 0] else np.int32(columns[column, 1])


@kernel()
def draw_for_windows(begin, at, n, words, seed, epoch, columns, calls, negatives):
    """All negatives of n windows, each its first attempt.

    Args:
        at: offsets of the n centres; words: what `draw_tokens` gave, uint32 [4, tokens].
        calls: uint32 [4, >= n], overwritten.
        negatives: int32 [>= n, K], the result.
    """
    w0, w1, w2, w3 = calls[0], calls[1], calls[2], calls[3]
    count = negatives.shape[1]
    for c in range(n):
        negatives[c, 0] = noise_word(words[2, at[c]], words[3, at[c]], columns)
    for slot in range(count // 2):
        for c in range(n):
            w0[c], w1[c], w2[c], w3[c] = noise_words(begin + np.uint64(at[c]), slot, 0, seed, epoch)
        for c in range(n):
            negatives[c, 2 * slot + 1] = noise_word(w0[c], w1[c], columns)
        if 2 * slot + 2 < count:
            for c in range(n):
                negatives[c, 2 * slot + 2] = noise_word(w2[c], w3[c], columns)


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
        w0[slot], w1[slot], w2[slot], w3[slot] = noise_words(place, slot, 0, seed, epoch)
    negatives[0] = noise_word(first, second, columns)
    for i in range(1, n):
        slot = (i - 1) >> 1
        if i & 1:
            negatives[i] = noise_word(w0[slot], w1[slot], columns)
        else:
            negatives[i] = noise_word(w2[slot], w3[slot], columns)


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
        word = np.int32(draw_negative(place, n, attempt, seed, epoch, columns[:, 0], columns[:, 1]))
    return np.int32(-1)
