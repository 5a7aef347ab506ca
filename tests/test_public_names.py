"""What a notebook needs is in `skiplight` itself."""

from __future__ import annotations

import functools
import logging
import operator
import re
from pathlib import Path
from typing import ClassVar

import lightning
import pytest

import skiplight
from skiplight.errors import RunError
from tests.support.runs import SMALL
from tests.support.texts import write_texts

PAGE = Path(__file__).parents[1] / ".github" / "PYTHON.md"


def test_every_public_name_is_there() -> None:
    assert set(dir(skiplight)) == set(skiplight.__all__)
    for name in skiplight.__all__:
        assert callable(getattr(skiplight, name))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        skiplight.trian  # noqa: B018


def test_the_page_has_every_public_name_with_what_its_docstring_says() -> None:
    rows = re.findall(r"^\| `([\w.]+)(?:\(.*?\))?` \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.M)
    assert sorted(name for name, _ in rows if "." not in name) == sorted(skiplight.__all__)
    for name, text in rows:
        found = operator.attrgetter(name)(skiplight)
        if isinstance(found, functools.cached_property):
            found = found.func
        if not name.startswith("register_"):
            assert found.__doc__.splitlines()[0] == text, name


def test_lightning_says_nothing_of_its_own_unless_its_level_was_set(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts", files=1)
    options = ["data=files", f"data.path='{texts}'", f"data.store={tmp_path / 'stores'}", *SMALL]
    said: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = said.append  # type: ignore[method-assign]
    lightnings = logging.getLogger("lightning.pytorch")
    assert lightnings.level == logging.INFO
    lightnings.addHandler(handler)
    try:
        skiplight.train(*options, run_dir=tmp_path / "quiet")
        assert [record.getMessage() for record in said if record.levelno < logging.WARNING] == []
        assert lightnings.level == logging.INFO
        lightnings.setLevel(logging.DEBUG)
        skiplight.train(*options, run_dir=tmp_path / "told")
        assert any("GPU available" in record.getMessage() for record in said)
        assert lightnings.level == logging.DEBUG
    finally:
        lightnings.removeHandler(handler)
        lightnings.setLevel(logging.INFO)


def test_runs_and_studies_are_made_from_overrides(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts", files=1)
    data = ["data=files", f"data.path='{texts}'", f"data.store={tmp_path / 'stores'}", "data.heldout=0.1", *SMALL]
    run = skiplight.train(*data, "trainer.max_epochs=1", "evaluation.every=2000", run_dir=tmp_path / "run")
    read = skiplight.load_run(tmp_path / "run")
    assert (read.config.trainer.max_epochs, read.summary["loss"]) == (1, run.summary["loss"])
    assert repr(run).startswith(f"<Run {tmp_path / 'run'}: ")
    assert len(run.vectors.most_similar(run.vectors.vocabulary.words[0], topn=3)) == 3
    losses, heldout = run.metrics["train/loss"].dropna(), run.metrics["heldout/perplexity"].dropna()
    assert len(losses) > 2
    assert heldout.iloc[-1] == run.summary["evaluation"]["heldout"]["perplexity"]
    assert (tmp_path / "run" / "report.html").exists()
    assert skiplight.WordVectors.load(tmp_path / "run").dim == 16

    grid = ["trainer.max_epochs=1,2", "study.sampler=grid", "study.metric=heldout/perplexity"]
    study = skiplight.sweep(*data, *grid, run_dir=tmp_path / "study")
    assert study.folder == tmp_path / "study"
    assert (study.folder / "report.html").exists()
    assert list(study.frame["trainer.max_epochs"]) == [1, 2]
    for number, perplexity in enumerate(study.frame["heldout/perplexity"]):
        summary = skiplight.load_run(study.folder / str(number)).summary
        assert (summary["epochs"], summary["evaluation"]["heldout"]["perplexity"]) == (number + 1, perplexity)


def test_a_callback_of_ones_own_sees_the_metrics_and_may_end_a_run(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts", files=1)
    data = ["data=files", f"data.path='{texts}'", f"data.store={tmp_path / 'stores'}", "data.heldout=0.1", *SMALL]

    class Watching(lightning.Callback):
        seen: ClassVar[set[str]] = set()

        def on_train_batch_end(self, trainer, pl_module, *args) -> None:
            self.seen |= set(trainer.callback_metrics)

    watching = Watching()
    options = ["trainer.max_epochs=2", "evaluation.every=1000", "engine=fused"]
    skiplight.train(*data, *options, run_dir=tmp_path / "run", callbacks=[watching])
    expected = {"train/loss", "lr", "words_per_second", "heldout/loss", "heldout/perplexity"}
    assert expected <= watching.seen
    with pytest.raises(TypeError, match="a single Config"):
        skiplight.train(skiplight.Config(), "model.dim=3")
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(RunError, match="is no run: give the folder of one"):
            skiplight.load_run(folder)
    for wrong in ([Watching], [3], watching):
        with pytest.raises(TypeError, match=r"give a list of instances of lightning.Callback"):
            skiplight.train(*data, run_dir=tmp_path / "wrong", callbacks=wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "wrong").exists()
