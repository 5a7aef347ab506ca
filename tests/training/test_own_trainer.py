"""Lightning's own Trainer arguments and callbacks work in a script of one's own, or are refused by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import torchmetrics
from lightning.pytorch.callbacks import (
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
    Timer,
)
from lightning.pytorch.loggers import CSVLogger

from skiplight import SkipGramDataModule, SkipGramModule, compose
from skiplight.errors import ConfigError, DivergedError, RunError
from skiplight.evaluation.heldout import heldout
from skiplight.evaluation.similarity import similarity
from skiplight.vectors.word_vectors import WordVectors
from tests.support.own_script import make_components, make_trainer, small_options
from tests.support.runs import metrics, skiplight, train_arguments
from tests.support.texts import write_texts

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    write_texts(folder / "texts", files=1, documents=40)
    return folder


def components(folder: Path, *options: str) -> tuple[SkipGramModule, SkipGramDataModule]:
    small = ["model.dim=16", "data.block_tokens=1000", "trainer.max_epochs=3"]
    return make_components(small_options(folder, *small, *options))


def test_a_stream_is_validated_at_the_end_of_each_epoch(folder: Path) -> None:
    class Epochs(lightning.Callback):
        def __init__(self) -> None:
            self.validated: list[tuple[int, int]] = []

        def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
            if not trainer.sanity_checking:
                self.validated.append((trainer.current_epoch, pl_module.tokens))

    module, data = components(folder, "data.streaming=true", "engine=fused", "data.workers=2")
    epochs = Epochs()
    make_trainer([epochs], max_epochs=3).fit(module, data)
    assert data.text.tokens is not None
    assert epochs.validated == [(epoch, (epoch + 1) * data.text.tokens) for epoch in range(3)]


@pytest.mark.parametrize("engine", ["fused", "autograd"])
def test_metrics_are_logged_as_lightning_does(folder: Path, tmp_path: Path, engine: str) -> None:
    module, data = components(folder, f"engine={engine}")
    saving = ModelCheckpoint(dirpath=tmp_path, monitor="heldout/loss", save_top_k=1)
    callbacks = [EarlyStopping("heldout/loss", patience=1), saving, LearningRateMonitor()]
    logger = CSVLogger(tmp_path)
    trainer = make_trainer(callbacks, logger=logger, log_every_n_steps=5, max_epochs=3)
    trainer.fit(module, data)
    found = {name: float(value) for name, value in trainer.callback_metrics.items()}
    names = {"train/loss", "lr", "words_per_second", "tokens", "heldout/loss", "heldout/perplexity"}
    assert set(found) == names | {"lr-SGD"}
    assert found["tokens"] == module.tokens == module.total_tokens
    assert 0 < found["train/loss"] < 6 * math.log(2)
    [validated] = trainer.validate(module, data, verbose=False)
    exact = heldout(module.objective, module.tables, data.heldout_pairs())
    assert validated == pytest.approx({"heldout/loss": exact.loss, "heldout/perplexity": exact.perplexity}, rel=1e-5)
    assert float(saving.best_model_score) == pytest.approx(min(float(saving.best_model_score), exact.loss), rel=1e-5)
    logged = (Path(logger.log_dir) / "metrics.csv").read_text()
    assert all(name in logged for name in ("train/loss", "heldout/perplexity", "lr-SGD", "words_per_second"))
    again = SkipGramModule.load_from_checkpoint(saving.best_model_path)
    [loaded] = make_trainer().validate(again, data, verbose=False)
    assert loaded["heldout/loss"] == pytest.approx(float(saving.best_model_score), rel=1e-5)


class Norm(torchmetrics.MeanMetric):
    def update(self, vectors: WordVectors) -> None:  # type: ignore[override]
        super().update(vectors.input.norm(dim=1))


def test_evaluations_are_logged_and_monitored(folder: Path, tmp_path: Path) -> None:
    words = components(folder)[1].text.vocabulary.words[:9]
    (tmp_path / "pairs.tsv").write_text("".join(f"{a}\t{b}\t{n % 4}\n" for n, (a, b) in enumerate(pairwise(words))))
    module, data = components(
        folder, f"evaluation.similarity=[{tmp_path / 'pairs.tsv'}]", "evaluation.analogy=[google]"
    )
    module.evaluation.add("norm", Norm())
    saving = ModelCheckpoint(dirpath=tmp_path, monitor="evaluation/norm", mode="max")
    stopping = EarlyStopping("evaluation/pairs", mode="max", min_delta=9, patience=1)
    trainer = make_trainer([stopping, saving], max_epochs=3)
    trainer.fit(module, data)
    assert trainer.current_epoch == 2, "stopped after the second of three"
    found = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("evaluation/")}
    vectors = WordVectors(data.text.vocabulary, module.tables.input.weight)
    expected = {
        "evaluation/norm": float(vectors.input.norm(dim=1).mean()),
        "evaluation/pairs": similarity(vectors, tmp_path / "pairs.tsv").score,
    }
    assert found == pytest.approx(expected, rel=1e-6)
    assert float(saving.best_model_score) >= found["evaluation/norm"] * (1 - 1e-6)


def test_early_stopping_ends_a_run_that_gets_no_better(folder: Path) -> None:
    module, data = components(folder, "optim.lr=1e-9", "trainer.max_epochs=9")
    stopping = EarlyStopping("train/loss", min_delta=1, patience=1, check_on_train_epoch_end=True)
    make_trainer([stopping], max_epochs=9).fit(module, data)
    assert module.tokens == 2 * data.tokens


def test_a_checkpoint_without_options_is_refused(folder: Path, tmp_path: Path) -> None:
    module, data = components(folder)
    plain = SkipGramModule(module.tables, module.objective, total_tokens=10)
    trainer = make_trainer(max_steps=1)
    data.takes_blocks = False
    trainer.fit(plain, data)
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    with pytest.raises(RunError, match=r"only modules of `SkipGramModule.from_config` save them"):
        SkipGramModule.load_from_checkpoint(tmp_path / "plain.ckpt")
    (tmp_path / "text.ckpt").write_text("text")
    with pytest.raises(RunError, match=r"text.ckpt is no checkpoint of Lightning, or a damaged one"):
        SkipGramModule.load_from_checkpoint(tmp_path / "text.ckpt")
    with pytest.raises(ValueError, match=r"was not made by SkipGramDataModule.from_config"):
        SkipGramModule.from_config(compose(), SkipGramDataModule(data.text, data.sampler, block_tokens=9))


def test_a_checkpoint_is_not_continued_with_other_noise(folder: Path, tmp_path: Path) -> None:
    words = components(folder)[1].text.vocabulary.words
    options = ["noise=from_file", f"noise.path={tmp_path / 'weights.tsv'}"]

    def module_of(first: float) -> SkipGramModule:
        weights = [first, *range(2, len(words) + 1)]
        lines = "".join(f"{word}\t{weight}\n" for word, weight in zip(words, weights, strict=True))
        (tmp_path / "weights.tsv").write_text(lines)
        return components(folder, *options)[0]

    module = module_of(1)
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    module_of(1).on_load_checkpoint(checkpoint)
    with pytest.raises(RunError, match="the noise distribution is not that of the checkpoint: put back the file"):
        module_of(3).on_load_checkpoint(checkpoint)


def test_vectors_that_have_diverged_are_an_error_and_no_perplexity(folder: Path) -> None:
    module, data = components(folder, "engine=autograd")
    with torch.no_grad():
        module.tables.input.weight.fill_(30.0)
        module.tables.output.weight[:50] = 30.0
    with pytest.raises(DivergedError, match="without a finite perplexity"):
        make_trainer().validate(module, data, verbose=False)


def trained(module: SkipGramModule) -> bool:
    return module.tokens > 0 and bool(module.tables.output.weight.any())


FEATURES: dict[str, tuple[dict[str, Any], Callable[[SkipGramModule, SkipGramDataModule, lightning.Trainer], bool]]] = {
    "fast_dev_run": ({"fast_dev_run": True}, lambda m, d, t: t.global_step == 1 and trained(m)),
    "limit_train_batches": ({"limit_train_batches": 3}, lambda m, d, t: t.global_step == 9 and trained(m)),
    "limit_val_batches": ({"limit_val_batches": 0}, lambda m, d, t: "heldout/loss" not in t.callback_metrics),
    "max_steps": ({"max_steps": 4}, lambda m, d, t: t.global_step == 4 and trained(m)),
    "max_time": ({"max_time": timedelta(0)}, lambda m, d, t: m.tokens < m.total_tokens),
    "val_check_interval": ({"val_check_interval": 5}, lambda m, d, t: "heldout/loss" in t.callback_metrics),
    "simple profiler": ({"profiler": "simple"}, lambda m, d, t: m.tokens == m.total_tokens),
    "Timer": ({"callbacks": [Timer(timedelta(0))]}, lambda m, d, t: m.tokens < m.total_tokens),
}


@pytest.mark.parametrize("engine", ["fused", "autograd"])
@pytest.mark.parametrize("feature", FEATURES)
def test_arguments_of_the_trainer_work_with_both_engines(folder: Path, engine: str, feature: str) -> None:
    options, holds = FEATURES[feature]
    module, data = components(folder, f"engine={engine}")
    trainer = make_trainer(**({"max_epochs": 3} | options))
    trainer.fit(module, data)
    assert holds(module, data, trainer)


AUTOGRAD: dict[str, dict[str, Any]] = {
    "accumulate_grad_batches": {"accumulate_grad_batches": 2},
    "gradient_clip_val": {"gradient_clip_val": 1.0},
    "detect_anomaly": {"detect_anomaly": True},
    "deterministic": {"deterministic": True},
    "bf16-mixed": {"precision": "bf16-mixed"},
}


@pytest.mark.parametrize("feature", AUTOGRAD)
def test_arguments_that_concern_gradients_work_with_autograd(folder: Path, feature: str) -> None:
    name = "adam" if feature in ("gradient_clip_val", "deterministic") else "sgd"
    module, data = components(folder, "engine=autograd", f"optim.name={name}", "optim.lr=0.01")
    make_trainer(max_epochs=3, **AUTOGRAD[feature]).fit(module, data)
    assert module.tokens == module.total_tokens
    assert trained(module)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate_grad_batches": 2}, "accumulate_grad_batches=2"),
        ({"gradient_clip_val": 1.0}, "gradient clipping"),
        ({"detect_anomaly": True}, "detect_anomaly"),
    ],
)
def test_what_the_fused_engine_cannot_do_is_refused_by_name(
    folder: Path, options: dict[str, Any], message: str
) -> None:
    module, data = components(folder, "engine=fused")
    with pytest.raises(ConfigError, match=message):
        make_trainer(max_epochs=3, **options).fit(module, data)


@pytest.mark.parametrize("engine", ["fused", "autograd"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overfit_batches": 2}, "`overfit_batches=2`: .* give `limit_train_batches`"),
        ({"overfit_batches": 0.1}, "`overfit_batches=0.1`: .* give `limit_train_batches`"),
        ({"precision": "64-true"}, "cannot do precision 64-true, .* make the Trainer without it"),
        ({"precision": "bf16-true"}, "cannot do precision bf16-true, .* make the Trainer without it"),
    ],
)
def test_what_lightning_would_do_to_the_loader_is_refused_by_name(
    folder: Path, engine: str, options: dict[str, Any], message: str
) -> None:
    module, data = components(folder, f"engine={engine}")
    with pytest.raises(ConfigError, match=message):
        make_trainer(max_epochs=1, **options).fit(module, data)


def test_a_line_of_metrics_has_the_names_that_ones_own_trainer_logs(folder: Path) -> None:
    done = skiplight(train_arguments(folder / "texts" / "*.txt", folder, folder / "run", "trainer.max_epochs=1"))
    assert done.returncode == 0, done.stderr
    assert {"train/loss", "lr", "words_per_second", "tokens"} <= set(metrics(folder / "run")[0])
    assert torch.isfinite(torch.tensor([line["train/loss"] for line in metrics(folder / "run")[:3]])).all()


def test_weight_averaging_runs_with_autograd(folder: Path) -> None:
    module, data = components(folder, "engine=autograd")
    averaging = StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1)
    make_trainer([averaging], max_epochs=3).fit(module, data)
    assert trained(module)
