"""Promotion: trials pause at rungs, and the best go on from there. Nothing that was trained is lost.

Rung k of `study.rungs` is at 3^(k - rungs) of a run's tokens: with 3 rungs at 1/27, 1/9 and 1/3. A trial saves a
checkpoint there and its process ends. The study promotes about a third of those that came to a rung to the next one,
where they resume from their checkpoints; those promoted from the last rung train to the end. The decisions are
functions of the journal, made by the process that holds the study's lock, so all workers and machines make the same.

`study.pruner=asha` (Li et al. 2020, "A system for massively parallel hyperparameter tuning") promotes a point as soon
as it is in the best third of those at its rung, and else begins a new one, so that no worker waits. `hyperband` (Li et
al. 2018, "Hyperband: a novel bandit-based approach to hyperparameter optimization") begins brackets of points in turn,
each from a later rung than the one before it, and promotes when all points of the bracket have come to a rung.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

from skiplight.experiments.sweeps.points import Point

REDUCTION_FACTOR = 3
"""About one point in this many goes on from a rung, and each rung is at so many times the tokens of the one before."""

PROMOTING = ("asha", "hyperband")
"""Values of `study.pruner` with which trials pause at rungs."""

T = TypeVar("T")


def rung_share(rung: int, rungs: int) -> float:
    """Return the share of a run's tokens at which a rung is; rung number `rungs` is the end.

    >>> rung_share(1, 3) == 1 / 9
    True
    """
    return float(REDUCTION_FACTOR) ** (rung - rungs)


def first_rung(pruner: str, index: int, rungs: int) -> int:
    """Return the rung to which the point number `index` of a study first trains.

    >>> [first_rung("hyperband", index, 1) for index in range(7)]
    [0, 0, 0, 1, 1, 0, 0]
    """
    if pruner != "hyperband":
        return 0
    sizes = bracket_sizes(rungs)
    index %= sum(sizes)
    return next(rung for rung in range(len(sizes)) if index < sum(sizes[: rung + 1]))


def bracket_sizes(rungs: int) -> list[int]:
    """Return the number of points of each bracket of Hyperband, by the rung that it begins with.

    >>> bracket_sizes(3)
    [27, 12, 6, 4]
    """
    following = range(rungs, -1, -1)  # number of rungs that follow the first one, with the end
    return [math.ceil((rungs + 1) / (later + 1) * REDUCTION_FACTOR**later) for later in following]


def expected_work(pruner: str, count: int, rungs: int) -> float:
    """Return about how many whole runs the trainings of a study amount to.

    Args:
        pruner: asha or hyperband.
        count: number of points.
        rungs: number of rungs.

    >>> expected_work("asha", 27, 2) == 27 / 9 + 9 * (1 / 3 - 1 / 9) + 3 * (1 - 1 / 3)
    True
    """
    groups = [(0, count)]
    if pruner == "hyperband":
        groups = [(first, len(members)) for first, members, _ in _brackets(range(count), rungs)]
    work = 0.0
    for first, kept in groups:
        work += kept * rung_share(first, rungs)
        for rung in range(first, rungs):
            kept = max(1, kept // REDUCTION_FACTOR)
            work += kept * (rung_share(rung + 1, rungs) - rung_share(rung, rungs))
    return work


def next_promotion(
    pruner: str, points: Sequence[Point], rungs: int, *, maximise: bool, limit: int | None
) -> Point | None:
    """Return the point that goes on from its rung next, or None if none does now.

    Args:
        pruner: asha or hyperband.
        points: the points in the order in which they were begun.
        rungs: number of rungs.
        maximise: whether a higher score is better.
        limit: number of points that the study is to have, if it has a limit.
    """
    all_begun = limit is not None and len(points) >= limit
    if pruner == "asha":
        return _promote_asynchronously(points, rungs, maximise, all_begun)
    for first, members, size in _brackets(points, rungs):
        found = _promote_bracket(members, first, rungs, maximise, begun=len(members) == size or all_begun)
        if found is not None:
            return found
    return None


def _promote_asynchronously(points: Sequence[Point], rungs: int, maximise: bool, all_begun: bool) -> Point | None:
    for rung in range(rungs - 1, -1, -1):
        ranked = _ranked(points, rung, maximise)
        for point in ranked[: len(ranked) // REDUCTION_FACTOR]:
            if point.rung == rung and not point.is_out:
                return point
    alive = [point for point in points if not point.is_out]
    ends = any(point.rung == rungs or point.is_complete for point in alive)
    if not all_begun or ends or any(point.score_at(point.rung) is None for point in alive):
        return None
    # A study of few points would end without one that was trained to the end.
    highest = max((point.rung for point in alive), default=0)
    return next((point for point in _ranked(alive, highest, maximise) if point.rung == highest), None)


def _brackets(points: Sequence[T], rungs: int) -> Iterable[tuple[int, Sequence[T], int]]:
    """Yield the first rung, the points and the full size of each bracket that has begun."""
    begin = 0
    while begin < len(points):
        for first, size in enumerate(bracket_sizes(rungs)):
            if members := points[begin : begin + size]:
                yield first, members, size
            begin += size


def _promote_bracket(members: Sequence[Point], first: int, rungs: int, maximise: bool, begun: bool) -> Point | None:
    if not begun:
        return None
    kept = len(members)
    for rung in range(first, rungs):
        if any(p.rung == rung and not p.is_out and not p.is_complete and p.score_at(rung) is None for p in members):
            return None  # one is still on its way to this rung
        kept = max(1, kept // REDUCTION_FACTOR)
        for point in _ranked(members, rung, maximise)[:kept]:
            if point.rung == rung and not point.is_out:
                return point
    return None


def _ranked(points: Iterable[Point], rung: int, maximise: bool) -> list[Point]:
    """Return the points that came to a rung, the best first."""
    scored = [(score, point) for point in points if (score := point.score_at(rung)) is not None]
    scored.sort(key=lambda pair: (-pair[0] if maximise else pair[0], pair[1].number))
    return [point for _, point in scored]
