"""How far a study is: what its commands show while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from skiplight.experiments.metrics import Direction
from skiplight.experiments.queue import QueueProgress
from skiplight.experiments.sweeps.points import CONFIRMING_SEEDS, RUNG, Point, group_points, is_paused, score_key
from skiplight.experiments.sweeps.promotion import PROMOTING, expected_work, rung_share

if TYPE_CHECKING:
    import optuna

    from skiplight.config.schema import StudyConfig


def study_progress(
    trials: Sequence[optuna.trial.FrozenTrial],
    options: StudyConfig,
    metric: str,
    direction: Direction,
    limit: int | None,
) -> QueueProgress:
    """Return how far a study is.

    Args:
        trials: all trials.
        options: the options of the study.
        metric: name of the first metric.
        direction: whether it is maximised or minimised.
        limit: number of points; None if the study has no end.
    """
    points = group_points(trials, options.seeds)
    states = Counter("paused" if is_paused(trial) else trial.state.name.lower() for trial in trials)
    failed = {"fail": "failed"}
    counts = ", ".join(f"{count} {failed.get(state, state)}" for state, count in sorted(states.items()))
    of = f" of {limit}" if limit is not None else ""
    text = f"{len(points)}{of} {'points' if options.seeds > 1 else 'trials'} begun" + (f": {counts}" if counts else "")
    share = None if limit is None else _done_work(trials, options) / max(1, _all_work(options, limit))
    return QueueProgress(text, share and min(share, 1), _describe_best(points, metric, direction, options.rungs))


def _all_work(options: StudyConfig, limit: int) -> float:
    """Return about how many whole runs a study amounts to."""
    points = expected_work(options.pruner, limit, options.rungs) if options.pruner in PROMOTING else limit
    return points * options.seeds + min(options.confirm, limit) * max(CONFIRMING_SEEDS, options.seeds)


def _done_work(trials: Sequence[optuna.trial.FrozenTrial], options: StudyConfig) -> float:
    """Return how many whole runs the trials that have ended, or come to a rung, amount to."""
    done = 0.0
    for trial in trials:
        reached = [rung for rung in range(options.rungs) if score_key(rung) in trial.user_attrs]
        if trial.state.is_finished() and (trial.state.name != "FAIL" or RUNG not in trial.user_attrs):
            done += 1
        elif reached:
            done += rung_share(reached[-1], options.rungs)
    return done


def _describe_best(points: Sequence[Point], metric: str, direction: Direction, rungs: int) -> str:
    """Return the best of the points that have trained furthest, with its score."""
    sign = -1 if direction == "maximize" else 1
    for rung in range(rungs, -1, -1):
        scores = [(p.value if p.is_complete else None) if rung == rungs else p.score_at(rung) for p in points]
        scored = [(sign * score, p.number, score) for p, score in zip(points, scores, strict=True) if score is not None]
        if scored:
            _, number, score = min(scored)
            where = f" at rung {rung + 1} of {rungs}" if rung < rungs else ""
            return f"trial {number}, {metric} {score:.4g}{where}"
    return ""
