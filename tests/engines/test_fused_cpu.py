"""The fused CPU engine moves the tables as the reference does, and as often as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skiplight.engines.fused_cpu import FusedCpuEngine
from skiplight.engines.in_flight import in_flight_gradients, step_scale
from skiplight.objectives.base import Tables
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.windows import WindowSampler
from tests.support.reference import one_window_a_step

COUNTS = np.array([500, 200, 100, 50, 20, 10, 5, 2])
SPECIALISATIONS = [(20, 5, "window"), (37, 12, "window"), (20, 5, "pair")]
"""Dimension, K and sharing that the tests train with."""


def some_tables(dim: int, seed: int = 0) -> Tables:
    """Tables with scores of some size, positive and negative."""
    tables = Tables(len(COUNTS), dim)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for table in (tables.input, tables.output):
            table.weight.normal_(0, dim**-0.25, generator=generator)
    return tables


def a_sampler(negatives: int = 5, shared: str = "window", **options) -> WindowSampler:
    return WindowSampler(COUNTS, negatives=negatives, shared=shared, **{"subsample": 0, **options})  # type: ignore[arg-type]


def fused(tables: Tables, sampler: WindowSampler, threads: int = 1, workers: int | None = None) -> FusedCpuEngine:
    objective = NegativeSampling(sampler.noise.probabilities)
    return FusedCpuEngine(objective, tables, torch.optim.SGD(tables.parameters(), lr=1), sampler, threads, workers)


def assert_equal(tables: Tables, expected: Tables) -> None:
    for got, want in zip(tables.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


OPTIONS = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**32 - 1),
        "window": st.integers(1, 7),
        "subsample": st.sampled_from([0, 1e-1, 1e-2]),
        "exponent": st.sampled_from([-1.0, 0.0, 0.75]),
        "exclude": st.sampled_from(["none", "target", "window"]),
    }
)
TEXTS = st.lists(st.lists(st.integers(0, 7), max_size=50), min_size=1, max_size=4)


@settings(max_examples=40)
@given(
    special=st.sampled_from(SPECIALISATIONS),
    options=OPTIONS,
    texts=TEXTS,
    epoch=st.integers(0, 2**32 - 1),
    lr=st.floats(1e-3, 0.05),
)
def test_tables_are_those_of_the_reference(special, options, texts, epoch, lr) -> None:
    dim, negatives, shared = special
    sampler = a_sampler(negatives, shared, **options)
    block = TokenBlock.of(texts, epoch)
    block.start += 12345
    windows = sampler(block)
    tables, expected = some_tables(dim), some_tables(dim)
    loss, pairs = one_window_a_step(expected, windows, [lr] * len(windows.target))
    result = fused(tables, sampler).step(block, lr, lr)
    assert_equal(tables, expected)
    assert result.pairs == pairs
    assert result.loss_sum == pytest.approx(loss, rel=1e-5)
    assert result.loss is None


@settings(max_examples=40)
@given(
    special=st.sampled_from(SPECIALISATIONS),
    options=OPTIONS,
    texts=TEXTS,
    workers=st.integers(2, 300),
    lr=st.floats(1e-3, 0.05),
)
def test_rows_that_other_workers_move_too_take_shorter_steps(special, options, texts, workers, lr) -> None:
    dim, negatives, shared = special
    sampler = a_sampler(negatives, shared, **options)
    block, in_flight = TokenBlock.of(texts), in_flight_gradients(sampler, resident=True)
    windows = sampler(block)
    tables, expected = some_tables(dim), some_tables(dim)

    def scales(rate: float) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, outputs = (torch.from_numpy(step_scale(rate, workers - 1, rows)).float() for rows in in_flight)
        return inputs, outputs

    loss, pairs = one_window_a_step(expected, windows, [lr] * len(windows.target), scales)
    engine = fused(tables, sampler, workers=workers)
    result = engine.step(block, lr, lr)
    assert_equal(tables, expected)
    assert result.pairs == pairs
    assert result.loss_sum == pytest.approx(loss, rel=1e-5)


def test_as_many_workers_as_threads_or_more() -> None:
    assert fused(some_tables(20), a_sampler(), threads=2).workers == 2
    with pytest.raises(ValueError, match="2 workers of this engine are not among 1 workers"):
        fused(some_tables(20), a_sampler(), threads=2, workers=1)


def test_what_shortened_steps_leave_out_is_summed_over_steps() -> None:
    block = TokenBlock.of([[0, 1, 2, 3, 4, 5, 6, 7] * 20])
    engine = fused(some_tables(20), a_sampler(), workers=30)
    engine.step(block, 0.05, 0.03)
    engine.step(block, 0.03, 0.01)
    for table in ("input", "output"):
        steps = [engine.scales.shortened(160, rate)[table] for rate in (0.04, 0.02)]
        share = sum(left_out for _, left_out, _ in steps) / sum(gradients for gradients, _, _ in steps)
        assert engine.shortening.shares()[table] == {
            "share": pytest.approx(share),
            "rows": max(rows for *_, rows in steps),
        }
    assert 0 < engine.shortening.shares()["input"]["share"] < 1
    alone = fused(some_tables(20), a_sampler())
    alone.step(block, 0.05, 0.03)
    assert alone.shortening.shares() == {table: {"share": 0.0, "rows": 0} for table in ("input", "output")}


def test_the_rate_falls_token_by_token() -> None:
    sampler = a_sampler(window=2)
    block = TokenBlock.of([[3, 1, 2], [5, 0, 1, 2, 4]])
    tables, expected = some_tables(20), some_tables(20)
    lrs = np.linspace(0.08, 0.0, 8, endpoint=False).tolist()
    one_window_a_step(expected, sampler(block), lrs)
    fused(tables, sampler).step(block, 0.08, 0.0)
    assert_equal(tables, expected)


def test_segments_far_longer_than_a_stores_are_taken() -> None:
    sampler = a_sampler(window=1, subsample=0.01)
    block = TokenBlock.of([np.random.default_rng(0).choice(8, 5000).tolist()])
    assert fused(some_tables(20), sampler).step(block, 1e-3, 1e-3).pairs == sampler(block).pairs


def test_one_thread_repeats_bit_for_bit() -> None:
    sampler, block = a_sampler(), TokenBlock.of([[0, 1, 2, 3, 4, 5, 6, 7] * 20] * 5)
    runs = []
    for _ in range(2):
        tables = some_tables(20)
        runs.append((fused(tables, sampler).step(block, 0.025, 0.02), *tables.parameters()))
    assert runs[0][0] == runs[1][0]
    assert all(torch.equal(a, b) for a, b in zip(runs[0][1:], runs[1][1:], strict=True))


@pytest.mark.parametrize("threads", [2, 3, 40])
def test_threads_share_a_block_out_and_nothing_is_left(threads: int) -> None:
    sampler, block = a_sampler(), TokenBlock.of([[0, 1, 2, 3, 4, 5, 6, 7] * n for n in (9, 1, 0, 30, 5, 2)])
    # At a rate of zero the order of updates, which threads leave open, cannot matter: sums are equal but for rounding.
    tables = some_tables(20)
    alone = fused(some_tables(20), sampler).step(block, 0.0, 0.0)
    together = fused(tables, sampler, threads).step(block, 0.0, 0.0)
    assert together.pairs == alone.pairs
    assert together.loss_sum == pytest.approx(alone.loss_sum, rel=1e-7)
    for got, want in zip(tables.parameters(), some_tables(20).parameters(), strict=True):
        assert torch.equal(got, want)


@pytest.mark.parametrize("score", [-200.0, -60.0, -9.0, -6.0, -1.0, 0.0, 0.3, 7.0, 30.0, 200.0])
def test_sigmoid_and_loss_are_exact_and_do_not_saturate(score: float) -> None:
    # Words 0 and 1 predict each other, and no noise may be drawn: row v_1 moves by σ(-score)·u_0 only, and its second
    # number is zero before, so that it shows the sigmoid unrounded.
    sampler = WindowSampler(np.array([1, 1]), window=1, subsample=0, negatives=5, exclude="window")
    tables = Tables(2, 20)
    with torch.no_grad():
        tables.input.weight.zero_()
        tables.input.weight[1, 0] = score
        tables.output.weight[0, :2] = 1.0
    result = fused(tables, sampler).step(TokenBlock.of([[0, 1]]), 1.0, 1.0)
    sigmoid = math.exp(-max(score, 0.0)) / (1 + math.exp(-abs(score)))
    if score < 80:
        assert float(tables.input.weight[1, 1].detach()) == pytest.approx(sigmoid, rel=1e-5)
    assert abs(float(tables.input.weight[1, 1].detach()) - sigmoid) < 1e-6
    softplus = max(-score, 0.0) + math.log1p(math.exp(-abs(score)))
    assert result.loss_sum == pytest.approx(softplus + math.log(2), rel=1e-6)


def test_not_a_number_is_seen() -> None:
    tables = some_tables(20)
    with torch.no_grad():
        tables.input.weight[1, 3] = math.nan
    assert math.isnan(float(fused(tables, a_sampler()).step(TokenBlock.of([[0, 1, 2]]), 0.1, 0.1).loss_sum))


def test_empty_blocks_do_nothing() -> None:
    tables, expected = some_tables(20), some_tables(20)
    engine = fused(tables, a_sampler(), threads=2)
    for texts in ([], [[]], [[1]], [[], [2], []]):
        result = engine.step(TokenBlock.of(texts), 0.1, 0.1)
        assert (result.loss_sum, result.pairs) == (0, 0)
    for got, want in zip(tables.parameters(), expected.parameters(), strict=True):
        assert torch.equal(got, want)
