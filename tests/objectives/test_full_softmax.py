"""Full softmax equals the formula, one row of logits a pair, whatever the chunks."""

from __future__ import annotations

import pytest
import torch

from skiplight.objectives.base import Tables
from skiplight.objectives.full_softmax import FullSoftmax
from skiplight.sampling.batches import Windows
from tests.objectives.test_objectives import some_case, some_tables


def by_the_formula(tables: Tables, windows: Windows) -> torch.Tensor:
    log_prob = torch.log_softmax(tables.scores(windows.inputs), 1)
    return -log_prob[torch.arange(windows.pairs), windows.target[windows.window_of_pair()].long()].sum()


@pytest.mark.parametrize("chunk", [1, 2, 3, None])
@pytest.mark.parametrize("bias", [False, True])
def test_the_loss_and_its_gradient_are_the_formulas(chunk: int | None, bias: bool) -> None:
    objective, windows = some_case("full_softmax", "window")
    objective.chunk = chunk  # type: ignore[assignment]
    tables = some_tables(objective, bias)
    expected = by_the_formula(tables, windows)
    expected.backward()
    wanted = [p.grad.clone() for p in tables.parameters()]
    tables.zero_grad()
    loss = objective.loss(tables, windows).sum
    (2 * loss).backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    for parameter, gradient in zip(tables.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, 2 * gradient, atol=1e-5, rtol=1e-5)


def test_scores_of_any_size_have_a_loss() -> None:
    objective, windows = some_case("full_softmax", "window")
    tables = some_tables(objective, True)
    with torch.no_grad():
        for parameter in tables.parameters():
            parameter.mul_(30)
    loss = objective.loss(tables, windows).sum
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(by_the_formula(tables, windows).detach()), rel=1e-6)
    assert all(torch.isfinite(p.grad).all() for p in tables.parameters())


def test_a_bias_that_does_not_learn_has_no_gradient() -> None:
    objective = FullSoftmax()
    _, windows = some_case("full_softmax", "window")
    tables = Tables(5, 3, bias=torch.zeros(5), train_bias=False)
    objective.loss(tables, windows).sum.backward()
    assert tables.bias is not None
    assert tables.bias.weight.grad is None
    assert tables.output.weight.grad is not None
    with torch.no_grad():
        assert not objective.loss(tables, windows).sum.requires_grad
