"""Subsampling of frequent words: the probability with which a token is kept.

word2vec.c keeps a token of relative frequency f with probability sqrt(t/f) + t/f (capped at 1), which is not the
1 - sqrt(t/f) of the paper's text but what its released code, gensim and all published vectors use.
"""

from __future__ import annotations

import numpy as np

from skiplight.sampling.draws import at_most


def keep_probabilities(counts: np.ndarray, subsample: float) -> np.ndarray:
    """The probability that a token is kept, float64 [V].

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
    """`keep_probabilities` as uint32 [V]: a token is kept where its random word is at most this."""
    return at_most(keep_probabilities(counts, subsample))
