"""How the variants of a view converge: their metrics at each evaluation, mean and standard deviation over seeds."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from skiplight.experiments.comparison.queue import TrialResult
from skiplight.training.run_folder import RunFolder

METRIC_TITLES = {
    "heldout/perplexity": "held-out perplexity",
    "evaluation/wordsim353": "WordSim-353 (Spearman)",
    "evaluation/simlex999": "SimLex-999 (Spearman)",
    "evaluation/google": "Google analogies (accuracy)",
}
"""Titles of metrics, in the order in which they are shown; metrics of other evaluation sets follow by their names."""


@dataclasses.dataclass
class Curve:
    """A metric of a variant during training.

    Attributes:
        tokens: tokens consumed until each evaluation, mean over seeds, [evaluations].
        pairs: pairs seen until each evaluation, mean over seeds, [evaluations].
        seconds: seconds of training until each evaluation, mean over seeds, [evaluations].
        mean: mean of the metric over seeds, [evaluations].
        deviation: standard deviation of the metric over seeds, 0 for a single seed, [evaluations].
        final: the metric at the last evaluation, [seeds].
    """

    tokens: list[float]
    pairs: list[float]
    seconds: list[float]
    mean: list[float]
    deviation: list[float]
    final: list[float]


def compute_curves(results: Sequence[TrialResult], metric: str) -> dict[str, Curve]:
    """Return the curve of a metric for each variant, from the results of one view; omit variants without the metric."""
    runs: dict[str, list[list[dict]]] = {}
    for result in results:
        if result.summary is not None and not result.search:
            points = [line for line in RunFolder(result.folder).read_metrics() if metric in line]
            if points:
                runs.setdefault(result.run.variant, []).append(points)
    return {variant: _average_curve(seeds, metric) for variant, seeds in runs.items()}


def list_metrics(results: Sequence[TrialResult]) -> list[str]:
    """Return the metrics of finished runs, in the order in which they are shown."""
    found = {
        name
        for result in results
        if result.summary is not None and not result.search
        for line in RunFolder(result.folder).read_metrics()
        for name in line
        if name == "heldout/perplexity" or name.startswith("evaluation/")
    }
    return [*(name for name in METRIC_TITLES if name in found), *sorted(found - set(METRIC_TITLES))]


def _average_curve(seeds: list[list[dict]], metric: str) -> Curve:
    # The first evaluations of a seed may have failed and be missing; those of the other seeds are then omitted too.
    shortest = min(map(len, seeds))
    seeds = [points[-shortest:] for points in seeds]
    # An evaluation follows the first block past a number of tokens, so its tokens differ a little between seeds.
    columns = list(zip(*seeds, strict=True))

    def mean(name: str) -> list[float]:
        return [statistics.fmean(point[name] for point in column) for column in columns]

    return Curve(
        tokens=mean("tokens"),
        pairs=mean("pairs"),
        seconds=mean("seconds"),
        mean=mean(metric),
        deviation=[statistics.stdev(p[metric] for p in c) if len(c) > 1 else 0.0 for c in columns],
        final=[points[-1][metric] for points in seeds],
    )
