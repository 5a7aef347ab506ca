"""The noise distribution P_n(w) ∝ count(w)^α, sampled in constant time by Walker's alias method.

α = 0 is uniform, 1 the unigram distribution, 0.75 the choice of Mikolov et al. (2013), "Distributed representations of
words and phrases and their compositionality"; item vectors can be best at negative α (Caselles-Dupré et al. 2018,
"Word2vec applied to recommendation"). The alias method (Walker 1977, in Vose's linear-time form of 1991) cuts the V
probabilities into V equal columns of at most two words each: one random number selects the column, another the word.
"""

from __future__ import annotations

import functools

import numpy as np

from skiplight.sampling.draws import thresholds_below


class NoiseDistribution:
    """P_n(w) ∝ count(w)^exponent over the ids 0..V-1; `log_uniform` makes another distribution.

    Args:
        counts: int64 [V], each at least 1.
        exponent: α, any finite number.

    Attributes:
        probabilities: float64 [V], summing to 1.
        threshold: uint32 [V], the share of each column (in 2^-32) that belongs to its own word.
        alias: int32 [V], the word that owns the rest of the column.

    >>> NoiseDistribution(np.array([8, 1, 1]), exponent=1.0).probabilities.round(6).tolist()
    [0.8, 0.1, 0.1]
    >>> NoiseDistribution(np.array([8, 1]), exponent=0.0).probabilities.tolist()
    [0.5, 0.5]
    """

    def __init__(self, counts: np.ndarray, exponent: float) -> None:
        counts = np.asarray(counts)
        if len(counts) == 0 or counts.min() < 1:
            raise ValueError("a noise distribution needs words that occur: every count must be at least 1")
        # The largest logit is subtracted because large exponents would overflow.
        logits = exponent * np.log(counts.astype(np.float64))
        self._set(np.exp(logits - logits.max()))

    @classmethod
    def log_uniform(cls, vocabulary: int) -> NoiseDistribution:
        """Return P(w) = log((w + 2) / (w + 1)) / log(V + 1), about Zipf's law for words sorted by count.

        >>> NoiseDistribution.log_uniform(3).probabilities.round(3).tolist()
        [0.5, 0.292, 0.208]
        """
        noise = cls.__new__(cls)
        noise._set(np.log1p(1 / np.arange(1, vocabulary + 1)))
        return noise

    def _set(self, weights: np.ndarray) -> None:
        self.probabilities = weights / weights.sum()
        self.threshold, self.alias = _alias_table(self.probabilities)

    def __len__(self) -> int:
        return len(self.probabilities)

    @functools.cached_property
    def columns(self) -> np.ndarray:
        """The alias table in one array, so that a draw reads once: alias << 32 | threshold, uint64 [V]."""
        return self.alias.astype(np.uint64) << np.uint64(32) | self.threshold


def _alias_table(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return threshold and alias by Vose's construction: words above the mean fill up the columns below it."""
    size = len(probabilities)
    share = (probabilities * size).tolist()
    alias = list(range(size))
    small = [word for word in range(size) if share[word] < 1.0]
    large = [word for word in range(size) if share[word] >= 1.0]
    own = [1.0] * size
    while small and large:
        column, giver = small.pop(), large[-1]
        own[column], alias[column] = share[column], giver
        share[giver] -= 1.0 - share[column]
        if share[giver] < 1.0:
            small.append(large.pop())
    # The remaining shares differ from 1 by rounding only and keep their columns: alias[w] = w.
    return thresholds_below(np.array(own)), np.array(alias, dtype=np.int32)
