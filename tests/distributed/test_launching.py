"""Trainings on several ranks as users start them, in real processes: killed, stopped, requeued, under Hydra's -m."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from skiplight.config.validate import load_config
from skiplight.data.datamodule import SkipGramDataModule
from skiplight.distributed.rank import RankInfo
from skiplight.evaluation.heldout import heldout
from skiplight.training.build import heldout_unigram
from skiplight.training.module import SkipGramModule
from skiplight.vectors.word_vectors import WordVectors
from tests.support.launches import TWO, alive, arguments_on_two, leftovers, on_two, ranks_of, start, wait_for
from tests.support.runs import command, metrics, newest_step, own_environment, skiplight, train_arguments
from tests.support.texts import write_texts

SRUN = {"SLURM_JOB_ID": "1", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "0"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("launching")
    write_texts(folder / "texts", files=3, documents=60, words=400)
    return folder


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> Path:
    done = skiplight(arguments_on_two(folder, folder / "whole", "trainer.max_epochs=12", "checkpoint.every=1000"))
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return folder / "whole"


def test_ranks_that_share_out_the_held_out_text_find_what_one_process_finds(undisturbed: Path) -> None:
    found = json.loads((undisturbed / "summary.json").read_text())["evaluation"]["heldout"]
    config, vectors = load_config(undisturbed / "config.yaml"), WordVectors.load(undisturbed)
    data = SkipGramDataModule.from_config(config)
    module = SkipGramModule.from_config(config, data, world=2)
    assert vectors.output is not None
    module.tables.input.weight.data, module.tables.output.weight.data = vectors.input, vectors.output
    expected = heldout(module.objective, module.tables, data.heldout_pairs())
    assert found.pop("unigram") == pytest.approx(heldout_unigram(config, data.text).perplexity, rel=1e-6)
    assert found == pytest.approx(
        {name: value for name, value in vars(expected).items() if value is not None}, rel=1e-9
    )


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_killed_rank_takes_the_other_down_and_the_run_goes_on(folder: Path, undisturbed: Path, rank: int) -> None:
    run = folder / f"killed-{rank}"
    process = start(on_two(folder, run, "trainer.max_epochs=12", "checkpoint.every=0.02"))
    wait_for(lambda: newest_step(run) > 8 and len(ranks_of(run)) == 2, process)
    ranks = [about["process"] for about in ranks_of(run)]
    assert ranks[0] == process.pid
    os.kill(ranks[rank], signal.SIGKILL)
    killed = time.monotonic()
    said, _ = process.communicate(timeout=60)
    while any(map(alive, ranks)):
        assert time.monotonic() - killed < 60
        time.sleep(0.01)
    assert process.returncode == (-signal.SIGKILL if rank == 0 else 2)
    if rank == 1:
        assert "rank 1 was killed by SIGKILL" in said
        assert "rank 1 was killed by SIGKILL" in (run / "errors" / "0.txt").read_text()
    done = skiplight(["resume", str(run)])
    assert done.returncode == 0, done.stderr
    assert not leftovers(run)
    ours, expected = (json.loads((path / "summary.json").read_text()) for path in (run, undisturbed))
    assert ours["tokens"] == expected["tokens"]
    assert metrics(run)[-1]["pairs"] == metrics(undisturbed)[-1]["pairs"]
    assert ours["loss"] == pytest.approx(expected["loss"], rel=0.02)
    steps = [line["step"] for line in metrics(run) if "train/loss" in line]
    assert steps == [line["step"] for line in metrics(undisturbed) if "train/loss" in line]


def test_an_error_on_another_rank_is_on_the_screen_and_in_the_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "if os.environ.get('LOCAL_RANK') == '1':\n"
        "    from skiplight.engines.fused_cpu import FusedCpuEngine\n"
        "    FusedCpuEngine.step = lambda *_: 1 / 0\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    process = start(on_two(folder, folder / "error"), PYTHONPATH=path)
    said, _ = process.communicate(timeout=90)
    assert process.returncode == 2
    assert "ZeroDivisionError" in said
    assert "rank 1 ended with code 1" in said
    assert "ZeroDivisionError" in (folder / "error" / "errors" / "1.txt").read_text()


def test_a_signal_to_one_rank_stops_all_and_other_numbers_of_ranks_go_on(folder: Path, undisturbed: Path) -> None:
    run = folder / "stopped"
    process = start(on_two(folder, run, "trainer.max_epochs=12", "checkpoint.every=1000"))
    wait_for(lambda: (run / "metrics.jsonl").exists(), process)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert f"skiplight resume {run}" in said
    assert "Traceback" not in said
    [checkpoint] = (run / "checkpoints").iterdir()
    assert json.loads((checkpoint / "manifest.json").read_text())["world_size"] == 2
    assert not any(alive(about["process"]) for about in ranks_of(run))

    process = start(command("resume", str(run), "--devices", "3"))
    before = newest_step(run)
    wait_for(lambda: len(ranks_of(run)) == 3, process)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT, said
    assert newest_step(run) >= before
    done = skiplight(["resume", str(run), "--devices", "1"])
    assert done.returncode == 0, done.stderr
    ours, expected = (json.loads((path / "summary.json").read_text()) for path in (run, undisturbed))
    assert ours["tokens"] == expected["tokens"]
    assert metrics(run)[-1]["pairs"] == metrics(undisturbed)[-1]["pairs"]  # each window once an epoch, whoever has it
    assert ours["evaluation"]["heldout"]["perplexity"] == pytest.approx(
        expected["evaluation"]["heldout"]["perplexity"], rel=0.1
    )


def test_under_torchrun_the_ranks_share_the_run_folder_of_the_job(folder: Path, tmp_path: Path) -> None:
    arguments = [argument for argument in on_two(folder, tmp_path, "logger=csv") if not argument.startswith("run_dir")]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*torchrun, *arguments[1:]], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
        env=own_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [run] = (tmp_path / "runs").iterdir()
    assert run.name.startswith("torchrun-")
    assert len(ranks_of(run)) == 2
    assert (run / "summary.json").exists()
    assert len(list(run.glob("csv*"))) == 1


@pytest.mark.slow
def test_a_job_of_slurms_that_is_requeued_goes_on_in_its_folder_and_its_wandb_run(folder: Path, tmp_path: Path) -> None:
    options = ["logger=wandb", "trainer.max_epochs=12", "checkpoint.every=1000"]
    arguments = [argument for argument in on_two(folder, tmp_path, *options) if not argument.startswith("run_dir")]
    run = tmp_path / "runs" / "slurm-4711-files"

    def job() -> list[subprocess.Popen]:
        """The two tasks of `srun --ntasks=2`, as Slurm tells them who they are."""
        common = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_NODEID": "0"}
        common |= {"SLURM_NTASKS_PER_NODE": "2"}
        common |= {"SLURM_NODELIST": "127.0.0.1", "MASTER_ADDR": "127.0.0.1", "SLURM_NNODES": "1"}
        return [
            subprocess.Popen(
                arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                env=own_environment() | common | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
            )
            for rank in range(2)
        ]  # fmt: skip

    tasks = job()
    wait_for(lambda: (run / "metrics.jsonl").exists(), tasks[0])
    for task in tasks:
        task.send_signal(signal.SIGTERM)
    for task in tasks:
        said, _ = task.communicate(timeout=60)
        assert task.returncode == 128 + signal.SIGTERM, said
    for task in job():
        said, _ = task.communicate(timeout=90)
        assert task.returncode == 0, said
    assert (run / "summary.json").exists()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [run.name]
    identity = json.loads((run / "environment.json").read_text())["id"]
    begun = list(run.glob("wandb/offline-run-*"))
    assert len(begun) == 2  # one for each start, by the first rank only
    assert all(path.name.endswith(f"-{identity}") for path in begun)


@pytest.mark.slow
def test_the_ranks_of_every_trial_of_a_multirun_get_its_options(folder: Path) -> None:
    run = folder / "grid"
    arguments = train_arguments(folder / "texts" / "*.txt", folder, run, *TWO)
    arguments = [argument for argument in arguments if not argument.startswith("model.dim")]
    done = skiplight([*arguments, "-m", "model.dim=8,12"])
    assert done.returncode == 0, done.stderr
    for number, dim in enumerate((8, 12)):
        ranks = ranks_of(run / str(number))
        assert [about["rank"] for about in ranks] == [0, 1]
        assert len({about["process"] for about in ranks}) == 2
        assert [about["tables"][0][1] for about in ranks] == [dim, dim]
        assert WordVectors.load(run / str(number)).dim == dim
        said = (run / str(number) / "output.log").read_text()
        assert all(f"rank {rank} of 2" in said for rank in range(2))


@pytest.mark.parametrize(
    ("options", "environment", "named"),
    [
        pytest.param(
            [],
            SRUN | {"SLURM_NTASKS": "3", "SLURM_NTASKS_PER_NODE": "3"},
            "--ntasks-per-node=3",
            marks=pytest.mark.slow,
        ),
        (["trainer.num_nodes=2"], SRUN | {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}, "ask for 4"),
        ([], {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}, "--rdzv-id"),
    ],
)
def test_another_number_of_processes_than_asked_for_is_an_error(
    folder: Path, options: list[str], environment: dict[str, str], named: str
) -> None:
    arguments = [argument for argument in on_two(folder, folder, *options) if not argument.startswith("run_dir")]
    done = subprocess.run(
        arguments, cwd=folder, capture_output=True, text=True, check=False, timeout=60,
        env=own_environment() | environment,
    )  # fmt: skip
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_a_local_rank_left_by_another_training_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert RankInfo.detect(devices=2, num_nodes=1).world == 2
    assert "LOCAL_RANK=0 is set" in caplog.text
    caplog.clear()
    monkeypatch.setenv("WORLD_SIZE", "2")  # as whoever starts the ranks sets it
    assert RankInfo.detect(devices=2, num_nodes=1).world == 2
    assert not caplog.text
