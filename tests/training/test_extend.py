"""A finished run that is given more epochs is the one that had them from the beginning."""

from __future__ import annotations

from pathlib import Path

import pytest

from skiplight.cli import main
from skiplight.training import fit
from skiplight.training.extend import extend_run
from skiplight.training.run_folder import RunFolder
from tests.support.runs import left, train_arguments
from tests.support.texts import write_texts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("extend")


@pytest.fixture(scope="module")
def texts(folder: Path) -> Path:
    return write_texts(folder / "texts", files=2, documents=40, words=300)


def train(texts: Path, folder: Path, name: str, *options: str) -> Path:
    assert main(train_arguments(texts, folder, folder / name, "optim.lr=0.05", *options)) == 0
    return folder / name


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("wsd", ["optim.schedule=wsd", "optim.schedule.warmup=5000", "optim.schedule.decay=0.3"]),
        ("tokens", ["optim.schedule=wsd", "optim.schedule.decay=7000"]),
        ("constant", ["optim.schedule=constant"]),
    ],
)
def test_a_longer_run_is_the_one_that_was_as_long_from_the_beginning(
    folder: Path, texts: Path, name: str, options: list[str]
) -> None:
    expected = train(texts, folder, f"{name}-long", *options, "trainer.max_epochs=4")
    run = train(texts, folder, name, *options, "trainer.max_epochs=2")
    before = left(run)
    assert main(["resume", str(run), "--max-epochs", "4"]) == 0
    assert left(run)[0] == left(expected)[0] != before[0]
    assert left(run)[2]["loss"] == pytest.approx(left(expected)[2]["loss"], rel=1e-12)
    assert left(run)[2]["epochs"] == 4
    assert RunFolder(run).config().trainer.max_epochs == 4


def test_killed_while_it_is_prepared_the_same_command_goes_on(folder: Path, texts: Path) -> None:
    options = ["optim.schedule=wsd", "trainer.max_epochs=1"]
    run = train(texts, folder, "killed", *options)
    assert len(list((run / "checkpoints").glob("trunk-*"))) == 1
    summary = (run / "summary.json").read_text()
    extend_run(RunFolder(run), 2)
    (run / "summary.json").write_text(summary)  # as if killed before its last step
    extend_run(RunFolder(run), 2)
    assert not (run / "summary.json").exists()
    assert main(["resume", str(run), "--max-epochs", "2"]) == 0, "as if killed after it"
    assert left(run)[2]["epochs"] == 2


@pytest.mark.parametrize(
    ("options", "epochs", "message"),
    [
        (["optim.schedule=linear"], 2, "`optim.schedule=linear`, whose rates depend on the length"),
        (["optim.schedule=wsd", "optim.schedule.warmup=0.1"], 2, "only a run with a warm-up in tokens"),
        (["optim.schedule=constant"], 1, "has 1 epochs; give a larger number"),
        (["optim.schedule=constant", "noise=annealed_power"], 2, "exponents depend on the length"),
    ],
)
def test_runs_that_cannot_be_longer_stay_as_they_are(
    folder: Path, texts: Path, capsys: pytest.CaptureFixture[str], options: list[str], epochs: int, message: str
) -> None:
    run = train(texts, folder, "-".join(options).replace("=", ""), *options, "trainer.max_epochs=1")
    before = left(run)
    assert main(["resume", str(run), "--max-epochs", str(epochs)]) == 2
    assert message in capsys.readouterr().err
    assert left(run) == before
    assert (run / "summary.json").exists()
    with pytest.raises(Exception, match="is finished already"):
        fit.resume(run)
