"""Arguments of Lightning's Trainer and its callbacks, through the command line: each does what it is for, in a run."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

from skiplight import SkipGramModule
from skiplight.cli import main
from skiplight.vectors.word_vectors import WordVectors
from tests.support.runs import metrics, train_arguments
from tests.support.texts import write_texts

pytestmark = pytest.mark.filterwarnings("ignore")

SMALL = {"data.heldout": "0.1", "trainer.max_epochs": "3", "engine": "autograd", "trainer.accelerator": "cpu"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arguments")
    write_texts(folder / "texts", files=1, documents=12)
    return folder


def train(folder: Path, name: str, *options: str) -> tuple[int, dict[str, Any], Path]:
    """The exit code, the summary, and the run's folder; an option replaces the one of the same name before it."""
    run = folder / name
    given = train_arguments(folder / "texts" / "*.txt", folder, run, *(f"{k}={v}" for k, v in SMALL.items()), *options)
    code = main(list({option.partition("=")[0]: option for option in given}.values()))
    path = run / "summary.json"
    return code, json.loads(path.read_text()) if path.exists() else {}, run


@pytest.fixture(scope="module")
def plain(folder: Path) -> tuple[dict[str, Any], Path]:
    """A run without any of the arguments."""
    code, summary, run = train(folder, "plain")
    assert code == 0
    assert "ended_early" not in summary
    return summary, run


def vectors(run: Path) -> torch.Tensor:
    return WordVectors.load(run).input


@pytest.mark.parametrize("engine", ["fused", "autograd"])
@pytest.mark.parametrize(
    ("options", "steps"),
    [
        (["trainer.fast_dev_run=true"], 1),
        (["trainer.fast_dev_run=2", "logger=csv"], 2),
        (["trainer.limit_train_batches=2"], 6),
        (["trainer.overfit_batches=2", "trainer.max_epochs=4"], 8),
        (["debug=limit", "trainer.limit_train_batches=1"], 3),
        (["debug=fast"], 1),
    ],
)
def test_a_run_of_few_batches_is_complete_and_says_why(
    folder: Path, engine: str, options: list[str], steps: int
) -> None:
    if options[0].startswith("debug"):
        options = [*options, f"trainer.max_epochs={3 if 'limit' in options[0] else 1}"]
    code, summary, run = train(folder, f"few-{engine}-{steps}-{len(options)}", f"engine={engine}", *options)
    assert code == 0
    assert metrics(run)[-1]["step"] == steps
    assert summary["ended_early"].startswith("trainer.")
    assert summary["evaluation"]["heldout"]["perplexity"] > 1
    assert len(vectors(run)) == summary["vocabulary_size"]
    assert not (run / "csv").exists()  # `fast_dev_run` logs nothing


def test_overfitting_repeats_the_same_batches_with_their_negatives(folder: Path, plain: Any) -> None:
    _, summary, run = train(folder, "overfit", "trainer.overfit_batches=1", "trainer.max_epochs=60", "optim.lr=0.2")
    losses = [line["train/loss"] for line in metrics(run) if "train/loss" in line]
    assert metrics(run)[-1]["step"] == 60
    assert summary["tokens"] % 60 == 0
    assert losses[-1] < 0.75 * losses[0]
    assert losses[-1] < 0.9 * plain[0]["loss"]


def test_a_run_of_limited_time_is_evaluated_where_it_ended(folder: Path) -> None:
    options = ["trainer.max_time={milliseconds: 300}", "trainer.max_epochs=5000"]
    code, summary, run = train(folder, "time", *options)
    assert code == 0
    assert summary["ended_early"] == "trainer.max_time={'milliseconds': 300}"
    assert 0 < summary["tokens"] == metrics(run)[-1]["tokens"]
    assert metrics(run)[-1]["heldout/perplexity"] == summary["evaluation"]["heldout"]["perplexity"]
    assert train(folder, "one-step", "trainer.max_time={microseconds: 1}")[1]["tokens"] > 0


def test_dense_gradients_are_clipped(folder: Path) -> None:
    runs = {}
    for name, clip in (("unclipped", "null"), ("clipped", "1e-6")):
        options = ["optim.name=rmsprop", "optim.lr=0.001", f"trainer.gradient_clip_val={clip}"]
        code, _, runs[name] = train(folder, name, *options, "trainer.gradient_clip_algorithm=null")
        assert code == 0
    assert not torch.equal(vectors(runs["clipped"]), vectors(runs["unclipped"]))
    options = ["optim=adam", "trainer.gradient_clip_val=1", "trainer.gradient_clip_algorithm=value", "engine=auto"]
    assert train(folder, "by-value", *options)[1]["engine"] == "autograd"


