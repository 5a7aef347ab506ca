"""What findings say of differences between variants, and where one passes another, from given results."""

from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from skiplight.experiments.comparison.crossings import crossing, describe_crossings
from skiplight.experiments.comparison.curves import PERPLEXITY, Curve, average_curve
from skiplight.experiments.comparison.differences import paired_differences
from skiplight.experiments.comparison.leads import describe_leads


def test_evaluations_that_one_seed_lacks_are_left_out_of_all() -> None:
    point = {"tokens": 1, "pairs": 2, "scores": 12, "seconds": 3.0}
    seeds = {n: [point | {PERPLEXITY: v} for v in values] for n, values in enumerate([(9.0, 5.0, 4.0), (20.0, 9.0)])}
    found = average_curve(seeds, PERPLEXITY)
    assert found.mean == pytest.approx([10.0, 6.0])  # of the loss, so 10 = sqrt(5 * 20)
    assert found.final == {0: 4.0, 1: 9.0}
    for mean, low, high in zip(found.mean, found.low, found.high, strict=True):
        assert mean / low == pytest.approx(high / mean)  # the same height on a logarithmic axis
    score = average_curve({0: [point | {"s": 0.1}], 1: [point | {"s": 0.3}]}, "s")
    assert (score.mean[0], score.high[0]) == pytest.approx((0.2, 0.2 + statistics.stdev([0.1, 0.3])))


SEEDS = st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=6)


@given(SEEDS, SEEDS)
def test_two_variants_are_compared_as_by_a_paired_test(left: list[float], right: list[float]) -> None:
    found = paired_differences({"a": dict(enumerate(left)), "b": dict(enumerate(right))})["a", "b"]
    shared = min(len(left), len(right))
    test = stats.ttest_rel(left[:shared], right[:shared])
    low, high = test.confidence_interval(0.95)
    if not math.isnan(low):
        assert (found.low, found.high) == pytest.approx((low, high), rel=1e-6, abs=1e-9)
    assert found.mean == pytest.approx(statistics.fmean(a - b for a, b in zip(left, right, strict=False)), abs=1e-9)


def test_all_intervals_hold_at_once_whatever_the_seeds_have_in_common() -> None:
    # Five equal variants with different noise: at most one comparison in twenty may claim any difference.
    rng, wrong, trials = random.Random(0), 0, 2_000
    for _ in range(trials):
        common = [rng.gauss(0, 3) for _ in range(3)]
        drawn = {v: {s: common[s] + rng.gauss(0, 0.1 * (1 + v)) for s in range(3)} for v in range(5)}
        wrong += any(one.is_certain for one in paired_differences(drawn).values())  # type: ignore[arg-type]
    assert wrong / trials < 0.055


def curve(final: tuple[float, ...], *, places: tuple[float, ...] = (1.0,), values: tuple[float, ...] = ()) -> Curve:
    axis, mean = list(places), list(values or [math.exp(statistics.fmean(map(math.log, final)))])
    return Curve(axis, axis, axis, axis, mean, mean, mean, dict(enumerate(final)))


@pytest.mark.parametrize(
    ("metric", "best", "second", "said"),
    [
        (PERPLEXITY, (100, 101, 102), (110, 112, 111), ", ahead of b by 0.094 [0.071, 0.118] nats"),
        (PERPLEXITY, (100, 120, 110), (111, 121, 131), ", it cannot be told from b (0.096 [-0.112, 0.303])"),
        ("evaluation/x", (0.5, 0.6), (0.1, 0.21), ", ahead of b by 0.395 [0.331, 0.459]"),
        ("evaluation/x", (0.5,), (0.1,), ", ahead of b by 0.400 (one seed only, so this may be chance)"),
    ],
)
def test_a_lead_has_an_interval_of_paired_differences(metric: str, best: tuple, second: tuple, said: str) -> None:
    assert describe_leads({"a": curve(best), "b": curve(second)}, ["a", "b"], metric) == said


def test_a_curve_passes_another_where_they_cross() -> None:
    quick = curve((50.0,), places=(1.0, 2.0, 4.0), values=(90.0, 60.0, 50.0))
    slow = curve((40.0,), places=(2.0, 8.0, 32.0), values=(80.0, 60.0, 40.0))
    # Between its evaluations at 8 and 32, halfway in log x, it reaches the 50 at which the other has ended.
    assert crossing(slow, quick, "seconds", maximised=False) == pytest.approx(16.0)
    assert crossing(slow, curve((30.0,), values=(30.0,)), "seconds", maximised=False) == math.inf
    later = curve((60.0,), places=(4.0, 8.0), values=(70.0, 60.0))
    assert crossing(quick, later, "seconds", maximised=False) is None
    curves = {"quick": quick, "slow": slow, "later": later}
    assert describe_crossings(curves, "slow", "seconds", " s", maximised=False) == (
        "passes quick at 16 s and is ahead of later from its first evaluation on"
    )


@given(st.lists(st.floats(1, 100), min_size=2, max_size=6), st.lists(st.floats(1, 100), min_size=2, max_size=6))
def test_behind_a_crossing_the_leader_is_ahead(ours: list[float], theirs: list[float]) -> None:
    first, second = (
        curve((1.0,), places=tuple(float(2**n) for n in range(len(values))), values=tuple(values))
        for values in (ours, theirs)
    )
    at = crossing(first, second, "pairs", maximised=True)
    ends = (ours[-1], theirs[min(len(ours), len(theirs)) - 1])
    if at is None:
        assert all(a >= b for a, b in zip(ours, theirs, strict=False))
    elif at == math.inf:
        assert ends[0] < ends[1]
    else:
        assert 1 <= at <= 2 ** (len(ours) - 1)
        behind = [n for n, (a, b) in enumerate(zip(ours, [*theirs, *[theirs[-1]] * 6], strict=False)) if a < b]
        assert 2 ** behind[-1] <= at * (1 + 1e-9)
        assert at <= 2 ** (behind[-1] + 1) * (1 + 1e-9)
