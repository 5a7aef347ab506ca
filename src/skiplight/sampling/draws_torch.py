"""The draws of `draws.py` as tensor operations, for any device.

torch has no reliable unsigned 64-bit arithmetic, so 32-bit integers are stored in int64 tensors: the product of two
wraps around, but its upper and lower halves are correct once they are masked.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skiplight.sampling.draws import MULTIPLIERS, WEYL, Purpose

_MASK = 0xFFFFFFFF
Bits = tuple[Tensor, Tensor, Tensor, Tensor]


def philox(counter: tuple[Tensor | int, ...], key: tuple[int, int]) -> Bits:
    """Return four int64 tensors of 32 random bits by Philox4x32-10.

    Args:
        counter: four int64 tensors or ints of 32 bits that broadcast together.
        key: two ints of 32 bits.

    >>> [f"{int(bits):08x}" for bits in philox((torch.tensor(0), 0, 0, 0), (0, 0))]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    a, b, c, d = (torch.as_tensor(value) for value in counter)
    k0, k1 = key
    for _ in range(10):
        product0, product1 = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = (
            (product1 >> 32) & _MASK ^ b ^ k0,
            product1 & _MASK,
            (product0 >> 32) & _MASK ^ d ^ k1,
            product0 & _MASK,
        )
        k0, k1 = (k0 + WEYL[0]) & _MASK, (k1 + WEYL[1]) & _MASK
    return a, b, c, d


def draw_bits(
    key: tuple[int, int], position: Tensor, purpose: Purpose, slot: Tensor | int = 0, attempt: int = 0
) -> Bits:
    """Return the four results of the call (purpose, slot, attempt) at int64 positions that broadcast with the slot."""
    return philox((position & _MASK, (position >> 32) & _MASK, (int(purpose) << 24) | slot, attempt), key)


def draw_negative_bits(key: tuple[int, int], position: Tensor, n: Tensor, attempt: int) -> tuple[Tensor, Tensor]:
    """Return the two results that select negative `n` at `position` (int64, broadcast together)."""
    position, n = torch.broadcast_tensors(position, n)
    first = n == 0
    # Negative 0 comes from the token's own call, every other one from half of a noise call.
    call = torch.where(first, int(Purpose.TOKEN) << 24, (int(Purpose.NOISE) << 24) | ((n - 1) >> 1))
    bits = philox((position & _MASK, (position >> 32) & _MASK, call, attempt), key)
    upper = first | (n & 1 == 0)
    return torch.where(upper, bits[2], bits[0]), torch.where(upper, bits[3], bits[1])


def draw_permutation(size: int, key: tuple[int, int]) -> Tensor:
    """Return a permutation of 0..size-1, int64 [size], as a function of the key."""
    bits = draw_bits(key, torch.arange(size), Purpose.ORDER)
    # Sort keys of 63 bits make ties practically impossible; a tie is broken by number.
    return torch.argsort((bits[0] << 31) | (bits[1] >> 1), stable=True)
