"""How the variants of a view converge: their metrics at each evaluation, mean and spread over seeds."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

from skiplight.experiments.comparison.results import TrialResult
from skiplight.training.run_folder import RunFolder

PERPLEXITY = "heldout/perplexity"

METRIC_TITLES = {
    PERPLEXITY: "held-out perplexity",
    "evaluation/wordsim353": "WordSim-353 (Spearman)",
    "evaluation/simlex999": "SimLex-999 (Spearman)",
    "evaluation/google": "Google analogies (accuracy)",
}
"""Titles of metrics, in the order in which they are shown; metrics of other evaluation sets follow by their names."""

AXES = {
    "pairs": "pairs seen",
    "scores": "score evaluations",
    "seconds": "seconds of training",
    "tokens": "tokens",
}
"""Against what a curve is shown. A score evaluation is one u·v by the objective's definition: 1 + K for a pair of
negative sampling, V for one of full softmax (`Objective.scores_per_pair`)."""


@dataclasses.dataclass
class Curve:
    """A metric of a variant during training.

    The mean of perplexities is exp of the mean loss, and the ends of their spread are exp of those of the loss, so that
    a band has the same height on both sides of its curve on a logarithmic axis.

    Attributes:
        tokens, pairs, scores, seconds: the axes: their means over seeds until each evaluation, [evaluations].
        mean: mean of the metric over seeds, [evaluations].
        low, high: one standard deviation over seeds below and above it; the mean for a single seed, [evaluations].
        final: the metric at the last evaluation, by seed.
    """

    tokens: list[float]
    pairs: list[float]
    scores: list[float]
    seconds: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]
    final: dict[int, float]


def is_logarithmic(metric: str) -> bool:
    """Return whether a metric is averaged and compared by its logarithm."""
    return metric.endswith("/perplexity")


def compute_curves(results: Sequence[TrialResult], metric: str) -> dict[str, Curve]:
    """Return the curve of a metric for each variant, from the results of one view; omit variants without the metric."""
    runs: dict[str, dict[int, list[dict]]] = {}
    for result in results:
        if result.summary is not None and not result.search:
            per_pair = result.summary["scores_per_pair"]
            points = [
                line | {"scores": line["pairs"] * per_pair}
                for line in RunFolder(result.folder).read_metrics()
                if metric in line
            ]
            if points:
                runs.setdefault(result.run.variant, {})[result.run.seed] = points
    return {variant: average_curve(seeds, metric) for variant, seeds in runs.items()}


def list_metrics(results: Sequence[TrialResult]) -> list[str]:
    """Return the metrics of finished runs, in the order in which they are shown."""
    found = {
        name
        for result in results
        if result.summary is not None and not result.search
        for line in RunFolder(result.folder).read_metrics()
        for name in line
        if name == PERPLEXITY or name.startswith("evaluation/")
    }
    return [*(name for name in METRIC_TITLES if name in found), *sorted(found - set(METRIC_TITLES))]


def average_curve(seeds: dict[int, list[dict]], metric: str) -> Curve:
    """Return the curve of a metric over some seeds, from the lines of metrics.jsonl that have it."""
    # The first evaluations of a seed may have failed and be missing; those of the other seeds are then omitted too.
    shortest = min(map(len, seeds.values()))
    # An evaluation follows the first block past a number of tokens, so its tokens differ a little between seeds.
    columns = list(zip(*(points[-shortest:] for points in seeds.values()), strict=True))
    spread = [spread_of([point[metric] for point in column], metric) for column in columns]
    axes = {name: [statistics.fmean(point[name] for point in column) for column in columns] for name in AXES}
    return Curve(
        **axes,
        mean=[mean for mean, _, _ in spread],
        low=[low for _, low, _ in spread],
        high=[high for _, _, high in spread],
        final={seed: points[-1][metric] for seed, points in seeds.items()},
    )


def spread_of(values: Sequence[float], metric: str) -> tuple[float, float, float]:
    """Return the mean of a metric over seeds, and one standard deviation below and above it.

    >>> spread_of([1.0, 3.0], "evaluation/wordsim353")[0]
    2.0
    >>> [round(value, 3) for value in spread_of([100.0, 400.0], "heldout/perplexity")]
    [200.0, 75.043, 533.029]
    """
    if is_logarithmic(metric):
        mean, low, high = _spread([math.log(value) for value in values])
        return math.exp(mean), math.exp(low), math.exp(high)
    return _spread(values)


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    mean = statistics.fmean(values)
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return mean, mean - deviation, mean + deviation
