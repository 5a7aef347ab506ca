"""The draws of `draws.py` as functions that Numba inlines into kernels; 32-bit words are kept in uint64."""

from __future__ import annotations

import numpy as np

from skiplight.compiled import inline
from skiplight.sampling.draws import MIX, MULTIPLIERS, WEYL, Purpose

_WORD = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_M0, _M1 = np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1])
_W0, _W1 = np.uint64(WEYL[0]), np.uint64(WEYL[1])
_INCREMENT, _MIX1, _MIX2 = np.uint64(MIX[0]), np.uint64(MIX[1]), np.uint64(MIX[2])
_TOKEN, _NOISE = np.uint64(int(Purpose.TOKEN) << 24), np.uint64(int(Purpose.NOISE) << 24)


@inline
def mix64(document):
    """SplitMix64's finaliser of one document key, uint64."""
    z = np.uint64(document) + _INCREMENT
    z = (z ^ (z >> np.uint64(30))) * _MIX1
    z = (z ^ (z >> np.uint64(27))) * _MIX2
    return z ^ (z >> np.uint64(31))


@inline
def philox(a, b, c, d, k0, k1):
    """Philox4x32-10 of four counter and two key words, all uint64; gives four words."""
    for _ in range(10):
        product0 = a * _M0
        product1 = c * _M1
        a = (product1 >> _32) ^ b ^ k0
        b = product1 & _WORD
        c = (product0 >> _32) ^ d ^ k1
        d = product0 & _WORD
        k0 = (k0 + _W0) & _WORD
        k1 = (k1 + _W1) & _WORD
    return a, b, c, d


@inline
def token_words(place, attempt, seed, epoch):
    """The token's own call: keep, half-width and the two words of negative 0."""
    return philox(place & _WORD, place >> _32, _TOKEN, np.uint64(attempt), seed, epoch)


@inline
def noise_words(place, slot, attempt, seed, epoch):
    """The words of negatives 2·slot + 1 (0, 1) and 2·slot + 2 (2, 3)."""
    return philox(place & _WORD, place >> _32, _NOISE | np.uint64(slot), np.uint64(attempt), seed, epoch)


@inline
def scaled(word, size):
    """word · size >> 32: a number from 0 to size - 1, int64."""
    return np.int64((word * np.uint64(size)) >> _32)


@inline
def noise_word(a, b, threshold, alias):
    """The word that two random words draw from the noise distribution, int32."""
    column = scaled(a, len(threshold))
    return np.int32(column) if b < np.uint64(threshold[column]) else alias[column]


@inline
def draw_negative(place, n, attempt, seed, epoch, threshold, alias):
    """Negative n at a place, one attempt, int32."""
    if n == 0:
        _, _, a, b = token_words(place, attempt, seed, epoch)
        return noise_word(a, b, threshold, alias)
    w0, w1, w2, w3 = noise_words(place, (n - 1) >> 1, attempt, seed, epoch)
    if n & 1 == 1:
        return noise_word(w0, w1, threshold, alias)
    return noise_word(w2, w3, threshold, alias)
