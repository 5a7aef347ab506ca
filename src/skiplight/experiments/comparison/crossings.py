"""Where the curve of the variant that ends best passes those of the others."""

from __future__ import annotations

import math

import numpy as np

from skiplight.experiments.comparison.curves import Curve


def crossing(leader: Curve, other: Curve, axis: str, *, maximised: bool) -> float | None:
    """Return from where on a curve is better than another one, interpolated between its evaluations.

    Beyond its last evaluation, where its training has ended, the other curve keeps its last value.

    Args:
        leader: the curve that ends better.
        other: the other curve.
        axis: a name of `AXES`.
        maximised: whether a higher metric is better.

    Returns:
        The place on the axis; None if the leader is ahead from its first evaluation on; infinity if it is not ahead at
        its last one.
    """
    sign = 1.0 if maximised else -1.0
    own, others = (np.log(np.maximum(getattr(curve, axis), 1e-12)) for curve in (leader, other))
    places = np.unique(np.concatenate((own, others[(others > own[0]) & (others < own[-1])])))
    ahead = sign * (np.interp(places, own, leader.mean) - np.interp(places, others, other.mean))
    ahead[places < others[0]] = math.inf  # the other one has not been evaluated yet
    behind = np.flatnonzero(ahead < 0)
    if not len(behind):
        return None
    last = behind[-1]
    if last == len(places) - 1:
        return math.inf
    before, after = -ahead[last], ahead[last + 1]
    share = before / (before + after) if math.isfinite(after) else 1.0
    return float(math.exp(places[last] + share * (places[last + 1] - places[last])))


def describe_crossings(curves: dict[str, Curve], leader: str, axis: str, unit: str, *, maximised: bool) -> str:
    """Return where a variant passes the others on an axis, in a few words; empty if it is alone."""
    places = {
        variant: crossing(curves[leader], curve, axis, maximised=maximised)
        for variant, curve in curves.items()
        if variant != leader
    }
    passed = [f"{variant} at {format_place(at)}{unit}" for variant, at in places.items() if at and math.isfinite(at)]
    first = [variant for variant, at in places.items() if at is None]
    never = [variant for variant, at in places.items() if at == math.inf]
    parts = [
        f"passes {join_words(passed)}" if passed else "",
        f"is ahead of {join_words(first)} from its first evaluation on" if first else "",
        f"is not ahead of {join_words(never)} at its end" if never else "",
    ]
    return join_words([part for part in parts if part])


def format_place(value: float) -> str:
    """Return a number in two or three digits, with M or G for millions and milliards.

    >>> [format_place(value) for value in (0.634, 15.32, 158e6, 1.26e11)]
    ['0.63', '15', '158 M', '126 G']
    """
    size, unit = next(((size, unit) for size, unit in ((1e9, " G"), (1e6, " M")) if value >= size), (1.0, ""))
    scaled = value / size
    digits = max(0, 1 - math.floor(math.log10(scaled))) if scaled > 0 else 0
    return f"{scaled:,.{digits}f}{unit}"


def join_words(words: list[str]) -> str:
    """Return words as a list in a sentence.

    >>> join_words(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
