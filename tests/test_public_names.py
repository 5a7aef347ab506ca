"""What a notebook needs is in `skiplight` itself."""

from __future__ import annotations

from pathlib import Path

import pytest

import skiplight
from tests.support.runs import SMALL
from tests.support.texts import write_texts


def test_every_public_name_is_there() -> None:
    assert set(dir(skiplight)) == set(skiplight.__all__)
    for name in skiplight.__all__:
        assert callable(getattr(skiplight, name))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        skiplight.trian  # noqa: B018


def test_runs_and_studies_are_made_from_overrides(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts", files=1)
    data = ["data=files", f"data.path='{texts}'", f"data.store={tmp_path / 'stores'}", "data.heldout=0.1", *SMALL]
    summary = skiplight.train([*data, "trainer.max_epochs=1"], tmp_path / "run")
    config, read = skiplight.load_run(tmp_path / "run")
    assert (config.trainer.max_epochs, read["loss"]) == (1, summary["loss"])
    assert (tmp_path / "run" / "report.html").exists()
    assert skiplight.WordVectors.load(tmp_path / "run").dim == 16

    grid = ["trainer.max_epochs=1,2", "study.sampler=grid", "study.metric=heldout/perplexity"]
    study = skiplight.sweep([*data, *grid, f"run_dir={tmp_path / 'study'}"])
    assert study.folder == tmp_path / "study"
    assert (study.folder / "report.html").exists()
    assert list(study.frame["trainer.max_epochs"]) == [1, 2]
    for number, perplexity in enumerate(study.frame["heldout/perplexity"]):
        summary = skiplight.load_run(study.folder / str(number))[1]
        assert (summary["epochs"], summary["evaluation"]["heldout"]["perplexity"]) == (number + 1, perplexity)
