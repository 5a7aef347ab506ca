"""How the variants of a view converge: their metrics at each evaluation, mean and spread over the seeds."""

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
"""Metrics that all objectives share, and what they are called; further sets follow by their own names."""


@dataclasses.dataclass
class Curve:
    """A metric of a variant, over the run; a number for each evaluation.

    Attributes:
        tokens, pairs: consumed at each evaluation, the mean over seeds.
        seconds: of training, the mean over seeds.
        mean, deviation: of the metric, over the seeds; the deviation is 0 for a single seed.
        final: the last values, one for each seed.
    """

    tokens: list[float]
    pairs: list[float]
    seconds: list[float]
    mean: list[float]
    deviation: list[float]
    final: list[float]


def compute_curves(results: Sequence[TrialResult], metric: str) -> dict[str, Curve]:
    """A metric's curve for each variant among finished runs of one view; variants without it are left out."""
    runs: dict[str, list[list[dict]]] = {}
    for result in results:
        if result.summary is not None and not result.search:
            points = [line for line in RunFolder(result.folder).read_metrics() if metric in line]
            if points:
                runs.setdefault(result.run.variant, []).append(points)
    return {variant: _average_curve(seeds, metric) for variant, seeds in runs.items()}


def list_metrics(results: Sequence[TrialResult]) -> list[str]:
    """The metrics that the runs have, in the order in which they are shown."""
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
    # Of a seed whose vectors could not be judged at first, those evaluations are missing: they are left out of all.
    shortest = min(map(len, seeds))
    seeds = [points[-shortest:] for points in seeds]
    # Evaluations come at the first block past a number of tokens, which differs a little between seeds.
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
