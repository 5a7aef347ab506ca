"""The lead of the best variant in findings: the difference and its interval, whether the metric is to rise or fall."""

from __future__ import annotations

import pytest

from skiplight.experiments.comparison.curves import Curve, _average_curve
from skiplight.experiments.comparison.findings import PERPLEXITY, _describe_lead


def test_evaluations_that_one_seed_lacks_are_left_out_of_all() -> None:
    point = {"tokens": 1, "pairs": 2, "seconds": 3.0}
    seeds = [[point | {PERPLEXITY: value} for value in values] for values in ((9.0, 5.0, 4.0), (7.0, 6.0))]
    found = _average_curve(seeds, PERPLEXITY)
    assert (found.mean, found.final) == ([6.0, 5.0], [4.0, 6.0])


def curve(*final: float) -> Curve:
    return Curve([1.0], [1.0], [1.0], [sum(final) / len(final)], [0.0], list(final))


@pytest.mark.parametrize(
    ("metric", "best", "second", "said"),
    [
        (PERPLEXITY, (100, 101, 102), (110, 112, 111), "by 10.0 (Welch's 95 % interval 7.7 to 12.3)"),
        (PERPLEXITY, (100, 120, 110), (111, 121, 131), "by 11.0, which may be chance (Welch's 95 % interval -11.7 to"),
        ("evaluation/x", (0.5, 0.6), (0.1, 0.2), "by 0.400 (Welch's 95 % interval 0.096 to 0.704)"),
    ],
)
def test_the_interval_is_around_the_lead(metric: str, best: tuple, second: tuple, said: str) -> None:
    assert said in _describe_lead({"a": curve(*best), "b": curve(*second)}, "a", "b", metric)
