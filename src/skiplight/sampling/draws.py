"""The specification of every random decision, the same in every engine.

A decision is a pure function of seed, epoch, position in the text, purpose, slot and attempt, so it can be repeated
without stored state: a run resumes from a few integers, and workers, ranks, block sizes and engines cannot change it.
The function is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), which maps a key
of two and a counter of four 32-bit integers to four random 32-bit integers::

    key      = (seed, epoch)
    counter  = (position mod 2^32, position >> 32, purpose << 24 | slot, attempt)
    position = mix64(document key) + offset   (mod 2^64)

where the offset counts the in-vocabulary tokens of the document and mix64 is SplitMix64's finaliser, which puts the
positions of different documents far apart. The four results of a call are used for

========  =========  ===================================================  =========================================
purpose   slot       results 0, 1                                         results 2, 3
========  =========  ===================================================  =========================================
TOKEN     0          0: is the token kept?  1: half-width of its window   negative 0
NOISE     j          negative 2j + 1                                      negative 2j + 2
ORDER     0          sort key of a block (position: its index)            -
SPLIT     0          does a held-out passage choose between runs?         -
========  =========  ===================================================  =========================================

A kept token with K shared negatives costs 1 + ceil((K - 1) / 2) calls. Negative k (0 <= k < K) has number n = k where
a window shares its negatives, and n = z·K + k for the pair whose context word is at signed distance o among the kept
tokens, with z = 2(|o| - 1) + [o > 0]. Two results a, b select a noise word by the alias method (`noise.py`):
i = a·V >> 32, then i where b < threshold[i], else alias[i].

A token is kept if result 0 <= its keep threshold; the half-width of a window is 1 + (result 1 · W >> 32). Thresholds
are computed once on the host, in float64, and stored as 32-bit integers: engines compare integers only.
"""

from __future__ import annotations

import enum

import numpy as np


class Purpose(enum.IntEnum):
    """The purpose of a call, the top byte of the third counter value."""

    TOKEN = 0
    NOISE = 1
    ORDER = 2
    SPLIT = 3


ATTEMPTS = 17
"""An excluded negative is redrawn up to 16 times, then its slot is masked."""

EVALUATION_EPOCH = 2**32 - 1
"""The epoch number of the draws for held-out pairs; no training epoch has it."""

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
"""Philox4x32's constants, from Random123's philox.h."""

MIX = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
"""SplitMix64's increment and multipliers (Steele et al., OOPSLA 2014)."""


def mix64(documents: np.ndarray) -> np.ndarray:
    """Apply SplitMix64's finaliser, a bijection, to document keys: int64 [n] to uint64 [n]."""
    z = documents.astype(np.uint64) + np.uint64(MIX[0])
    z = (z ^ (z >> np.uint64(30))) * np.uint64(MIX[1])
    z = (z ^ (z >> np.uint64(27))) * np.uint64(MIX[2])
    return z ^ (z >> np.uint64(31))


def thresholds_at_most(probability: np.ndarray) -> np.ndarray:
    """Return uint32 thresholds t with P(bits <= t) = probability, to 2^-32, for random bits; 1 is exact."""
    return np.clip(np.rint(np.asarray(probability, np.float64) * 2.0**32) - 1, 0, 2**32 - 1).astype(np.uint32)


def thresholds_below(probability: np.ndarray) -> np.ndarray:
    """Return uint32 thresholds t with P(bits < t) = probability, to 2^-32, for random bits; 0 is exact."""
    return np.clip(np.rint(np.asarray(probability, np.float64) * 2.0**32), 0, 2**32 - 1).astype(np.uint32)
