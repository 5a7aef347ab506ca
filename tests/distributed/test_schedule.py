"""Which rows are exchanged after which step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiplight.distributed.schedule import ExchangeSchedule


@given(
    st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=50),
    st.floats(1e-2, 1e5),
    st.sampled_from([1, 4, 64]),
    st.booleans(),
)
def test_every_row_is_exchanged_before_it_has_summed_too_many_gradients(
    gradients: list[float], after: float, full: int, sorted_: bool
) -> None:
    rows = np.array(sorted(gradients, reverse=True) if sorted_ else gradients)
    schedule = ExchangeSchedule(rows, 1000, after, full)
    exchanged = [schedule.due(step, 1.0) for step in range(1, 3 * full + 1)]
    assert exchanged[full - 1 :: full] == [len(rows)] * 3
    for row, per_token in enumerate(rows):
        steps = [0, *(step for step, count in enumerate(exchanged, 1) if count > row)]
        longest = max(np.diff(steps))
        assert longest <= full
        assert longest == 1 or longest * per_token * 1000 <= after * (1 + 1e-9)
    # A lower rate makes the same gradients smaller, and never more rows due.
    assert all(schedule.due(step, 0.1) <= count for step, count in enumerate(exchanged, 1))


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=50), st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_the_rows_of_a_run_are_counted_by_its_own_learning_rates(gradients: list[float], shares: list[float]) -> None:
    schedule = ExchangeSchedule(np.array(gradients), 1000, 10.0, 16)
    exchanged = [schedule.due(step, share) for share in shares for step in range(1, 17)]
    assert schedule.rows_per_token(shares) == pytest.approx(np.mean(exchanged) / 1000)
