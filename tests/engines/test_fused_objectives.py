"""The fused CPU engine moves the tables as the reference does, for every objective, both optimisers and any bias."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skiplight import compose
from skiplight.cli import main
from skiplight.data.from_config import is_plain
from skiplight.engines.fused_cpu import FusedCpuEngine
from skiplight.engines.in_flight import in_flight_gradients, step_scale
from skiplight.errors import ConfigError
from skiplight.objectives import OBJECTIVES
from skiplight.objectives.base import Objective, Tables
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.windows import WindowSampler
from skiplight.training.checkpoints import FolderCheckpointIO, list_checkpoints
from tests.support.reference import adagrad_slack, last_digit, one_window_a_step
from tests.support.runs import train_arguments
from tests.support.texts import write_texts

COUNTS = np.array([500, 200, 100, 50, 20, 10, 5, 4, 3, 2, 1])
FUSED = ["negative_sampling", "nce", "sampled_softmax", "hierarchical_softmax"]


@dataclasses.dataclass(frozen=True)
class Case:
    """A training that the engine and the reference make."""

    objective: str
    adagrad: bool = False
    bias: str = "none"
    dim: int = 20
    lr: float = 0.05
    accumulated: float = 0.0  # what Adagrad's sums begin with
    sampling: dict[str, Any] = dataclasses.field(default_factory=dict)

    def sampler(self, **changed: Any) -> WindowSampler:
        return WindowSampler(COUNTS, **{"subsample": 0, **self.sampling, **changed})

    def make_objective(self, sampler: WindowSampler) -> Objective:
        return OBJECTIVES[self.objective].target.build(COUNTS, sampler)

    def tables(self, objective: Objective) -> Tables:
        bias = None if self.bias == "none" else objective.unigram_bias(COUNTS)
        rows = objective.output_rows(len(COUNTS))
        tables = Tables(len(COUNTS), self.dim, rows, bias=bias, train_bias=self.bias == "learned")
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for table in (tables.input, tables.output):
                table.weight.normal_(0, self.dim**-0.25, generator=generator)
        return tables

    def optimizer(self, tables: Tables) -> torch.optim.Optimizer:
        if self.adagrad:
            return torch.optim.Adagrad(tables.parameters(), lr=1, initial_accumulator_value=self.accumulated)
        return torch.optim.SGD(tables.parameters(), lr=1)


def assert_moves_as_the_reference(case: Case, block: TokenBlock, workers: int = 1) -> None:
    sampler = case.sampler()
    objective = case.make_objective(sampler)
    tables, expected = case.tables(objective), case.tables(objective)
    optimizer, reference = case.optimizer(tables), case.optimizer(expected)
    scoring = objective.scoring(sampler)
    digit = last_digit(scoring)
    slack = adagrad_slack(reference, case.lr, digit) if case.adagrad else {}
    of_contexts = case.sampler(input="context", exclude=sampler.redrawn)
    turn = sampler.center_as_input if sampler.input == "centre" else lambda windows: windows
    windows = of_contexts(block)

    def scales(rate: float) -> tuple[torch.Tensor, ...]:
        in_flight = in_flight_gradients(sampler, True, scoring)
        inputs, outputs = (torch.from_numpy(step_scale(rate, workers - 1, rows)).float() for rows in in_flight)
        return (inputs, outputs, outputs)[: len(list(expected.parameters()))]

    loss, pairs = one_window_a_step(
        expected, windows, [case.lr] * len(windows.target), scales if workers > 1 else None, objective, reference, turn
    )
    engine = FusedCpuEngine(objective, tables, optimizer, sampler, 1, workers)
    result = engine.step(block, case.lr, case.lr)
    assert result.pairs == pairs
    # A loss near 0 is the difference of two scores in float32, so it is exact to their last digit only.
    assert result.loss_sum == pytest.approx(loss, rel=1e-5, abs=digit * pairs)
    for got, want in zip(tables.parameters(), expected.parameters(), strict=True):
        allowed = 2e-6 + 1e-4 * want.detach().abs() + slack.get(want, 0.0)
        assert bool(((got - want).abs() <= allowed).all())
        if case.adagrad and want.requires_grad:
            torch.testing.assert_close(optimizer.state[got]["sum"], reference.state[want]["sum"], rtol=1e-3, atol=1e-6)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    objective = draw(st.sampled_from(FUSED))
    exclude = ["none", "target"] if OBJECTIVES[objective].target.corrects_noise else ["none", "target", "window"]
    sampling = {
        "seed": draw(st.integers(0, 2**32 - 1)),
        "window": draw(st.integers(1, 7)),
        "subsample": draw(st.sampled_from([0, 1e-1, 1e-2])),
        "exponent": draw(st.sampled_from([-1.0, 0.0, 0.75])),
        "exclude": draw(st.sampled_from(exclude)),
        "negatives": draw(st.sampled_from([1, 5, 12])),
        "shared": draw(st.sampled_from(["window", "pair"])),
        "input": draw(st.sampled_from(["context", "centre"])),
    }
    if objective == "hierarchical_softmax":
        sampling["negatives"] = 0
    bias = draw(st.sampled_from(["none", "unigram", "learned"]))
    dim, lr = draw(st.sampled_from([20, 37])), draw(st.floats(1e-3, 0.05))
    # With sums that begin at 0, Adagrad's first step is as long for a gradient of .1 as for one of 1e-7, which a
    # softmax near certainty has, and which is the last digit of its probability: any two implementations part there.
    accumulated = 1e-3 if objective == "sampled_softmax" else 0.0
    return Case(objective, draw(st.booleans()), bias, dim, lr, accumulated, sampling)


@pytest.mark.parametrize("input", ["context", "centre"])
@pytest.mark.parametrize("adagrad", [False, True], ids=["sgd", "adagrad"])
@pytest.mark.parametrize("objective", FUSED)
def test_a_text_with_repeated_words_trains_as_by_the_reference(objective: str, adagrad: bool, input: str) -> None:
    text = np.random.default_rng(0).choice(len(COUNTS), 100, p=COUNTS / COUNTS.sum()).tolist()
    negatives = 0 if objective == "hierarchical_softmax" else 20
    for shared, exclude in (("window", "target"), ("pair", "none")):
        sampling = {"negatives": negatives, "shared": shared, "exclude": exclude, "input": input}
        case = Case(objective, adagrad, "learned", lr=0.01, sampling=sampling)
        assert_moves_as_the_reference(case, TokenBlock.of([text]))


TEXTS = st.lists(st.lists(st.integers(0, 10), max_size=40), min_size=1, max_size=3)


@settings(max_examples=100)
@given(case=cases(), texts=TEXTS, epoch=st.integers(0, 2**32 - 1))
def test_tables_are_those_of_the_reference(case: Case, texts: list[list[int]], epoch: int) -> None:
    block = TokenBlock.of(texts, epoch)
    block.start += 12345
    assert_moves_as_the_reference(case, block)


@settings(max_examples=30)
@given(case=cases(), texts=TEXTS, workers=st.integers(2, 300))
def test_rows_that_other_workers_move_too_take_shorter_steps(case: Case, texts: list[list[int]], workers: int) -> None:
    assert_moves_as_the_reference(dataclasses.replace(case, adagrad=False), TokenBlock.of(texts), workers)


@pytest.mark.parametrize(
    "options",
    [
        ["objective=nce", "optim.name=adagrad"],
        ["objective=hierarchical_softmax", "model.bias=learned", "sampling.input=centre"],
    ],
    ids=["nce", "hierarchical softmax"],
)
def test_a_run_goes_on_from_a_checkpoint_to_the_last_bit(tmp_path: Path, options: list[str]) -> None:
    write_texts(tmp_path / "texts", files=1, documents=20, words=200)
    kept = ["checkpoint.every=1e-6", "checkpoint.keep=1000", "trainer.max_epochs=2", "engine=fused", *options]
    run = tmp_path / "run"
    assert main(train_arguments(tmp_path / "texts" / "*.txt", tmp_path, run, *kept)) == 0
    *_, last = checkpoints = list_checkpoints(run / "checkpoints")
    whole = FolderCheckpointIO().load_checkpoint(last)
    for path in checkpoints[3:]:
        shutil.rmtree(path)
    shutil.rmtree(run / "vectors")
    (run / "summary.json").unlink()
    assert main(["resume", str(run)]) == 0
    resumed = FolderCheckpointIO().load_checkpoint(last)
    for name, table in whole["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], table)
    if "optim.name=adagrad" in options:
        states = [list(each["optimizer_states"][0]["state"].values()) for each in (whole, resumed)]
        for ours, theirs in zip(*states, strict=True):
            assert torch.equal(ours["sum"], theirs["sum"])
            assert float(ours["sum"].max()) > 0


@pytest.mark.parametrize(
    ("option", "case", "plain"),
    [
        ("optim.name=sgd", Case("negative_sampling"), True),
        ("objective=nce", Case("nce", bias="unigram"), False),
        ("objective=sampled_softmax", Case("sampled_softmax"), False),
        ("objective=hierarchical_softmax", Case("hierarchical_softmax", sampling={"negatives": 0}), False),
        ("optim.name=adagrad", Case("negative_sampling", adagrad=True), False),
        ("model.bias=learned", Case("negative_sampling", bias="learned"), False),
        ("noise.shared=pair", Case("negative_sampling", sampling={"shared": "pair"}), False),
        ("sampling.input=centre", Case("negative_sampling", sampling={"input": "centre"}), False),
    ],
)
def test_the_kernel_that_is_compiled_ahead_is_the_one_that_trains(option: str, case: Case, plain: bool) -> None:
    sampler = case.sampler()
    objective = case.make_objective(sampler)
    tables = case.tables(objective)
    assert FusedCpuEngine(objective, tables, case.optimizer(tables), sampler, 1).is_plain == plain
    assert is_plain(compose(option)) == plain


def test_what_the_kernel_does_not_implement_is_refused() -> None:
    case = Case("negative_sampling")
    sampler = case.sampler()
    objective = case.make_objective(sampler)
    tables = case.tables(objective)
    optimizer = torch.optim.SGD(tables.parameters(), lr=0.1, momentum=0.9)
    with pytest.raises(ConfigError, match=r"the fused engine cannot do SGD with momentum=0\.9: leave it at 0"):
        FusedCpuEngine(objective, tables, optimizer, sampler)


@pytest.mark.parametrize("objective", FUSED)
def test_expected_gradients_are_those_that_the_objective_counts(objective: str) -> None:
    case = Case(objective, sampling={"negatives": 0 if objective == "hierarchical_softmax" else 5, "exclude": "none"})
    sampler = case.sampler()
    rule = case.make_objective(sampler)
    text = [np.random.default_rng(i).choice(len(COUNTS), 5000, p=COUNTS / COUNTS.sum()).tolist() for i in range(4)]
    windows = sampler(TokenBlock.of(text))
    counted = rule.gradients(case.tables(rule), windows)
    expected = in_flight_gradients(sampler, False, rule.scoring(sampler))
    for got, want in zip(counted, expected, strict=True):
        assert got.numpy()[:8] / len(windows.target) == pytest.approx(want[:8], rel=0.2)
        assert float(got.sum()) / len(windows.target) == pytest.approx(want.sum(), rel=0.02)


@pytest.mark.parametrize("objective", FUSED)
def test_not_a_number_is_seen(objective: str) -> None:
    case = Case(objective, sampling={} if objective != "hierarchical_softmax" else {"negatives": 0})
    sampler = case.sampler()
    rule = case.make_objective(sampler)
    tables = case.tables(rule)
    with torch.no_grad():
        tables.input.weight[1, 3] = np.nan
    engine = FusedCpuEngine(rule, tables, case.optimizer(tables), sampler, 1)
    assert np.isnan(engine.step(TokenBlock.of([[0, 1, 2, 3]]), 0.1, 0.1).loss_sum)
