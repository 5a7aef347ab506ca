"""What shortened steps leave out is counted, expected beforehand, and warned of."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skiplight.cli import main
from skiplight.engines.autograd import AutogradEngine
from skiplight.engines.shortening import TABLES, Shortening
from skiplight.objectives import make_objective
from skiplight.objectives.base import Tables
from skiplight.registry import OBJECTIVES
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.windows import WindowSampler
from skiplight.training.stability import expected_gradients, share_left_out
from tests.support.runs import train_arguments
from tests.support.texts import write_texts

COUNTS = (1e5 / np.arange(1, 301)).astype(np.int64)


@given(st.lists(st.tuples(st.sampled_from(TABLES), st.floats(1, 1e9), st.floats(0, 1), st.integers(0, 99)), max_size=9))
def test_it_sums_up_and_goes_on_from_its_state(steps: list[tuple[str, float, float, int]]) -> None:
    whole, resumed = Shortening(), Shortening()
    for table, gradients, share, rows in steps:
        for each in (whole, resumed):
            each.add(table, gradients, share * gradients, rows)
        state = json.loads(json.dumps(resumed.state_dict()))  # plain types
        resumed = Shortening()
        resumed.load_state_dict(state)
    assert resumed.shares() == whole.shares()
    for table in TABLES:
        own = [(gradients, share * gradients, rows) for name, gradients, share, rows in steps if name == table]
        summed = sum(gradients for gradients, *_ in own)
        expected = sum(left for _, left, _ in own) / summed if summed else 0.0
        assert whole.shares()[table]["share"] == pytest.approx(expected)
        assert whole.shares()[table]["rows"] == max((rows for *_, rows in own), default=0)


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_autograd_engine_counts_what_it_leaves_out(name: str, sparse: bool) -> None:
    sampler, lr = WindowSampler(COUNTS, subsample=1e-2), 0.1
    objective = make_objective(name, COUNTS, sampler)
    tables = Tables(len(COUNTS), 4, objective.output_rows(len(COUNTS)), sparse=sparse)
    engine = AutogradEngine(objective, tables, torch.optim.SGD(tables.parameters(), lr=lr))
    gradients, left_out, rows = (dict.fromkeys(TABLES, 0.0) for _ in range(3))
    rng = np.random.default_rng(1)
    for size in (2000, 20, 1000):
        windows = sampler(TokenBlock.of([rng.choice(len(COUNTS), size, p=COUNTS / COUNTS.sum()).tolist()]))
        engine.optimizer.zero_grad()
        engine.step(windows, lr, lr).loss.backward()
        engine.prepare_step(engine.gradient_counts(windows))
        engine.optimizer.step()
        for table, counts in zip(TABLES, objective.gradients(tables, windows), strict=True):
            over = [max(float(n) - 4 / lr, 0.0) for n in counts]
            gradients[table] += float(counts.sum())
            left_out[table] += sum(over)
            rows[table] = max(rows[table], sum(excess > 0 for excess in over))
    for table in TABLES:
        found = engine.shortening.shares()[table]
        assert 0 < found["share"] == pytest.approx(left_out[table] / gradients[table], rel=1e-5)
        assert found["rows"] == rows[table] > 0


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_share_is_expected_from_the_counts_of_the_words(name: str) -> None:
    sampler, lr, tokens = WindowSampler(COUNTS, subsample=1e-2), 0.05, 30_000
    objective = make_objective(name, COUNTS, sampler)
    tables = Tables(len(COUNTS), 1, objective.output_rows(len(COUNTS)))
    text = np.random.default_rng(3).choice(len(COUNTS), tokens, p=COUNTS / COUNTS.sum()).tolist()
    expected = expected_gradients(sampler, COUNTS, objective, tables, tokens)
    for table, counts in zip(TABLES, objective.gradients(tables, sampler(TokenBlock.of([text]))), strict=True):
        share = share_left_out(counts.double().numpy(), 4 / lr)
        assert share > 0.05
        assert share_left_out(expected[table], 4 / lr) == pytest.approx(share, rel=0.05)


def test_a_summary_has_the_shares_and_large_ones_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts = write_texts(tmp_path / "texts", files=1, documents=30, words=400)
    summaries = {}
    for run, options in {
        "long": ["engine=autograd", "data.block_tokens=10000"],
        "softmax": ["engine=autograd", "data.block_tokens=10000", "objective=full_softmax"],
        "short": ["engine=autograd", "data.block_tokens=100", "optim.lr=0.002"],
        "adagrad": ["engine=autograd", "data.block_tokens=10000", "optim.name=adagrad"],
        "fused": ["engine=fused", "data.block_tokens=10000"],
    }.items():
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert main(train_arguments(texts, tmp_path, tmp_path / run, "trainer.max_epochs=1", *options)) == 0
        summaries[run] = json.loads((tmp_path / run / "summary.json").read_text())["shortened"]
        warned = [" leave out about " in caplog.text, "shortened steps left out " in caplog.text]
        assert warned == [run in ("long", "softmax")] * 2
    assert summaries["long"]["input"]["share"] > 0.3
    assert summaries["long"]["output"]["rows"] > 10
    for run in ("adagrad", "fused"):
        assert summaries[run] == {table: {"share": 0.0, "rows": 0} for table in TABLES}
    assert 0 <= summaries["short"]["input"]["share"] < 0.05