def test_batches_are_accumulated_with_sparse_and_dense_gradients(folder: Path, plain: Any) -> None:
    for name in ("sgd", "adam"):
        options = [f"optim={name}", "trainer.accumulate_grad_batches=4", "engine=auto"]
        code, summary, run = train(folder, f"accumulated-{name}", *options)
        assert (code, summary["engine"]) == (0, "autograd")
        assert summary["tokens"] == plain[0]["tokens"]
        assert metrics(run)[-1]["step"] == pytest.approx(metrics(plain[1])[-1]["step"] / 4, abs=3)


def test_a_deterministic_run_gives_the_same_bits_and_leaves_the_process_as_it_was(folder: Path) -> None:
    found = []
    for name in ("one", "two"):
        options = ["trainer.deterministic=true", "trainer.threads=2", "engine=auto", "trainer.limit_train_batches=3"]
        code, summary, run = train(folder, f"deterministic-{name}", *options)
        assert (code, summary["engine"]) == (0, "autograd")
        found.append(vectors(run))
    assert torch.equal(*found)
    assert not torch.are_deterministic_algorithms_enabled()
    options = ["trainer.deterministic=true", "trainer.threads=1", "engine=auto"]
    assert train(folder, "deterministic-fused", *options)[1]["engine"] == "fused"


@pytest.mark.parametrize(
    "option", ["trainer.detect_anomaly=true", "trainer.precision=bf16-mixed", "trainer.precision=64-true"]
)
def test_what_concerns_gradients_trains_with_autograd(folder: Path, plain: Any, option: str) -> None:
    code, summary, _ = train(folder, option.replace("=", "-"), option)
    assert code == 0
    assert summary["loss"] == pytest.approx(plain[0]["loss"], rel=0.01)


def test_a_profiler_writes_its_table_into_the_run(folder: Path) -> None:
    code, _, run = train(folder, "profiled", "trainer.profiler=simple", "trainer.limit_train_batches=2")
    assert code == 0
    [table] = (run / "profile").iterdir()
    assert "run_training_batch" in table.read_text()


