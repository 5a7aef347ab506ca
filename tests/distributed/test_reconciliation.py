"""The rule by which replicas become one is as derived, and stable; rows are due when they should be."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skiplight.distributed.curvature import Curvature, Sample
from skiplight.distributed.reconciliation import TOLERANCE, Reconciler, combine_changes, sum_scale
from skiplight.distributed.schedule import bytes_per_row
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.windows import WindowSampler
from tests.support.texts import prepared, write_texts

REPLICAS = st.integers(2, 256)


@given(st.floats(0, 1e6), REPLICAS)
def test_what_replicas_add_counts_for_at_least_its_mean_and_at_most_its_sum(x: float, replicas: int) -> None:
    scale, more = sum_scale(torch.tensor([x, x * 1.1], dtype=torch.float64), replicas).tolist()
    assert 1 / replicas - 1e-9 <= more <= scale + 1e-9 <= 1 + 2e-9


@given(st.floats(1e-5, 1e4), st.floats(1e-5, 1e4), REPLICAS)
def test_an_exchange_overshoots_no_more_than_the_curvature_is_underestimated(
    true: float, estimate: float, replicas: int
) -> None:
    gone = float(sum_scale(torch.tensor([estimate], dtype=torch.float64), replicas)) * replicas * -math.expm1(-true)
    assert gone <= max(1, true / estimate) * (1 + 1e-9)


def curvature_of(values: torch.Tensor, directions: torch.Tensor) -> Curvature:
    curvature = Curvature(len(directions))
    curvature.values, curvature.directions = values, directions
    return curvature


@given(st.integers(0, 2**31), st.integers(1, 200), st.integers(2, 64), st.floats(1e-4, 0.05))
def test_replicas_end_where_one_after_the_other_would_have(seed: int, n: int, replicas: int, lr: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    dim = 6
    directions = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0]
    values = torch.rand(dim, generator=generator, dtype=torch.float64).sort(descending=True).values
    hessian = directions @ values.diag() @ directions.T
    begin, optimum = torch.randn(2, dim, generator=generator, dtype=torch.float64)

    def after(steps: float) -> torch.Tensor:
        return optimum + torch.matrix_exp(-lr * steps * hessian) @ (begin - optimum)

    summed = replicas * (after(n) - begin)
    change = combine_changes(
        summed[None], torch.tensor([lr * n], dtype=torch.float64), curvature_of(values, directions), replicas
    )
    torch.testing.assert_close(begin + change[0], after(n * replicas), rtol=1e-6, atol=1e-4)


def test_directions_without_a_curvature_of_their_own_count_as_the_least_of_those_that_have() -> None:
    curvature = curvature_of(torch.tensor([4.0, 1.0]), torch.eye(5)[:, :2])
    change = combine_changes(torch.ones(1, 5), torch.tensor([0.5]), curvature, 8)
    expected = sum_scale(torch.tensor([2.0, 0.5, 0.5, 0.5, 0.5]), 8)
    torch.testing.assert_close(change[0], expected)


def test_tables_of_zeros_have_no_curvature_and_their_changes_are_summed() -> None:
    curvature = Curvature(4)
    curvature.measure(torch.zeros(9, 4), torch.zeros(9))
    assert curvature.values.tolist() == [0.0] * 4
    torch.testing.assert_close(combine_changes(torch.ones(2, 4), torch.ones(2), curvature, 8), torch.ones(2, 4))


def a_reconciler(counts: np.ndarray, **given: Any) -> Reconciler:
    sampler = WindowSampler(counts, **{name: given.pop(name) for name in ("subsample", "exponent") if name in given})
    text = np.random.default_rng(0).choice(len(counts), 5000, p=counts / counts.sum()).tolist()
    return Reconciler(sampler, Sample.draw(sampler, [TokenBlock.of([text])]), **given)


def test_an_exchange_after_which_the_loss_would_rise_is_made_with_caution() -> None:
    counts = np.full(50, 100)
    reconciler = a_reconciler(counts, subsample=0, dim=4, replicas=32, step_tokens=1000, bytes_per_token=1e3)
    generator = torch.Generator().manual_seed(0)
    # Vectors of large scores, where the logistic function is flat: by the curvature alone changes would be summed.
    bases = [50 * torch.randn(len(rows), 4, generator=generator) for rows in reconciler.rows]
    summed = [-0.5 * 32 * base for base in bases]  # all replicas agree that they should be half as long
    reconciler.consumed(1000, 0.01)
    reconciler.measure(bases, summed, (50, 50))
    assert reconciler.caution > 1

    def loss(tables: list[torch.Tensor]) -> float:
        return float(reconciler._loss(reconciler._scored(tables)[2]))

    mean = loss([base + change / 32 for base, change in zip(bases, summed, strict=True)])
    after = loss(
        [
            base + reconciler.combine(table, change, reconciler.travel(table, rows))
            for table, (base, change, rows) in enumerate(zip(bases, summed, reconciler.rows, strict=True))
        ]
    )
    assert after <= TOLERANCE * mean


@pytest.mark.parametrize("exponent", [-0.5, 0.75])
@pytest.mark.parametrize("replicas", [2, 64])
def test_the_schedule_sends_what_may_be_sent(replicas: int, exponent: float) -> None:
    counts = (1e6 / np.arange(1, 3001)).astype(np.int64)
    reconciler = a_reconciler(
        counts, subsample=1e-3, exponent=exponent, dim=16, replicas=replicas, step_tokens=20_000, bytes_per_token=10
    )
    steps = 64 * reconciler.full
    sent = sum(sum(reconciler.due(step, 1 - step / steps)) for step in range(1, steps + 1))
    assert sent * bytes_per_row(16, replicas) / (steps * 20_000) == pytest.approx(10, rel=0.1)


def test_all_rows_are_exchanged_now_and_then_however_little_may_be_sent() -> None:
    reconciler = a_reconciler(
        np.full(1000, 50), subsample=0, dim=16, replicas=2, step_tokens=1000, bytes_per_token=1e-3
    )
    assert reconciler.due(reconciler.full, 1.0) == (1000, 1000)
    assert reconciler.full >= 2 * 1000 * bytes_per_row(16, 2) / (1e-3 * 1000)


@pytest.fixture(scope="module")
def emulator():
    path = Path(__file__).parents[2] / "scripts" / "benchmarks" / "emulate_ranks.py"
    spec = importlib.util.spec_from_file_location("emulate_ranks", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("setting", [{}, {"lr": 0.05, "subsample": 0.0, "negatives": 15, "window": 10}])
def test_any_number_of_replicas_trains_what_one_does(emulator, setting: dict, tmp_path: Path) -> None:
    text = prepared(write_texts(tmp_path / "texts", files=4, documents=100, words=1000), tmp_path, heldout=0)
    given = {"dim": 16, "subsample": 1e-2, "negatives": 5, "window": 5} | setting
    results = {ranks: emulator.emulate(text, ranks, lambda vectors: {}, **given) for ranks in (1, 4, 8, 32)}
    for ranks, result in results.items():
        assert not result["diverged"]
        assert result["final_loss"] < 1.05 * results[1]["final_loss"]
        assert (result["bytes_per_token"] > 0) == (ranks > 1)
