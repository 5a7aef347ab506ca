"""Trainings end to end, in their own processes: what they leave, and that none is lost when they die."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from skiplight.cli import main
from skiplight.config.compose import compose
from skiplight.training.run_folder import default_run_dir
from skiplight.vectors.word_vectors import WordVectors
from tests.support.runs import kill_when, metrics, newest_step, skiplight, train_arguments
from tests.support.texts import write_texts

EPOCHS = "trainer.max_epochs=3"
OFTEN = ["checkpoint.every=0.02", "checkpoint.keep=2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def texts(folder: Path) -> Path:
    return write_texts(folder / "texts", files=4, documents=100, words=500)


@pytest.fixture(scope="module")
def undisturbed(folder: Path, texts: Path) -> Path:
    run = folder / "undisturbed"
    done = skiplight(train_arguments(texts, folder, run, EPOCHS))
    assert done.returncode == 0, done.stderr
    return run


def tables(run: Path) -> tuple[torch.Tensor, torch.Tensor]:
    vectors = WordVectors.load(run)
    assert vectors.output is not None
    return vectors.input, vectors.output


def equal(left: Path, right: Path) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tables(left), tables(right), strict=True))


def test_a_run_leaves_what_the_readme_says(undisturbed: Path) -> None:
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert summary["engine"] in ("autograd", "fused")
    assert summary["tokens"] == pytest.approx(3 * 200_000, rel=0.1)
    assert summary["epochs"] == 3
    assert 0 < summary["loss"] < 5
    assert set(summary["seconds"]) == {"vocabulary", "encode", "train", "evaluate", "total"}
    config = yaml.safe_load((undisturbed / "config.yaml").read_text())
    assert config["model"]["dim"] == 16
    environment = json.loads((undisturbed / "environment.json").read_text())
    assert environment["packages"]["torch"].split("+")[0] == torch.__version__.split("+")[0]  # a build's label aside
    assert {"lightning", "wandb", "hydra-core"} <= set(environment["packages"])
    assert environment["processor"]
    assert environment["memory"] > 2**30
    assert environment["command"]

    lines = metrics(undisturbed)
    losses = [line["train/loss"] for line in lines if "train/loss" in line]
    assert losses[-1] < losses[0]
    assert lines[-1]["tokens"] == summary["tokens"]
    steps = [line["step"] for line in lines if "train/loss" in line]
    assert steps == sorted(set(steps))


def test_the_same_seed_gives_the_same_tables_and_another_does_not(folder: Path, texts: Path, undisturbed: Path) -> None:
    for name, seed, same in (("again", 0, True), ("other", 1, False)):
        run = folder / name
        assert main(train_arguments(texts, folder, run, EPOCHS, f"seed={seed}")) == 0
        assert equal(run, undisturbed) is same


@pytest.mark.parametrize("workers", [0, 1])
def test_killed_twice_it_ends_as_if_undisturbed(folder: Path, texts: Path, undisturbed: Path, workers: int) -> None:
    run = folder / f"killed-{workers}"
    steps = metrics(undisturbed)[-1]["step"] // 3
    first = train_arguments(texts, folder, run, EPOCHS, *OFTEN, f"data.workers={workers}")
    kill_when(first, lambda: newest_step(run) > 0)
    assert newest_step(run) < steps, "killed in the first epoch"
    assert not (run / "summary.json").exists()
    # A folder that was moved goes on as well.
    moved = folder / f"moved-{workers}"
    shutil.move(run, moved)
    kill_when(["resume", str(moved)], lambda: newest_step(moved) > steps)
    assert newest_step(moved) < 3 * steps
    done = skiplight(["resume", str(moved)])
    assert done.returncode == 0, done.stderr
    assert equal(moved, undisturbed)
    ours, expected = ([line for line in metrics(r) if "train/loss" in line] for r in (moved, undisturbed))
    assert len({line["step"] for line in ours}) == len(ours)
    assert (ours[-1]["step"], ours[-1]["tokens"]) == (expected[-1]["step"], expected[-1]["tokens"])
    summary = json.loads((moved / "summary.json").read_text())
    assert summary["tokens"] == json.loads((undisturbed / "summary.json").read_text())["tokens"]


@pytest.mark.slow  # test_reliability has one that is moved as well
def test_a_streamed_run_is_resumed_exactly(folder: Path, texts: Path) -> None:
    whole, killed = folder / "streamed", folder / "streamed-killed"
    options = [EPOCHS, "data.streaming=true", "data.workers=1"]
    assert skiplight(train_arguments(texts, folder, whole, *options)).returncode == 0
    kill_when(train_arguments(texts, folder, killed, *options, *OFTEN), lambda: newest_step(killed) > 250)
    assert skiplight(["resume", str(killed)]).returncode == 0
    assert equal(whole, killed)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_says_how_to_go_on(
    folder: Path, texts: Path, undisturbed: Path, number: int, code: int
) -> None:
    run = folder / f"signal-{number}"
    arguments = train_arguments(texts, folder, run, EPOCHS, "checkpoint.every=1000")
    returned, said = kill_when(arguments, lambda: (run / "metrics.jsonl").exists(), number)
    assert returned == code
    assert f"skiplight resume {run}" in said
    assert newest_step(run) > 0
    assert skiplight(["resume", str(run)]).returncode == 0
    assert equal(run, undisturbed)


def test_only_so_many_checkpoints_stay_and_a_damaged_one_is_refused(folder: Path, texts: Path) -> None:
    run = folder / "checkpoints"
    kill_when(train_arguments(texts, folder, run, EPOCHS, *OFTEN), lambda: newest_step(run) > 30)
    kept = sorted((run / "checkpoints").glob("step-*"))
    assert 1 <= len(kept) <= 3  # one more than `keep` between a rename and a removal
    state = kept[-1] / "tables-0.safetensors"
    data = bytearray(state.read_bytes())
    data[-1] ^= 1
    state.write_bytes(data)
    done = skiplight(["resume", str(run)])
    assert done.returncode == 2
    assert str(state) in done.stderr


def test_max_tokens_ends_a_run_early(folder: Path, texts: Path) -> None:
    run = folder / "max-tokens"
    assert main(train_arguments(texts, folder, run, "trainer.max_tokens=50000")) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert 50_000 <= summary["tokens"] < 52_000


# Lightning advises to use srun where there is one. The last of these filters comes first.
@pytest.mark.filterwarnings("ignore:The `srun` command is available")
@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("optimizer", ["adagrad", "sparse_adam", "adam"])
def test_any_optimizer_by_name_and_without_a_warning(folder: Path, texts: Path, optimizer: str) -> None:
    run = folder / optimizer
    options = [f"optim.name={optimizer}", "trainer.max_tokens=40000", "optim.lr=0.01", "engine=autograd"]
    assert main(train_arguments(texts, folder, run, *options)) == 0
    losses = [line["train/loss"] for line in metrics(run) if "train/loss" in line]
    assert losses[-1] < losses[0]


BAD = {
    "unknown option": (["noise.negativ=5"], "did you mean `noise.negatives`"),
    "no negatives": (["noise.negatives=0"], "`noise.negatives=0` is out of range: it must be at least 1"),
    "no dimension": (["model.dim=0"], "`model.dim=0` is out of range"),
    "nce without the window's words": (
        ["objective=nce", "noise.exclude=window"],
        "`noise.exclude=window` with `objective=nce`",
    ),
    "sampled softmax without the window's words": (
        ["objective=sampled_softmax", "noise.exclude=window"],
        "give `noise.exclude=none` or `noise.exclude=target`",
    ),
    "unknown optimizer": (["optim.name=sgdd"], "`optim.name=sgdd`"),
    "more GPUs than there are": (["trainer.devices=2", "trainer.accelerator=cuda"], "trainer.accelerator"),
    "vocabulary under two words": (["vocabulary.min_count=1000000"], "vocabulary.min_count"),
    "no such file": (["data.path=/nowhere/at/all.txt"], "/nowhere/at/all.txt"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_an_error_and_leaves_no_run(
    folder: Path, texts: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options, message = BAD[case]
    run = folder / "bad"
    assert main(train_arguments(texts, folder, run, *options)) == 2
    assert message in capsys.readouterr().err
    assert not run.exists()


def test_an_existing_run_is_not_overwritten(
    folder: Path, texts: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train_arguments(texts, folder, undisturbed, EPOCHS)) == 2
    assert f"`run_dir={undisturbed}` exists already" in capsys.readouterr().err
    assert main(["resume", str(undisturbed)]) == 2
    assert "finished already" in capsys.readouterr().err


def test_a_run_that_diverges_stops_and_keeps_its_last_good_checkpoint(
    folder: Path, texts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder / "diverged"
    options = ["optim.lr=1e38", "optim.name=adagrad", "engine=autograd", "checkpoint.every=1e-6", EPOCHS]
    assert main(train_arguments(texts, folder, run, *options)) == 2
    assert "`optim.lr=1e+38` is too high" in capsys.readouterr().err
    assert not (run / "summary.json").exists()
    for checkpoint in (run / "checkpoints").glob("step-*"):
        tables = load_file(checkpoint / "tables-0.safetensors")
        assert all(torch.isfinite(table).all() for table in tables.values())


@pytest.mark.parametrize("options", [["trainer.max_tokens=50000"], ["trainer.max_epochs=1"]])
def test_stopped_behind_its_last_step_a_run_trains_no_further(folder: Path, texts: Path, options: list[str]) -> None:
    run = folder / f"finished-{options[0][-1]}"
    assert main(train_arguments(texts, folder, run, *options)) == 0
    before, tokens = tables(run), json.loads((run / "summary.json").read_text())["tokens"]
    (run / "summary.json").unlink()
    shutil.rmtree(run / "vectors")
    assert main(["resume", str(run)]) == 0
    assert json.loads((run / "summary.json").read_text())["tokens"] == tokens
    assert all(torch.equal(a, b) for a, b in zip(before, tables(run), strict=True))


def test_a_run_that_is_being_trained_is_left_alone(folder: Path, texts: Path) -> None:
    run = folder / "living"
    said: list[str] = []

    def refused() -> bool:
        if (run / "metrics.jsonl").exists():
            said.append(skiplight(["resume", str(run)]).stderr)
        return bool(said)

    long = "trainer.max_epochs=200"
    code, _ = kill_when(train_arguments(texts, folder, run, long, "engine=autograd"), refused, signal.SIGTERM)
    assert code == 143
    assert "is being trained by process" in said[0]


def test_a_stream_of_unknown_size_is_read_again_until_the_run_has_its_tokens(
    folder: Path, texts: Path, undisturbed: Path
) -> None:
    words = undisturbed / "vectors" / "vocabulary.tsv"
    run = folder / "unknown-size"
    options = ["data.streaming=true", f"vocabulary.path={words}", "trainer.max_tokens=500000"]
    assert main(train_arguments(texts, folder, run, *options)) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert 500_000 <= summary["tokens"] < 502_000
    assert summary["epochs"] == 2  # complete passes over some 200,000 tokens
    assert [line["lr"] for line in metrics(run) if "lr" in line][-1] == pytest.approx(0.025e-4)


def test_runs_that_a_process_starts_in_the_same_second_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = set()
    for _ in range(20):
        folder = default_run_dir(compose([]))
        folder.mkdir(parents=True)
        folders.add(folder)
    assert len(folders) == 20
