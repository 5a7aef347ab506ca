"""Steps of rows that many workers move at once: how far they are shortened, and that nothing diverges then."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from skiplight.engines import in_flight
from skiplight.engines.in_flight import StepScales, in_flight_gradients, shortened_share, step_scale
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.windows import WindowSampler

SCRIPT = Path(__file__).parents[2] / "scripts/benchmarks/emulate_threads.py"


@given(
    in_flight=arrays(np.float64, 20, elements=st.floats(0, 1e5)),
    rate=st.floats(0, 0.5),
    other_workers=st.integers(0, 1000),
)
def test_no_row_has_more_than_most_in_flight(in_flight: np.ndarray, rate: float, other_workers: int) -> None:
    scale = step_scale(rate, other_workers, in_flight)
    product = rate * other_workers * in_flight
    assert (scale <= 1).all()
    assert (product * scale <= 4 * (1 + 1e-9)).all()
    assert (scale[product <= 4] == 1).all()


@given(
    counts=st.lists(st.integers(1, 10**6), min_size=2, max_size=50),
    subsample=st.sampled_from([0.0, 1e-3, 1e-1]),
    resident=st.booleans(),
    other_workers=st.integers(0, 1000),
    rate=st.floats(0, 0.5),
)
def test_sums_in_order_give_the_share_of_every_row(counts, subsample, resident, other_workers, rate) -> None:
    sampler = WindowSampler(np.array(counts), subsample=subsample)
    scales = StepScales(sampler, resident, other_workers)
    # A context row that is reloaded has the gradients of one window in flight.
    gradients = in_flight_gradients(sampler, resident=False)
    shortened = scales.shortened(1000, rate)
    for table, rows, of_window in zip(shortened, in_flight_gradients(sampler, resident), gradients, strict=True):
        share, number = shortened_share(rate, other_workers, rows, of_window)
        seen, left_out, few = shortened[table]
        assert left_out / seen == pytest.approx(share, abs=1e-9)
        # Equal but for rounding right at the bound.
        at_bound = np.isclose(rate * other_workers * rows, in_flight.MOST).sum()
        assert abs(few - number) <= at_bound
    assert scales.needed(rate) == any(
        rate * other_workers * rows.max() > in_flight.MOST for rows in scales.in_flight.values()
    )


def test_expected_gradients_are_those_of_the_windows() -> None:
    rng = np.random.default_rng(0)
    text = [rng.choice(6, 5000, p=[0.4, 0.25, 0.15, 0.1, 0.06, 0.04]).tolist() for _ in range(4)]
    sampler = WindowSampler(np.bincount(np.concatenate(text)), window=3, negatives=4, subsample=0.05, exclude="none")
    windows = sampler(TokenBlock.of(text))
    inputs, outputs = windows.pairs * 5, windows.pairs * 5
    for (gradients, _, _), made in zip(
        StepScales(sampler, True, 3).shortened(20_000, 0.1).values(), (inputs, outputs), strict=True
    ):
        assert gradients == pytest.approx(made, rel=0.03)
    per_window, _ = in_flight_gradients(sampler, resident=False)
    found = np.bincount(windows.inputs.numpy(), minlength=6) * 5 / len(windows.target)
    assert per_window == pytest.approx(found, rel=0.1)


@pytest.mark.slow
def test_many_threads_at_a_time_do_not_diverge(tmp_path: Path) -> None:
    # A process of its own, since the kernel is compiled with a change: threads take turns, a window each.
    rng, words = np.random.default_rng(0), np.array([f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(50)])
    zipf = 1 / np.arange(1, 51)
    lines = [" ".join(words[rng.choice(50, 100, p=zipf / zipf.sum())]) for _ in range(200)]
    (tmp_path / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    command = [sys.executable, str(SCRIPT), str(tmp_path / "text.txt"), "--threads", "64", "--dim", "20"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"SKIPLIGHT_CACHE": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["input left out"] > 0.5
    assert max(row["loss"], *row["epoch losses"]) < 6 * math.log(2)
