"""Pipes, devices and links in place of a run's files: nothing hangs, and nothing is written outside of the folder."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from skiplight.cli import main
from skiplight.files import locked, open_regular
from skiplight.training.checkpoints import FolderCheckpointIO
from tests.support.runs import train_arguments

FILES = ["config.yaml", "metrics.jsonl", "environment.json", "summary.json", "trial.json", "vectors/vocabulary.tsv",
         "vectors/vectors.safetensors", "vectors/README.md"]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strange")
    (folder / "a.txt").write_text("to be or not to be that is the question\n" * 200)
    options = ["trainer.max_epochs=1", "data.heldout=0", "checkpoint.every=1e-6", "noise.exclude=none"]
    assert main(train_arguments(folder / "a.txt", folder, folder / "run", *options)) == 0
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(autouse=True)
def _time_limit() -> Iterator[None]:
    """A read that would wait for ever ends by an error that nothing catches."""

    def stop(number: int, frame: object) -> None:
        raise SystemError("it hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("what", ["pipe", "device", "folder"])
def test_what_is_not_a_regular_file_is_named_and_not_read(
    run: Path, name: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / name).unlink(missing_ok=True)
    if what == "pipe":
        os.mkfifo(run / name)
    elif what == "device":
        (run / name).symlink_to("/dev/zero")
    else:
        (run / name).mkdir()
    codes = {verb: main([verb, str(run), *more]) for verb, more in (("neighbors", ["be"]), ("report", []))}
    if name == "summary.json":
        shutil.rmtree(run / "vectors")
    codes["resume"] = main(["resume", str(run)])
    said = capsys.readouterr().err
    assert codes["resume"] == 2
    assert codes["neighbors"] == (2 if name.startswith("vectors/") else 0)
    assert "Traceback" not in said
    assert str(run) in said


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl", "vectors", "checkpoints", "errors", "wandb", "output.log"])
def test_a_link_in_a_run_folder_leads_nothing_elsewhere(
    run: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "summary.json").unlink()
    outside = tmp_path / "outside"
    if (run / name).is_dir() or name in ("errors", "wandb"):
        shutil.rmtree(run / name, ignore_errors=True)
        outside.mkdir()
    else:
        (run / name).unlink(missing_ok=True)
        outside.write_text("of another user")
    (run / name).symlink_to(outside)
    assert main(["resume", str(run)]) == 2
    assert f"{run / name} is a symbolic link" in capsys.readouterr().err
    assert outside.is_dir() or outside.read_text() == "of another user"
    assert not outside.is_dir() or not list(outside.iterdir())


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("of another user")
    (tmp_path / ".lock").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="symbolic link"), locked(tmp_path / ".lock"):
        pass
    with pytest.raises(OSError, match="symbolic link"):
        open_regular(tmp_path / ".lock", "a")
    assert (tmp_path / "outside").read_text() == "of another user"
    assert open_regular(tmp_path / ".lock").read() == "of another user"


def test_a_cache_that_every_user_may_write_to_is_refused(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = train_arguments(finished.parent / "a.txt", finished.parent, tmp_path / "run")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    assert main([*arguments, f"data.store={tmp_path / 'cache'}"]) == 2
    monkeypatch.setenv("SKIPLIGHT_CACHE", str(tmp_path / "cache"))
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said.count(f"every user may write to {tmp_path / 'cache'}: `chmod o-w") == 2
    assert "SKIPLIGHT_CACHE" in said
    assert not list((tmp_path / "cache").iterdir())


def forge(checkpoint: Path, *path: str, value: object) -> None:
    """Write another value into the state of a checkpoint, with checksums that are right."""
    reader = FolderCheckpointIO()
    state = reader.load_checkpoint(checkpoint)
    inner = state
    for name in path[:-1]:
        inner = inner[name]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    shutil.rmtree(checkpoint)
    reader.save_checkpoint(state, checkpoint)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["loops"], None), (["loops", "fit_loop"], [1]), (["loops", "fit_loop"], None), (["epoch"], "x"),
        (["loops", "fit_loop", "epoch_progress"], {}), (["callbacks"], []), (["callbacks", "Tracking"], 7),
        (["callbacks", "Tracking", "line"], (1.0,)), (["callbacks", "Tracking", "pairs"], None),
        (["callbacks", "Evaluation", "found"], "["), (["callbacks", "Evaluation", "found"], "[" * 100_000),
        (["callbacks", "DivergenceCheck", "blanks"], [1]), (["skiplight"], None), (["skiplight", "tokens"], "9"),
        (["SkipGramDataModule"], None), (["SkipGramDataModule", "cursor"], (1, 2)), (["global_step"], 2**70),
        (["SkipGramDataModule", "version"], "x"), (["optimizer_states"], [3]), (["optimizer_states"], None),
        (["lr_schedulers"], {"a": 1}), (["pytorch-lightning_version"], None), (["pytorch-lightning_version"], "x"),
    ],
)  # fmt: skip
def test_a_forged_state_is_refused(
    run: Path, path: list[str], value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "summary.json").unlink()
    checkpoint = max((run / "checkpoints").iterdir())
    forge(checkpoint, *path, value=value)
    code = main(["resume", str(run)])
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert code == 0 or (code == 2 and str(checkpoint) in said)
