"""Differences between variants of a comparison: paired over seeds, with intervals that hold for all of them at once.

All variants are trained from the same seeds, which decide the order of blocks, windows and negatives, so the results of
a seed vary together, and differences are taken seed by seed. An interval is Student's t over those differences. With m
pairs of variants the confidence of each interval is 1 - .05/m (Bonferroni), so that all of them hold at once with 95 %,
whichever pair is looked at after the fact. Nothing is assumed of the variances of different variants.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Mapping

CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Difference:
    """The results of a variant minus those of another one.

    Attributes:
        mean: mean over the seeds that both have.
        low, high: ends of the interval; None for a single seed, which has none.
    """

    mean: float
    low: float | None
    high: float | None

    @property
    def is_certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def __neg__(self) -> Difference:
        return Difference(
            -self.mean, None if self.high is None else -self.high, None if self.low is None else -self.low
        )


def paired_differences(results: Mapping[str, Mapping[int, float]]) -> dict[tuple[str, str], Difference]:
    """Return the difference of every two variants that share a seed, in both directions.

    Args:
        results: by variant, the result of each seed.

    >>> found = paired_differences({"a": {0: 1.0, 1: 2.0, 2: 3.1}, "b": {0: 0.5, 1: 1.5, 2: 2.5}})
    >>> print(f"{found['a', 'b'].mean:.3f} {found['a', 'b'].low:.3f} {found['b', 'a'].high:.3f}")
    0.533 0.390 -0.390
    """
    pairs = {
        (a, b): [results[a][seed] - results[b][seed] for seed in results[a] if seed in results[b]]
        for a, b in itertools.combinations(results, 2)
    }
    tested = sum(len(values) > 1 for values in pairs.values())
    found = {}
    for (a, b), values in pairs.items():
        if values:
            found[a, b] = _difference(values, 1 - (1 - CONFIDENCE) / max(tested, 1))
            found[b, a] = -found[a, b]
    return found


def _difference(values: list[float], confidence: float) -> Difference:
    from scipy import stats

    mean = statistics.fmean(values)
    if len(values) < 2:
        return Difference(mean, None, None)
    error = statistics.stdev(values) / len(values) ** 0.5
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * error
    return Difference(mean, mean - half, mean + half)
