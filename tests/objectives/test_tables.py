"""The tables that objectives score with."""

from __future__ import annotations

import torch

from skiplight.objectives.base import Tables


def test_tables_begin_as_word2vecs() -> None:
    tables = Tables(1000, 50, seed=3)
    assert not tables.output.weight.any()
    assert 0.0099 < float(tables.input.weight.abs().max()) <= 0.01
    torch.testing.assert_close(tables.input.weight, Tables(1000, 50, seed=3).input.weight)
    assert not torch.equal(tables.input.weight, Tables(1000, 50, seed=4).input.weight)


def test_a_bias_starts_where_it_is_told_and_learns_if_it_may() -> None:
    start = torch.tensor([0.5, -1.0, 2.0])
    tables = Tables(3, 4, bias=start)
    assert tables.bias is not None
    assert tables.bias.weight.requires_grad
    torch.testing.assert_close(tables.scores(torch.tensor([1, 2])), start.expand(2, 3))
    fixed = Tables(3, 4, bias=start, train_bias=False)
    assert [name for name, p in fixed.named_parameters() if p.requires_grad] == ["input.weight", "output.weight"]
