"""Promotion: which points go on from a rung, and that a trial which paused is as one that never did."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from skiplight.cli import main
from skiplight.config.compose import compose
from skiplight.errors import ConfigError
from skiplight.experiments.processes import ProcessResult
from skiplight.experiments.sweeps.points import is_paused
from skiplight.experiments.sweeps.promotion import bracket_sizes, rung_share
from skiplight.experiments.sweeps.study import Study, StudyTrial
from skiplight.training import fit
from skiplight.training.run_folder import RunFolder
from tests.support.runs import Running, left, skiplight, sweep_arguments
from tests.support.texts import write_texts

METRIC = "evaluation/wordsim353"
SPACE = "study.space={noise.exponent: {low: -1, high: 1}}"


def create_study(folder: Path, *options: str, limit: int | None = None) -> Study:
    return Study.create_or_load(folder, compose([SPACE, *options]), limit)


def score_of(trial: StudyTrial) -> float:
    """The score of a trial at every rung: the order of trials never changes, save for a little of the seed."""
    seed = RunFolder(trial.run).config().seed
    return round(-abs(trial.params["noise.exponent"] - 0.3) + 1e-4 * seed, 6)


def end(study: Study, trial: StudyTrial) -> None:
    """Let a trial come to its rung, or to its end, as its process would have left it."""
    rung = study.trials[trial.number].user_attrs.get("rung", study.config.study.rungs)
    if rung < study.config.study.rungs:
        line = {"tokens": 1000 * 3**rung, METRIC: score_of(trial)}
        with RunFolder(trial.run).metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")
        study.finish(trial, ProcessResult("paused", "paused"))
        return
    summary = dict.fromkeys(("loss", "words_per_second", "effective_words_per_second", "pairs_per_second"), 1)
    seconds = dict.fromkeys(("train", "evaluate", "total"), 1.0)
    evaluation = {"wordsim353": {"score": score_of(trial)}}
    RunFolder(trial.run).write_summary({"evaluation": evaluation, "seconds": seconds, **summary})
    study.finish(trial, ProcessResult("finished"))


def run_study(study: Study) -> list[tuple[int, int]]:
    """Run a study with one worker, and return the number and the rung of each trial as it was claimed."""
    claimed = []
    while (trial := study.claim()) is not None:
        claimed.append((trial.number, study.trials[trial.number].user_attrs["rung"]))
        end(study, trial)
    return claimed


def test_asha_carries_the_best_third_on_from_every_rung(tmp_path: Path) -> None:
    study = create_study(tmp_path, "study.pruner=asha", "study.sampler=random", "study.rungs=2", limit=27)
    claimed = run_study(study)
    at = {rung: [number for number, to in claimed if to == rung] for rung in range(3)}
    assert at[0] == list(range(27))
    assert len(claimed) == len(set(claimed)), "no part of a trial is trained twice"
    best = sorted(range(27), key=lambda number: -score_of_number(study, number))
    assert set(best[:9]) <= set(at[1]), "every point that ends in the best third is promoted"
    assert best[0] in at[2]
    assert len(at[1]) < 27 / 2
    assert len(at[2]) < 27 / 4
    assert claimed.index((at[1][0], 1)) < claimed.index((26, 0)), "promotes before all points have begun"
    states = [trial.state.name for trial in study.trials]
    assert states.count("COMPLETE") == len(at[2])
    assert sum(map(is_paused, study.trials)) == 27 - len(at[2])
    assert not study.is_waiting()
    assert study.claim() is None


def score_of_number(study: Study, number: int) -> float:
    return score_of(StudyTrial(number, study.run(number), "", "", study.trials[number].params))


def test_hyperband_promotes_when_all_of_a_bracket_have_come_to_the_rung(tmp_path: Path) -> None:
    study = create_study(tmp_path, "study.pruner=hyperband", "study.rungs=2", "study.sampler=random", limit=17)
    claimed = run_study(study)
    assert bracket_sizes(2) == [9, 5, 3]
    assert claimed[:9] == [(number, 0) for number in range(9)]
    best = sorted(range(9), key=lambda number: -score_of_number(study, number))
    assert [number for number, _ in claimed[9:12]] == best[:3]
    assert claimed[12] == (best[0], 2)
    assert claimed[13:18] == [(number, 1) for number in range(9, 14)]
    assert [rung for number, rung in claimed if number >= 14] == [2, 2, 2], "the last bracket is of whole runs"


@pytest.mark.parametrize("pruner", ["asha", "hyperband"])
def test_a_study_of_few_points_ends_with_one_that_was_trained_to_the_end(tmp_path: Path, pruner: str) -> None:
    study = create_study(tmp_path, f"study.pruner={pruner}", "study.rungs=3", limit=4)
    claimed = run_study(study)
    best = max(range(4), key=lambda number: score_of_number(study, number))
    assert (best, 3) in claimed
    assert [trial.state.name for trial in study.trials].count("COMPLETE") == 1
    more = create_study(tmp_path, f"study.pruner={pruner}", "study.rungs=3", limit=12)
    assert run_study(more)[0][0] in range(12), "goes on with more points"
    assert len(more.trials) == 12


@pytest.mark.parametrize("pruner", ["asha", pytest.param("hyperband", marks=pytest.mark.slow)])
@pytest.mark.parametrize("sampler", ["tpe", pytest.param("random", marks=pytest.mark.slow)])
def test_killed_anywhere_the_same_points_are_promoted(tmp_path: Path, pruner: str, sampler: str) -> None:
    options = [f"study.pruner={pruner}", f"study.sampler={sampler}", "study.rungs=2", "study.seeds=2"]
    undisturbed, chance = create_study(tmp_path / "undisturbed", *options, limit=12), random.Random(0)
    expected = run_study(undisturbed)
    claimed, study = [], create_study(tmp_path / "killed", *options, limit=12)
    while (trial := study.claim()) is not None:
        claimed.append((trial.number, study.trials[trial.number].user_attrs["rung"]))
        if chance.random() < 0.4:  # its process is gone before it has come to its rung
            (trial.run / "heartbeat.json").unlink()
            study = create_study(tmp_path / "killed", *options, limit=12)
            again = study.claim()
            assert again == trial
        end(study, trial)
    assert claimed == expected
    assert [t.params for t in study.trials] == [t.params for t in undisturbed.trials]
    assert [t.values for t in study.trials] == [t.values for t in undisturbed.trials]


@pytest.mark.parametrize(("pruner", "limit"), [("asha", 9), ("hyperband", 17), ("hyperband", 4), ("none", 5)])
def test_the_share_of_the_work_that_is_done_grows_to_one(tmp_path: Path, pruner: str, limit: int) -> None:
    options = [f"study.pruner={pruner}", "study.sampler=random", "study.rungs=2"]
    study, shares = create_study(tmp_path, *options, limit=limit), []
    best = None
    while (trial := study.claim()) is not None:
        assert (
            trial.rung
            == {0: "1 of 2", 1: "2 of 2", 2: "the end", None: ""}[study.trials[trial.number].user_attrs.get("rung")]
        )
        end(study, trial)
        best = max(best or -2, score_of(trial))
        progress = study.progress()
        assert progress.share is not None
        shares.append(progress.share)
    assert shares == sorted(shares)
    assert shares[0] < 0.3
    assert shares[-1] == pytest.approx(1, abs=0.15), "asha promotes some that hindsight would not"
    assert progress.text.startswith(f"{limit} of {limit} trials begun: ")
    assert re.fullmatch(rf"trial \d+, {METRIC} {best:.4g}", progress.best)


def test_the_seeds_of_a_point_are_common_and_are_promoted_together(tmp_path: Path) -> None:
    options = ["study.pruner=asha", "study.rungs=1", "study.seeds=3", "study.sampler=random", "seed=5"]
    study = create_study(tmp_path, *options, limit=6)
    claimed = run_study(study)
    assert [number for number, rung in claimed if rung == 0] == list(range(18))
    for point in range(6):
        numbers = range(3 * point, 3 * point + 3)
        assert len({study.trials[number].params["noise.exponent"] for number in numbers}) == 1
        assert [RunFolder(study.run(number)).config().seed for number in numbers] == [5, 6, 7]
        ends = {study.trials[number].state.name for number in numbers}
        assert len(ends) == 1
    assert {number // 3 for number, rung in claimed if rung == 1} == {
        number // 3 for number, trial in enumerate(study.trials) if trial.state.name == "COMPLETE"
    }


def test_a_worker_waits_only_while_another_is_on_its_way_to_a_rung(tmp_path: Path) -> None:
    study = create_study(tmp_path, "study.pruner=hyperband", "study.rungs=1", limit=3)
    first, second, third = study.claim(), study.claim(), study.claim()
    assert first is not None
    assert second is not None
    assert third is not None
    end(study, first)
    end(study, second)
    assert study.claim() is None
    assert study.is_waiting()
    study.finish(third, ProcessResult("failed", "no text"))
    promoted = study.claim()
    assert promoted is not None
    assert promoted.number == max((0, 1), key=lambda number: score_of_number(study, number))
    study.finish(promoted, ProcessResult("busy", "is being trained by another process"))
    assert study.claim() is None
    assert not study.is_waiting(), "it would wait for ever for a trial whose heartbeat is its own"


def test_what_cannot_be_promoted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="with two metrics no trial is pruned"):
        create_study(tmp_path, "study.pruner=asha", f"study.metric=[{METRIC},seconds/train]")
    with pytest.raises(ConfigError, match="needs a metric of the evaluation, which loss is not"):
        create_study(tmp_path, "study.pruner=hyperband", "study.metric=loss")
    with pytest.raises(ConfigError, match="leave out `seed`"):
        Study.create_or_load(tmp_path, compose(["study.space={noise.exponent: [0, 1], seed: [0, 1]}", "study.seeds=2"]))


def test_a_study_that_still_runs_has_a_report_that_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = create_study(tmp_path / "study", "study.pruner=asha", "study.rungs=1", "study.sampler=random", limit=5)
    for _ in range(2):
        trial = study.claim()
        assert trial is not None
        end(study, trial)
    training = study.claim()
    assert training is not None
    half_made = study.folder / ".tmp-1-7"  # the folder of a trial that another process is making
    shutil.copytree(training.run, half_made)
    assert main(["report", str(study.folder)]) == 0
    assert f"trial {training.number}: running" in capsys.readouterr().out
    assert "3 trials: 2 paused, 1 running" in (study.folder / "report.md").read_text()
    assert "Trials were training when this was written" in (study.folder / "report.md").read_text()


STUDY = [
    "noise.exponent=interval(-1,1)", "study.metric=heldout/perplexity", "study.pruner=asha", "study.rungs=2",
    "trainer.max_epochs=3", "checkpoint.every=0.05", "--trials", "4",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("promotion")


@pytest.fixture(scope="module")
def texts(folder: Path) -> Path:
    return write_texts(folder / "texts", files=2, documents=60, words=400)


@pytest.fixture(scope="module")
def undisturbed(folder: Path, texts: Path) -> Path:
    done = skiplight(sweep_arguments(texts, folder, folder / "undisturbed", *STUDY))
    assert done.returncode == 0, done.stderr
    assert "paused after" in done.stderr
    return folder / "undisturbed"


def test_a_promoted_trial_is_bit_for_bit_one_that_never_paused(folder: Path, undisturbed: Path) -> None:
    rows = list(csv.DictReader((undisturbed / "trials.csv").open()))
    assert sorted(row["state"] for row in rows) == ["complete", "paused", "paused", "paused"]
    (number,) = [int(row["number"]) for row in rows if row["state"] == "complete"]
    run = RunFolder(undisturbed / str(number))
    assert (run.path / "output.log").read_text().count("going on from") == 3
    config = run.config()
    plain = RunFolder(folder / "plain")
    config.run_dir = str(plain.path)
    fit.train(config, plain.path)
    ours, expected = left(run.path), left(plain.path)
    assert ours[0] == expected[0], "the tables"
    assert ours[2]["evaluation"] == expected[2]["evaluation"]
    assert ours[2]["loss"] == pytest.approx(expected[2]["loss"], rel=1e-12)
    lines = [line["tokens"] for line in ours[1] if "heldout/perplexity" in line]
    total = expected[2]["tokens"]
    assert [tokens >= rung_share(rung, 2) * total for rung, tokens in enumerate(lines)] == [True] * 3
    assert [line["tokens"] for line in ours[1] if "train/loss" in line] == [
        line["tokens"] for line in expected[1] if "train/loss" in line
    ]
    waiting = [int(row["number"]) for row in rows if row["state"] == "paused"]
    assert all(list((undisturbed / str(n) / "checkpoints").glob("step-*")) for n in waiting)


def record(study: Path) -> list[tuple[Any, ...]]:
    return [(t.number, t.state.name, t.params, t.values, t.user_attrs) for t in Study.load(study).trials]


def kill_and_continue(folder: Path, texts: Path, undisturbed: Path, name: str, kills: int) -> None:
    study, chance, arguments = folder / name, random.Random(name), sweep_arguments(texts, folder, folder / name, *STUDY)
    for victim in range(kills):
        process = Running(arguments, session=True)
        while not (study / str(victim)).exists():
            assert process.poll() is None, process.wait().stderr
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 2))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = skiplight(arguments)
    assert done.returncode == 0, done.stderr
    assert record(study) == record(undisturbed)
    (number,) = [n for n, state, *_ in record(study) if state == "COMPLETE"]
    assert left(study / str(number)) == left(undisturbed / str(number))


def test_a_study_that_was_killed_equals_the_undisturbed_one(folder: Path, texts: Path, undisturbed: Path) -> None:
    kill_and_continue(folder, texts, undisturbed, "killed", 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["first", "second"])
def test_a_study_that_was_killed_three_times_equals_the_undisturbed_one(
    folder: Path, texts: Path, undisturbed: Path, name: str
) -> None:
    kill_and_continue(folder, texts, undisturbed, name, 3)


def test_two_workers_leave_no_trial_half_trained(folder: Path, texts: Path, undisturbed: Path) -> None:
    study = folder / "workers"
    done = skiplight([*sweep_arguments(texts, folder, study, *STUDY), "--workers", "2"])
    assert done.returncode == 0, done.stderr
    states = [row["state"] for row in csv.DictReader((study / "trials.csv").open())]
    assert states.count("complete") >= 1
    assert set(states) <= {"complete", "paused"}
    for number, state in enumerate(states):
        assert (study / str(number) / "vectors").exists() == (state == "complete")
