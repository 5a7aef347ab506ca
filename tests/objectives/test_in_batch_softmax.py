"""In-batch softmax is what its formula says, and tends to the full softmax."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skiplight.objectives import FullSoftmax, InBatchSoftmax
from skiplight.objectives.base import Objective, Tables
from skiplight.sampling.batches import TokenBlock, Windows
from skiplight.sampling.windows import WindowSampler

COUNTS = np.array([30, 20, 10, 5, 5])


def some_tables(words: int, dim: int, seed: int) -> Tables:
    tables = Tables(words, dim, sparse=False, bias=torch.zeros(words)).double()
    with torch.no_grad():
        for table in tables.parameters():
            table.normal_(0, 0.7, generator=torch.Generator().manual_seed(seed))
    return tables


def naive_loss(tables: Tables, windows: Windows, q: np.ndarray, group: int) -> torch.Tensor:
    """The formula of the module, pair by pair and candidate by candidate."""
    assert tables.bias is not None
    n, total = len(windows.target), torch.zeros((), dtype=torch.float64)
    groups = math.ceil(n / group)
    for w in range(n):
        o = int(windows.target[w])
        negatives = [
            int(windows.target[other])
            for other in range(n)
            if other % groups == w % groups and int(windows.target[other]) != o
        ]
        for pair in range(int(windows.offsets[w]), int(windows.offsets[w + 1])):
            scores = tables.scores(windows.inputs[pair : pair + 1])[0]
            denominator = scores[o].exp()
            for k in negatives:
                denominator = denominator + scores[k].exp() * (1 - q[o]) / (len(negatives) * q[k])
            total = total + denominator.log() - scores[o]
    return total


@given(st.lists(st.lists(st.integers(0, 4), min_size=2, max_size=9), min_size=1, max_size=5), st.integers(2, 40))
def test_loss_and_gradients_are_those_of_the_formula(documents: list[list[int]], group: int) -> None:
    sampler = WindowSampler(COUNTS, window=3, subsample=0, negatives=0, seed=group)
    for input in ("context", "centre"):
        sampler.input = input  # type: ignore[assignment]
        windows = sampler(TokenBlock.of(documents))
        objective = InBatchSoftmax.build(COUNTS, sampler, group=group).double()
        q = COUNTS / COUNTS.sum()
        tables, reference = some_tables(5, 3, 0), some_tables(5, 3, 0)
        loss, expected = objective.loss(tables, windows), naive_loss(reference, windows, q, group)
        torch.testing.assert_close(loss.sum, expected, rtol=1e-6, atol=1e-6)
        assert loss.pairs == windows.pairs
        if expected.requires_grad:
            loss.sum.backward()
            expected.backward()
            for table, other in zip(tables.parameters(), reference.parameters(), strict=True):
                torch.testing.assert_close(table.grad, other.grad, rtol=1e-5, atol=1e-6)


CONDITIONAL = np.array([[0.55, 0.2, 0.15, 0.1], [0.1, 0.15, 0.25, 0.5]])
"""p(o|i) of two input words."""


def gradient(objective: Objective, inputs: np.ndarray, targets: np.ndarray) -> torch.Tensor:
    """The gradient of the mean loss of windows of one pair each, by the output vectors and the bias."""
    tables = some_tables(4, 2, 3)
    windows = Windows(
        torch.from_numpy(inputs).int(), torch.arange(len(inputs) + 1), torch.from_numpy(targets).int(),
        torch.empty(len(inputs), 0, dtype=torch.int32), torch.empty(len(inputs), 0, dtype=torch.bool),
        TokenBlock.of([]),
    )  # fmt: skip
    (objective.double().loss(tables, windows).sum / len(inputs)).backward()
    assert tables.bias is not None
    return torch.cat([tables.output.weight.grad, tables.bias.weight.grad], dim=1)  # type: ignore[list-item]


def test_large_groups_tend_to_the_full_softmax_and_the_correction_is_needed() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 2, 40_000)
    targets = np.array([rng.choice(4, len(inputs), p=p) for p in CONDITIONAL])[inputs, np.arange(len(inputs))]
    full = gradient(FullSoftmax(), inputs, targets)
    q = CONDITIONAL.mean(0)

    def error(group: int, q: np.ndarray) -> float:
        return float((gradient(InBatchSoftmax(q, group), inputs, targets) - full).abs().max())

    errors = [error(group, q) for group in (2, 8, 32)]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[2] < 0.003
    assert error(512, np.full(4, 0.25)) > 0.02  # targets counted as if they were drawn uniformly


def test_targets_of_a_group_come_from_all_of_the_block() -> None:
    groups = InBatchSoftmax(np.full(4, 0.25), group=10).groups(1003, torch.device("cpu"))
    there = groups[groups < 1003]
    assert there.sort().values.tolist() == list(range(1003))
    assert groups.shape[1] <= 10
    assert int(groups.diff(dim=1).min()) >= 100


def test_an_option_out_of_range_is_refused() -> None:
    from skiplight.config.compose import compose
    from skiplight.errors import ConfigError

    assert compose(["objective=in_batch_softmax", "objective.group=64"]).objective.group == 64  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"`objective.group=1` is out of range"):
        compose(["objective=in_batch_softmax", "objective.group=1"])
