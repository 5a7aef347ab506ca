"""How the variants of a view converge: their metrics at each evaluation, mean and spread over the seeds."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from skiplight.experiments.comparison.queue import TrialResult
from skiplight.training.run_folder import RunFolder

MEASURES = {
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


def curves(outcomes: Sequence[TrialResult], metric: str) -> dict[str, Curve]:
    """A metric's curve for each variant among finished runs of one view; variants without it are left out."""
    runs: dict[str, list[list[dict]]] = {}
    for outcome in outcomes:
        if outcome.summary is not None and not outcome.search:
            points = [line for line in RunFolder(outcome.folder).read_metrics() if metric in line]
            if points:
                runs.setdefault(outcome.run.variant, []).append(points)
    return {variant: _curve(of_seeds, metric) for variant, of_seeds in runs.items()}


def metrics(outcomes: Sequence[TrialResult]) -> list[str]:
    """The metrics that the runs have, in the order in which they are shown."""
    found = {
        name
        for outcome in outcomes
        if outcome.summary is not None and not outcome.search
        for line in RunFolder(outcome.folder).read_metrics()
        for name in line
        if name == "heldout/perplexity" or name.startswith("evaluation/")
    }
    return [*(name for name in MEASURES if name in found), *sorted(found - set(MEASURES))]


def _curve(of_seeds: list[list[dict]], metric: str) -> Curve:
    # Of a seed whose vectors could not be judged at first, those evaluations are missing: they are left out of all.
    shortest = min(map(len, of_seeds))
    of_seeds = [points[-shortest:] for points in of_seeds]
    # Evaluations come at the first block past a number of tokens, which differs a little between seeds.
    columns = list(zip(*of_seeds, strict=True))

    def mean(name: str) -> list[float]:
        return [statistics.fmean(point[name] for point in column) for column in columns]

    return Curve(
        tokens=mean("tokens"),
        pairs=mean("pairs"),
        seconds=mean("seconds"),
        mean=mean(metric),
        deviation=[statistics.stdev(p[metric] for p in c) if len(c) > 1 else 0.0 for c in columns],
        final=[points[-1][metric] for points in of_seeds],
    )
