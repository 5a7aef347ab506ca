"""The draws of `draws.py` as functions that Numba inlines into kernels; 32-bit integers are stored as uint64."""

from __future__ import annotations

import numpy as np

from skiplight.compiled import inline
from skiplight.sampling.draws import MIX, MULTIPLIERS, WEYL, Purpose

_MASK = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_M0, _M1 = np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1])
_W0, _W1 = np.uint64(WEYL[0]), np.uint64(WEYL[1])
_INCREMENT, _MIX1, _MIX2 = np.uint64(MIX[0]), np.uint64(MIX[1]), np.uint64(MIX[2])
_TOKEN, _NOISE = np.uint64(int(Purpose.TOKEN) << 24), np.uint64(int(Purpose.NOISE) << 24)


@inline
def mix64(document):
    """Apply SplitMix64's finaliser to a document key: uint64."""
    z = np.uint64(document) + _INCREMENT
    z = (z ^ (z >> np.uint64(30))) * _MIX1
    z = (z ^ (z >> np.uint64(27))) * _MIX2
    return z ^ (z >> np.uint64(31))


@inline
def philox(a, b, c, d, k0, k1):
    """Return the four results of Philox4x32-10 for a counter of four and a key of two values, all uint64."""
    for _ in range(10):
        product0 = a * _M0
        product1 = c * _M1
        a = (product1 >> _32) ^ b ^ k0
        b = product1 & _MASK
        c = (product0 >> _32) ^ d ^ k1
        d = product0 & _MASK
        k0 = (k0 + _W0) & _MASK
        k1 = (k1 + _W1) & _MASK
    return a, b, c, d


@inline
def token_bits(position, attempt, seed, epoch):
    """Return the bits that decide on a token: keep, half-width, and two for negative 0."""
    return philox(position & _MASK, position >> _32, _TOKEN, np.uint64(attempt), seed, epoch)


@inline
def noise_bits(position, slot, attempt, seed, epoch):
    """Return the bits of negatives 2·slot + 1 (the first two) and 2·slot + 2 (the last two)."""
    return philox(position & _MASK, position >> _32, _NOISE | np.uint64(slot), np.uint64(attempt), seed, epoch)


@inline
def scale_bits(bits, size):
    """Return bits · size >> 32, an int64 from 0 to size - 1."""
    return np.int64((bits * np.uint64(size)) >> _32)


@inline
def draw_noise_word(a, b, columns):
    """Return the word, int32, that 32 + 32 random bits draw by `NoiseDistribution.columns`, uint64 [V]."""
    column = (np.uint64(a) * np.uint64(len(columns))) >> _32
    own = columns[column]
    return np.int32(column if np.uint64(b) < own & _MASK else own >> _32)


@inline
def draw_negative(position, n, attempt, seed, epoch, columns):
    """Return one attempt of negative n at a position, int32; `columns` as for `draw_noise_word`."""
    if n == 0:
        _, _, a, b = token_bits(position, attempt, seed, epoch)
    else:
        b0, b1, b2, b3 = noise_bits(position, (n - 1) >> 1, attempt, seed, epoch)
        a, b = (b0, b1) if n & 1 else (b2, b3)
    return draw_noise_word(a, b, columns)
