"""Which points of a study cannot be told from its best one, given that every point was trained with the same seeds.

The results are a table of points by seeds, a randomised block design: a seed decides the order of blocks, windows and
negatives, so what it adds is common to all points and drops out of their differences. What remains after the means of
points and of seeds are taken out has (points - 1)(seeds - 1) degrees of freedom, and is pooled over all points, since
three seeds of two points say little about their spread. These are Hsu's multiple comparisons with the best (1984,
"Constrained simultaneous confidence intervals for multiple comparisons with the best"): a point is worse than the best
if it lies below it by more than a one-sided quantile that holds for all comparisons at once, here Bonferroni's.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from skiplight.experiments.trials import SeedAverage

CONFIDENCE = 0.95


def least_difference(averages: Sequence[SeedAverage], metric: str) -> float | None:
    """Return the difference of means from which on a point is worse than the best; None if it cannot be estimated.

    Args:
        averages: the points, the best first; those that lack a seed of the best are left out.
        metric: the metric that they are compared by.
    """
    seeds = [row.seed for row in averages[0].rows] if averages else []
    table = []
    for average in averages:
        values = {row.seed: row.metrics[metric] for row in average.rows}
        if all(seed in values for seed in seeds):
            table.append([values[seed] for seed in seeds])
    if len(seeds) < 2 or len(table) < 2:
        return None
    from scipy import stats

    means, effects = [statistics.fmean(row) for row in table], [statistics.fmean(c) for c in zip(*table, strict=True)]
    middle, freedom = statistics.fmean(means), (len(table) - 1) * (len(seeds) - 1)
    rest = sum(
        (table[i][j] - means[i] - effects[j] + middle) ** 2 for i in range(len(table)) for j in range(len(seeds))
    )
    quantile = float(stats.t.ppf(1 - (1 - CONFIDENCE) / (len(table) - 1), freedom))
    return quantile * (2 * rest / freedom / len(seeds)) ** 0.5


def tied_with_best(averages: Sequence[SeedAverage], metric: str) -> list[SeedAverage]:
    """Return the points that cannot be told from the first one, which is the best; empty without several seeds."""
    least = least_difference(averages, metric)
    if least is None:
        return []
    return [other for other in averages[1:] if abs(other.mean[metric] - averages[0].mean[metric]) <= least]
