"""A training that has learned nothing says so, and why."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from skiplight.cli import main
from skiplight.training.stability import untrained_warning
from tests.support.runs import train_arguments

NOTHING = "is still that of untrained vectors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("little"), random.Random(1)
    lines = [" ".join(f"item{a}{rng.choice('abcdef')}" for a in "xy"[n % 2] * 6) for n in range(500)]
    (folder / "text.txt").write_text("\n".join(line.replace("item", "w") for line in lines))
    return folder


def train(folder: Path, run: str, *options: str) -> int:
    return main(train_arguments(folder / "text.txt", folder, folder / run, "data.normalise=none", *options))


def test_a_loss_that_has_not_moved_is_named_with_remedies(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert train(folder, "still", "optim.lr=1e-6") == 0
    assert NOTHING in caplog.text
    assert f"{6 * math.log(2):.4f}: next to nothing was learned; give more `trainer.max_epochs`" in caplog.text
    assert "`sampling.subsample=0`, as subsampling keeps" in caplog.text
    caplog.clear()
    assert train(folder, "moved", "optim.lr=0.2", "sampling.subsample=0", "trainer.max_epochs=20") == 0
    assert NOTHING not in caplog.text


def test_subsampling_is_named_where_it_leaves_no_pairs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(folder, "dropped", "sampling.subsample=1e-12") == 2
    assert "tokens had a neighbour: `sampling.subsample=1e-12` drops 100.0% of them; give 0" in capsys.readouterr().err


def test_documents_of_one_word_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("one\ntwo\n" * 50)
    arguments = train_arguments(tmp_path / "text.txt", tmp_path, tmp_path / "run", "sampling.subsample=0")
    assert main(arguments) == 2
    assert "documents of one word do not train; give documents of several (`data.document`)" in capsys.readouterr().err


def test_the_warning_is_of_a_loss_that_has_hardly_fallen() -> None:
    assert untrained_warning(4.0, 4.1589, kept=1.0) is None
    assert untrained_warning(4.15, 4.1589, kept=0.2) is not None
    assert "subsample" not in str(untrained_warning(4.15, 4.1589, kept=0.8))
