"""Noise distributions, from which negatives are drawn in constant time by Walker's alias method.

A noise distribution is a function from the counts of the words to weights: `noise=power` draws P_n(w) ∝ count(w)^α.
α = 0 is uniform, 1 the unigram distribution, 0.75 the choice of Mikolov et al. (2013), "Distributed representations of
words and phrases and their compositionality"; item vectors can be best at negative α (Caselles-Dupré et al. 2018,
"Word2vec applied to recommendation"). The alias method (Walker 1977, in Vose's linear-time form of 1991) cuts the V
probabilities into V equal columns of at most two words each: one random number selects the column, another the word.
Every engine needs no more than that table, so a function of one's own is as fast as those below.

A distribution may change during a training, in `STAGES` stages: `noise=annealed_power` moves α from `begin` to `end`.
With a rising α, negatives grow harder: they come ever more often from the frequent words, which are also the targets
that a model must be told from. Training on ever harder negatives is the curriculum of Ying et al. (2018), "Graph
convolutional neural networks for web-scale recommender systems", who add hard items epoch by epoch; here the exponent
is the measure of hardness.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from skiplight.files import read_text
from skiplight.registry import option, register_noise
from skiplight.sampling.draws import thresholds_below


@dataclass
class PowerOptions:
    """Options of `noise=power`."""

    exponent: float = option(0.75, "0 is uniform, 1 unigram; may be negative", low=-10, high=10)


@register_noise("power", options=PowerOptions)
def power_weights(counts: np.ndarray, exponent: float = 0.75) -> np.ndarray:
    """Return count^exponent up to a factor, float64 [V], for counts of at least 1, int64 [V].

    >>> power_weights(np.array([4, 1]), 0.5).tolist()
    [1.0, 0.5]
    """
    counts = np.asarray(counts)
    if len(counts) == 0 or counts.min() < 1:
        raise ValueError("a noise distribution needs words that occur: every count must be at least 1")
    # The largest logit is subtracted because large exponents would overflow.
    logits = exponent * np.log(counts.astype(np.float64))
    return np.exp(logits - logits.max())


@dataclass
class AnnealedPowerOptions:
    """Options of `noise=annealed_power`."""

    begin: float = option(0.0, "exponent at the beginning of the run", low=-10, high=10)
    end: float = option(0.75, "exponent at its end", low=-10, high=10)


@register_noise("annealed_power", options=AnnealedPowerOptions)
def annealed_power_weights(counts: np.ndarray, begin: float, end: float, progress: float) -> np.ndarray:
    """Return the weights of an exponent that goes linearly from `begin` to `end`, float64 [V].

    >>> annealed_power_weights(np.array([4, 1]), begin=0.0, end=1.0, progress=0.5).tolist()
    [1.0, 0.5]
    """
    return power_weights(counts, begin + (end - begin) * progress)


@register_noise("uniform")
def uniform_weights(counts: np.ndarray) -> np.ndarray:
    """Return the same weight for every word, float64 [V]."""
    return np.ones(len(counts))


@register_noise("log_uniform")
def log_uniform_weights(counts: np.ndarray) -> np.ndarray:
    """Return log((w + 2) / (w + 1)), float64 [V], about Zipf's law for words sorted by count.

    >>> NoiseDistribution(log_uniform_weights(np.array([9, 3, 1]))).probabilities.round(3).tolist()
    [0.5, 0.292, 0.208]
    """
    return np.log1p(1 / np.arange(1, len(counts) + 1))


@dataclass
class FileOptions:
    """Options of `noise=from_file`."""

    path: str | None = option(None, "file of weights: a word, a tab or space, and its weight per line")


@register_noise("from_file", options=FileOptions)
def file_weights(counts: np.ndarray, path: str | None, words: Sequence[str]) -> np.ndarray:
    """Return the weights that a file has for the words, float64 [V]; 0 for words that it lacks.

    Raises:
        ValueError: there is no file, or a line without a weight, or no word of the vocabulary in it.
    """
    if path is None:
        raise ValueError("`noise.path` is missing: give the file of weights")
    weights = {}
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"`noise.path={path}` cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            word, _, weight = line.rstrip().replace("\t", " ").rpartition(" ")
            try:
                weights[word] = float(weight)
            except ValueError:
                raise ValueError(f"`noise.path={path}`, line {number}: {line!r} has no weight after its word") from None
    if weights.keys().isdisjoint(words):
        raise ValueError(f"`noise.path={path}` has none of the {len(words):,} words of the vocabulary")
    return np.array([weights.get(word, 0.0) for word in words])


class NoiseDistribution:
    """P_n(w) ∝ weight of w, over the ids 0..V-1.

    Args:
        weights: float [V], finite, none negative, and not all 0.

    Attributes:
        probabilities: float64 [V], summing to 1.
        threshold: uint32 [V], the share of each column (in 2^-32) that belongs to its own word.
        alias: int32 [V], the word that owns the rest of the column.

    Raises:
        ValueError: the weights are not of that kind.

    >>> NoiseDistribution(power_weights(np.array([8, 1, 1]), exponent=1.0)).probabilities.round(6).tolist()
    [0.8, 0.1, 0.1]
    """

    def __init__(self, weights: np.ndarray) -> None:
        self.probabilities = normalise_weights(weights)
        self.threshold, self.alias = _alias_table(self.probabilities)

    def __len__(self) -> int:
        return len(self.probabilities)

    @functools.cached_property
    def columns(self) -> np.ndarray:
        """The alias table in one array, so that a draw reads once: alias << 32 | threshold, uint64 [V]."""
        return self.alias.astype(np.uint64) << np.uint64(32) | self.threshold


STAGES = 20
"""The stages of a distribution that changes during a training: enough for a smooth change, few enough to be cheap."""


class AnnealedNoise:
    """A noise distribution that changes during a training, constant within each of `STAGES` parts of as many tokens.

    The stage of a step is a function of the tokens that are consumed before it, so that block size, ranks and a resumed
    run do not matter.

    Args:
        weights: from the share of the run, 0 in the first stage and 1 in the last, to the weights, float [V].
    """

    def __init__(self, weights: Callable[[float], np.ndarray]) -> None:
        self._weights = weights

    @staticmethod
    def stage(tokens: int, total: int) -> int:
        """Return the stage of a step that begins after `tokens` of the `total` tokens of the run.

        >>> [AnnealedNoise.stage(tokens, 1000) for tokens in (0, 49, 50, 999, 1000)]
        [0, 0, 1, 19, 19]
        """
        return min(tokens * STAGES // total, STAGES - 1)

    def probabilities(self, stage: int) -> np.ndarray:
        """Return the probabilities of a stage, float64 [V].

        Raises:
            ValueError: its weights are no distribution.
        """
        return normalise_weights(self._weights(stage / (STAGES - 1)))

    def distribution(self, stage: int) -> NoiseDistribution:
        """Return the distribution of a stage, made anew at every call."""
        return NoiseDistribution(self._weights(stage / (STAGES - 1)))


def normalise_weights(weights: np.ndarray) -> np.ndarray:
    """Return probabilities in proportion to weights, float64 [V].

    Raises:
        ValueError: a weight is negative or not finite, or all are 0.
    """
    weights = np.asarray(weights, np.float64)
    if weights.ndim != 1 or len(weights) == 0:
        raise ValueError(f"weights must be one number per word, not of shape {weights.shape}")
    if not np.isfinite(weights).all():
        raise ValueError(f"the weight of word {int(np.flatnonzero(~np.isfinite(weights))[0])} is not finite")
    if weights.min() < 0:
        raise ValueError(f"the weight of word {int(weights.argmin())} is negative, {weights.min():g}")
    if weights.max() == 0:
        raise ValueError("all weights are 0")
    # The largest weight first, since a sum of large weights would overflow.
    weights = weights / weights.max()
    return weights / weights.sum()


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
