"""What every objective must be: differentiable as finite differences say, normalised, the same sparse and dense."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skiplight.objectives import make_objective
from skiplight.objectives.base import Objective, Tables
from skiplight.registry import OBJECTIVES
from skiplight.sampling.batches import TokenBlock, Windows
from skiplight.sampling.windows import WindowSampler
from tests.support.reference import log_prob_of

COUNTS = np.array([30, 20, 10, 5, 5])
CASES = [
    (name, shared, bias)
    for name in OBJECTIVES
    for shared in ("window", "pair")
    for bias in (False, True)
    if shared == "window" or OBJECTIVES[name].target.needs_noise
]
BLOCK = TokenBlock.of([[0, 1, 2, 0, 4, 3, 1], [2, 2, 1]])


def some_case(name: str, shared: str, exclude: str = "window", **options) -> tuple[Objective, Windows]:
    sampler = WindowSampler(
        COUNTS, window=3, subsample=0, negatives=3, shared=shared, exclude=exclude, seed=4, **options
    )  # type: ignore[arg-type]
    return make_objective(name, COUNTS, sampler), sampler(BLOCK)


def some_tables(objective: Objective, bias: bool, dim: int = 3, sparse: bool = False) -> Tables:
    start = objective.unigram_bias(COUNTS) if bias else None
    tables = Tables(5, dim, objective.output_rows(5), sparse=sparse, bias=start)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in tables.parameters():
            parameter.normal_(generator=generator)
    return tables


@pytest.mark.parametrize(("name", "shared", "bias"), CASES)
def test_the_gradient_is_that_of_finite_differences(name: str, shared: str, bias: bool) -> None:
    objective, windows = some_case(name, shared)
    objective, tables = objective.double(), some_tables(objective, bias).double()
    names, parameters = zip(*tables.named_parameters(prefix="tables"), strict=True)

    def loss(*values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(_Scored(tables, objective), dict(zip(names, values, strict=True)), (windows,))

    assert torch.autograd.gradcheck(loss, parameters)


class _Scored(torch.nn.Module):
    def __init__(self, tables: Tables, objective: Objective) -> None:
        super().__init__()
        self.tables, self.objective = tables, objective

    def forward(self, windows) -> torch.Tensor:
        return self.objective.loss(self.tables, windows).sum


@pytest.mark.parametrize(("name", "shared", "bias"), CASES)
def test_sparse_and_dense_gradients_agree(name: str, shared: str, bias: bool) -> None:
    objective, windows = some_case(name, shared)
    gradients = []
    for sparse in (True, False):
        tables = some_tables(objective, bias, sparse=sparse)
        objective.loss(tables, windows).sum.backward()
        gradients.append([p.grad.to_dense() if p.grad.is_sparse else p.grad for p in tables.parameters()])
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_log_prob_is_normalised_and_the_loss_is_of_the_windows_alone(name: str) -> None:
    objective, windows = some_case(name, "window")
    tables = some_tables(objective, True)
    log_prob = log_prob_of(objective, tables, torch.arange(5))
    assert log_prob.shape == (5, 5)
    torch.testing.assert_close(log_prob.exp().sum(1), torch.ones(5))
    loss = objective.loss(tables, windows)
    assert loss.pairs == windows.pairs
    assert loss.sum.dtype == torch.float64


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_unigram_bias_alone_predicts_the_unigram_distribution(name: str) -> None:
    objective, _ = some_case(name, "window")
    tables = Tables(5, 3, objective.output_rows(5), bias=objective.unigram_bias(COUNTS))
    if name == "negative_sampling":  # whose scores are corrected by P_n, the bias on top of it
        objective.log_noise.zero_()  # type: ignore[operator]
    log_prob = log_prob_of(objective, tables, torch.arange(5))
    torch.testing.assert_close(log_prob.exp(), torch.from_numpy(COUNTS / COUNTS.sum()).float().expand(5, 5))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_empty_block_has_no_loss(name: str) -> None:
    sampler = WindowSampler(COUNTS)
    objective = make_objective(name, COUNTS, sampler)
    loss = objective.loss(some_tables(objective, False), sampler(TokenBlock.of([])))
    assert (float(loss.sum), loss.pairs) == (0, 0)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_is_not_rounded_in_mixed_precision(name: str) -> None:
    objective, windows = some_case(name, "window")
    tables = some_tables(objective, False, dim=8)
    exact = objective.loss(tables, windows).sum
    with torch.autocast("cpu", torch.bfloat16):
        mixed = objective.loss(tables, windows).sum
        mixed.backward()
    assert exact.dtype == mixed.dtype == torch.float64
    assert float(mixed) == pytest.approx(float(exact), rel=4e-3)
    assert tables.output.weight.grad is not None
    assert tables.output.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("shared", ["window", "pair"])
def test_gradients_counts_the_rows_that_move(name: str, shared: str) -> None:
    objective, windows = some_case(name, shared)
    tables = some_tables(objective, False)
    objective.loss(tables, windows).sum.backward()
    inputs, outputs = objective.gradients(tables, windows)
    assert (inputs > 0).tolist() == tables.input.weight.grad.any(1).tolist()
    if not objective.dense:
        assert (outputs > 0).tolist() == tables.output.weight.grad.any(1).tolist()


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if not OBJECTIVES[name].target.couples_windows])
def test_windows_read_the_other_way_round_are_the_same_pairs_with_sides_exchanged(name: str) -> None:
    objective, windows = some_case(name, "pair")
    turned = windows.center_as_input()
    pairs = sorted(zip(windows.inputs.tolist(), windows.target[windows.window_of_pair()].tolist(), strict=True))
    assert sorted(zip(turned.target.tolist(), turned.inputs.tolist(), strict=True)) == pairs
    tables = some_tables(objective, False)
    by_hand = 0.0
    for p in range(turned.pairs):
        one = Windows(
            turned.inputs[p : p + 1], torch.tensor([0, 1]), turned.target[p : p + 1], turned.negatives[p : p + 1],
            turned.mask[p : p + 1], turned.block,
        )  # fmt: skip
        by_hand += float(objective.loss(tables, one).sum.detach())
    assert float(objective.loss(tables, turned).sum.detach()) == pytest.approx(by_hand, rel=1e-5)


def test_no_negative_is_the_target_of_its_pair_however_windows_are_read() -> None:
    for exclude in ("target", "window"):
        _, windows = some_case("negative_sampling", "window", exclude, input="centre")
        assert not (windows.mask & (windows.negatives == windows.target[:, None])).any()
    _, windows = some_case("negative_sampling", "window", "none", input="centre")
    assert windows.mask.all()
