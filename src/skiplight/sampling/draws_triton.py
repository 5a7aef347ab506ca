"""The draws of `draws.py` as functions that Triton inlines into kernels, for tiles of any shape.

32-bit words are uint32, places uint64; both wrap around by themselves.
"""

from __future__ import annotations

import triton
import triton.language as tl

from skiplight.sampling.draws import MIX, MULTIPLIERS, WEYL, Purpose

_M0, _M1 = tl.constexpr(MULTIPLIERS[0]), tl.constexpr(MULTIPLIERS[1])
_W0, _W1 = tl.constexpr(WEYL[0]), tl.constexpr(WEYL[1])
_INCREMENT, _MIX1, _MIX2 = tl.constexpr(MIX[0]), tl.constexpr(MIX[1]), tl.constexpr(MIX[2])
_TOKEN, _NOISE = tl.constexpr(int(Purpose.TOKEN) << 24), tl.constexpr(int(Purpose.NOISE) << 24)


@triton.jit
def mix64(document):
    """SplitMix64's finaliser of document keys, uint64."""
    z = document + tl.full([], _INCREMENT, tl.uint64)
    z = (z ^ (z >> 30)) * tl.full([], _MIX1, tl.uint64)
    z = (z ^ (z >> 27)) * tl.full([], _MIX2, tl.uint64)
    return z ^ (z >> 31)


@triton.jit
def philox(a, b, c, d, k0, k1):
    """Philox4x32-10 of four counter and two key words, uint32 that broadcast together; gives four words."""
    m0, m1 = tl.full([], _M0, tl.uint32), tl.full([], _M1, tl.uint32)
    w0, w1 = tl.full([], _W0, tl.uint32), tl.full([], _W1, tl.uint32)
    for _ in tl.static_range(10):
        a, b, c, d = tl.umulhi(c, m1) ^ b ^ k0, c * m1, tl.umulhi(a, m0) ^ d ^ k1, a * m0
        k0 += w0
        k1 += w1
    return a, b, c, d


@triton.jit
def call_bits(place, call, attempt, seed, epoch):
    """The four words of a call at each place.

    Args:
        place: uint64; call: uint32, purpose << 24 | slot, shaped like it; attempt: int; seed, epoch: uint32.
    """
    low, high = place.to(tl.uint32), (place >> 32).to(tl.uint32)
    return philox(low, high, call, (low & 0) + attempt, (low & 0) + seed, (low & 0) + epoch)


@triton.jit
def token_bits(place, seed, epoch):
    """The token's own call: keep, half-width and the two words of negative 0."""
    return call_bits(place, (place & 0).to(tl.uint32) + _TOKEN, 0, seed, epoch)


@triton.jit
def scale_bits(word, size):
    """word · size >> 32: a number from 0 to size - 1, int32."""
    return ((word.to(tl.uint64) * size) >> 32).to(tl.int32)


@triton.jit
def draw_negative(place, n, attempt, seed, epoch, columns, vocabulary, wanted):
    """Negative n at each place, one attempt: int32, where `wanted`.

    Args:
        place: uint64; n: int32; wanted: bool; all of one shape.
        columns: pointer to int64 [V], alias << 32 | threshold, so that one read gets both.
    """
    first = n == 0
    # Negative 0 comes from the token's own call, every other from half a call of the noise's.
    call = tl.where(first, _TOKEN, _NOISE | ((n - 1) >> 1)).to(tl.uint32)
    w0, w1, w2, w3 = call_bits(place, call, attempt, seed, epoch)
    upper = first | ((n & 1) == 0)
    column = scale_bits(tl.where(upper, w2, w0), vocabulary)
    own = tl.load(columns + column, mask=wanted, other=0)
    return tl.where(tl.where(upper, w3, w1) < own.to(tl.uint32), column, (own >> 32).to(tl.int32))