def test_the_bar_and_the_table_of_layers_can_be_chosen(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["trainer.enable_progress_bar=false", "trainer.enable_model_summary=true"]
    assert train(folder, "shown", *options, "trainer.limit_train_batches=2")[0] == 0
    assert "Trainable params" in capsys.readouterr().out


def test_callbacks_that_monitor_an_evaluation_find_one_at_every_epoch(folder: Path) -> None:
    options = ["callbacks=[early_stopping,model_checkpoint]", "callbacks.early_stopping.patience=1", "optim.lr=1e-9"]
    code, summary, run = train(folder, "stopped", *options, "callbacks.early_stopping.min_delta=1", "logger=csv")
    assert code == 0
    assert summary["epochs"] == pytest.approx(2)
    assert summary["ended_early"] == "EarlyStopping on heldout/loss"
    found = [line["heldout/loss"] for line in metrics(run) if "heldout/loss" in line]
    assert len(found) == 2  # not a third time at the end
    [best] = (run / "checkpoints").glob("epoch=*")
    assert SkipGramModule.load_from_checkpoint(best).tokens in [line["tokens"] for line in metrics(run)]
    assert train(folder, "one-epoch", *options, "trainer.max_epochs=1")[0] == 0


@pytest.mark.parametrize(
    ("callback", "monitor", "message"),
    [
        ("early_stopping", "train/los", r"`train/los` \(did you mean train/loss\?\): give train/loss, lr"),
        ("model_checkpoint", "x", "ModelCheckpoint monitors `x`: give train/loss"),
        ("early_stopping", "evaluation/x", "`evaluation/x`, which was not logged .* train/loss, lr, "),
    ],
)
def test_what_is_monitored_must_be_logged(
    folder: Path, capsys: pytest.CaptureFixture[str], callback: str, monitor: str, message: str
) -> None:
    name = f"monitors-{monitor.replace('/', '-')}"
    assert train(folder, name, f"callbacks={callback}", f"callbacks.{callback}.monitor={monitor}")[0] == 2
    assert re.search(message, capsys.readouterr().err)
    assert monitor.startswith("evaluation") == (folder / name).exists(), "only what is known before leaves no folder"


@pytest.mark.parametrize("engine", ["fused", "autograd"])
def test_averaged_tables_are_what_is_saved_and_evaluated(folder: Path, plain: Any, engine: str) -> None:
    options = ["callbacks=weight_averaging", "callbacks.weight_averaging.swa_epoch_start=1", f"engine={engine}"]
    code, summary, run = train(folder, f"averaged-{engine}", *options)
    assert code == 0
    _, unaveraged, other = train(folder, f"unaveraged-{engine}", f"engine={engine}")
    assert not torch.equal(vectors(run), vectors(other))
    rates = [line["lr"] for line in metrics(run) if "lr" in line]
    assert set(rates) == {0.025}, "swa_lrs, from the epoch on with which averaging begins"
    assert metrics(other)[-1].get("lr", 0) < 0.025
    last = metrics(run)[-1]["heldout/perplexity"]
    assert last == summary["evaluation"]["heldout"]["perplexity"] != unaveraged["evaluation"]["heldout"]["perplexity"]


def test_the_learning_rate_monitor_and_the_timer_work(folder: Path) -> None:
    options = ["callbacks=[learning_rate_monitor,timer]", "logger=csv", "trainer.log_every_n_steps=2"]
    code, summary, run = train(folder, "monitored", *options)
    assert code == 0
    assert "ended_early" not in summary
    assert "lr-SGD" in (run / "csv" / "metrics.csv").read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["trainer.gradient_clip_val=1"], "gradient clipping with SGD, whose gradients are sparse"),
        (["engine=fused", "trainer.gradient_clip_val=1"], "`engine=fused` cannot do gradient clipping"),
        (["engine=fused", "trainer.accumulate_grad_batches=2"], "cannot do accumulate_grad_batches=2"),
        (["engine=fused", "trainer.deterministic=true", "trainer.threads=2"], "deterministic with several workers"),
        (["engine=fused", "trainer.detect_anomaly=true"], "detect_anomaly, since it has no autograd graph"),
        (["trainer.precision=16-mixed"], "on GPUs only; give bf16-mixed"),
        (["trainer.accumulate_grad_batches=2", "trainer.devices=2"], "accumulate_grad_batches=2 on several devices"),
        (["trainer.fast_dev_run=1", "trainer.overfit_batches=2"], "contradict each other"),
        (["callbacks=learning_rate_monitor"], "LearningRateMonitor writes to a logger only"),
        (["callbacks=weight_averaging", "trainer.max_tokens=900"], "give the number of an epoch"),
        (["+callbacks.a._target_=lightning.pytorch.callbacks.LearningRateFinder"], "LearningRateFinder is refused: "),
    ],
)
def test_what_a_run_cannot_do_is_refused_before_it_begins(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    code, _, run = train(folder, "refused", *options)
    assert code == 2
    assert message in capsys.readouterr().err
    assert not run.exists()


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (["ModelCheckpoint", "ModelCheckpoint"], "Found more than one stateful callback of type `ModelCheckpoint`"),
        (["RichProgressBar"], "progress bar"),
    ],
)
def test_callbacks_that_do_not_fit_each_other_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], callbacks: list[str], message: str
) -> None:
    named = [f"+callbacks.c{n}._target_=lightning.pytorch.callbacks.{kind}" for n, kind in enumerate(callbacks)]
    assert train(folder, f"unfit-{callbacks[0]}", *named)[0] == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("skiplight: error: ")
    assert message in error


def test_the_private_methods_that_a_run_replaces_are_what_lightning_calls() -> None:
    """A new version of Lightning that calls others would handle signals itself again."""
    assert list(inspect.signature(_SignalConnector.register_signal_handlers).parameters) == ["self"]
    assert "_signal_connector.register_signal_handlers()" in inspect.getsource(lightning.Trainer._run)
    assert list(inspect.signature(_TrainingEpochLoop._broadcast_sigterm_tensor).parameters) == ["self"]
    assert "self._broadcast_sigterm_tensor()" in inspect.getsource(
        _TrainingEpochLoop.on_advance_end
    ) + inspect.getsource(_TrainingEpochLoop.advance)
