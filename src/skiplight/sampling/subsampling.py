"""Subsampling of frequent words: the probability that a token is kept.

A token of relative frequency f is kept with probability sqrt(t/f) + t/f (capped at 1), as in word2vec.c, gensim and
all published vectors; the text of the paper discards with probability 1 - sqrt(t/f) instead.
"""

from __future__ import annotations

import numpy as np

from skiplight.sampling.draws import thresholds_at_most


def keep_probabilities(counts: np.ndarray, subsample: float) -> np.ndarray:
    """Return the probability that a token of each word is kept, float64 [V].

    Args:
        counts: int64 [V].
        subsample: the threshold t as a relative frequency; 0 keeps everything.

    >>> keep_probabilities(np.array([96, 4]), subsample=0.04).round(4).tolist()
    [0.2458, 1.0]
    """
    counts = np.asarray(counts, dtype=np.float64)
    if subsample == 0:
        return np.ones_like(counts)
    ratio = subsample * counts.sum() / np.maximum(counts, 1)
    return np.minimum(np.sqrt(ratio) + ratio, 1.0)


def keep_thresholds(counts: np.ndarray, subsample: float) -> np.ndarray:
    """Return `keep_probabilities` as uint32 [V]: a token is kept if its random bits are at most its threshold."""
    return thresholds_at_most(keep_probabilities(counts, subsample))
