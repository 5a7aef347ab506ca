"""The draws of `draws.py` as tensor operations, for any device.

torch has no unsigned 64-bit arithmetic to rely on, so 32-bit words live in int64 tensors: a product of two of them
wraps around, but its upper and lower halves are right once they are masked.
"""

from __future__ import annotations

import torch
from torch import Tensor

from skiplight.sampling.draws import MULTIPLIERS, WEYL, Purpose

_WORD = 0xFFFFFFFF
Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox(counter: tuple[Tensor | int, ...], key: tuple[int, int]) -> Words:
    """Philox4x32-10.

    Args:
        counter: four int64 tensors or ints, 32-bit words that broadcast together.
        key: two 32-bit words.

    Returns:
        four int64 tensors of random 32-bit words.

    >>> [f"{int(w):08x}" for w in philox((torch.tensor(0), 0, 0, 0), (0, 0))]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    a, b, c, d = (torch.as_tensor(word) for word in counter)
    k0, k1 = key
    for _ in range(10):
        product0, product1 = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = (
            (product1 >> 32) & _WORD ^ b ^ k0,
            product1 & _WORD,
            (product0 >> 32) & _WORD ^ d ^ k1,
            product0 & _WORD,
        )
        k0, k1 = (k0 + WEYL[0]) & _WORD, (k1 + WEYL[1]) & _WORD
    return a, b, c, d


def draw(key: tuple[int, int], place: Tensor, purpose: Purpose, slot: Tensor | int = 0, attempt: int = 0) -> Words:
    """The four words of the call (purpose, slot, attempt) at each place, int64 like `place` and `slot` together."""
    return philox((place & _WORD, (place >> 32) & _WORD, (int(purpose) << 24) | slot, attempt), key)


def draw_negative(key: tuple[int, int], place: Tensor, n: Tensor, attempt: int) -> tuple[Tensor, Tensor]:
    """The two words that draw negative `n` at `place` (int64, broadcast together)."""
    place, n = torch.broadcast_tensors(place, n)
    first = n == 0
    # Negative 0 comes from the token's own call, every other from half a call of the noise's.
    call = torch.where(first, int(Purpose.TOKEN) << 24, (int(Purpose.NOISE) << 24) | ((n - 1) >> 1))
    words = philox((place & _WORD, (place >> 32) & _WORD, call, attempt), key)
    upper = first | (n & 1 == 0)
    return torch.where(upper, words[2], words[0]), torch.where(upper, words[3], words[1])


def permutation(size: int, key: tuple[int, int]) -> Tensor:
    """An order of `size` things, int64 [size]: a function of the key, by sorting draws."""
    words = draw(key, torch.arange(size), Purpose.ORDER)
    # Two words of 32 bits as one of 63: ties are then as good as impossible, and broken by number.
    return torch.argsort((words[0] << 31) | (words[1] >> 1), stable=True)
