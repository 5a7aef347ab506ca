"""Rows of sparse gradients add up to what torch adds up."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from skiplight.engines.sparse_rows import summed_by_row


@given(st.lists(st.integers(0, 9), max_size=60), st.sampled_from([1, 3, 16]))
def test_a_gradient_is_summed_as_by_torch(rows: list[int], width: int) -> None:
    values = torch.randn((len(rows), width), generator=torch.Generator().manual_seed(len(rows)))
    ids = torch.tensor(rows, dtype=torch.int64)[None]
    gradient = torch.sparse_coo_tensor(ids, values, (10, width), check_invariants=True)
    summed, expected = summed_by_row(gradient), gradient.coalesce()
    assert summed.is_coalesced()
    assert summed.indices().tolist() == expected.indices().tolist()
    torch.testing.assert_close(summed.values(), expected.values())
    torch.sparse_coo_tensor(summed.indices(), summed.values(), summed.shape, check_invariants=True)
