"""The journal, heartbeats and pruning of a study, without trainings: what a killed process leaves for the others."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from pathlib import Path

import pytest
from optuna.trial import TrialState

from skiplight.config.compose import compose
from skiplight.errors import ConfigError, RunError, UnwritableError
from skiplight.experiments import heartbeat
from skiplight.experiments.processes import ProcessResult
from skiplight.experiments.sweeps.journal import cut_torn_line
from skiplight.experiments.sweeps.pruning import should_prune
from skiplight.experiments.sweeps.study import JOURNAL_FILE, Study
from skiplight.training.run_folder import RunFolder

SPACE = "study.space={noise.exponent: {low: -1, high: 1}, noise.negatives: [5, 15]}"


def create_study(folder: Path, *options: str, limit: int | None = None) -> Study:
    return Study.create_or_load(folder, compose([SPACE, *options]), limit)


def claim_in_a_process_that_ends(run: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=heartbeat.claim_run, args=(run,))
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_dead_trial_is_resumed_and_the_next_are_those_of_an_undisturbed_study(tmp_path: Path, sampler: str) -> None:
    found = {}
    for name in ("undisturbed", "killed"):
        study = create_study(tmp_path / name, f"study.sampler={sampler}", limit=14)
        for number in range(14):
            trial = study.claim()
            assert trial is not None
            assert trial.number == number
            if name == "killed" and number % 3 == 0:
                claim_in_a_process_that_ends(trial.run)
                with (study.folder / JOURNAL_FILE).open("a") as file:
                    file.write('{"op_code": 5, "worker')
                study = create_study(tmp_path / name, f"study.sampler={sampler}", limit=14)
                assert study.claim() == trial
            value = -((trial.params["noise.exponent"] - 0.3) ** 2)
            study.storage.set_trial_state_values(study.trials[number]._trial_id, TrialState.COMPLETE, [value])
        assert study.claim() is None
        found[name] = [(trial.params, trial.values) for trial in study.trials]
    assert found["killed"] == found["undisturbed"]
    assert len({json.dumps(params) for params, _ in found["killed"]}) == 14


def test_a_trial_without_its_folder_is_created_again(tmp_path: Path) -> None:
    study = create_study(tmp_path)
    trial = study.claim()
    assert trial is not None
    for path in (trial.run / heartbeat.HEARTBEAT_FILE, trial.run / "config.yaml"):
        path.unlink()
    for path in sorted(trial.run.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    trial.run.rmdir()
    assert study.claim() == trial
    assert (trial.run / "config.yaml").exists()


def test_a_living_trial_is_left_alone_and_workers_that_start_together_get_different_ones(tmp_path: Path) -> None:
    studies = [create_study(tmp_path) for _ in range(4)]
    claimed: list[int] = []
    threads = [
        threading.Thread(target=lambda s=study: claimed.extend(s.claim().number for _ in range(3)))  # type: ignore[misc]
        for study in studies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == list(range(12))
    values = [trial.params["noise.exponent"] for trial in studies[0].trials]
    assert len(set(values)) == 12


def test_heartbeats_of_this_and_of_other_machines(tmp_path: Path) -> None:
    assert heartbeat.find_holder(tmp_path) is None
    heartbeat.claim_run(tmp_path)
    assert heartbeat.find_holder(tmp_path) == f"process {os.getpid()} on {os.uname().nodename}"
    about = json.loads((tmp_path / heartbeat.HEARTBEAT_FILE).read_text())
    # The number of a dead process may be another's by now.
    (tmp_path / heartbeat.HEARTBEAT_FILE).write_text(json.dumps(about | {"start": "1"}))
    assert heartbeat.find_holder(tmp_path) is None
    (tmp_path / heartbeat.HEARTBEAT_FILE).write_text(json.dumps(about | {"machine": "elsewhere", "host": "elsewhere"}))
    assert heartbeat.find_holder(tmp_path) == f"process {os.getpid()} on elsewhere"
    past = (tmp_path / heartbeat.HEARTBEAT_FILE).stat().st_mtime - heartbeat.DEAD_SECONDS
    os.utime(tmp_path / heartbeat.HEARTBEAT_FILE, (past, past))
    assert heartbeat.find_holder(tmp_path) is None
    heartbeat.refresh_heartbeat(tmp_path)
    assert heartbeat.find_holder(tmp_path) is not None


def test_a_torn_last_line_is_cut_off_and_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = tmp_path / "journal.log"
    journal.write_text('{"whole": 1}\n' + '{"half": "' + "x" * 9000)
    assert cut_torn_line(journal) == 9010
    assert "cut off a last line of 9010 bytes" in caplog.text
    assert journal.read_text() == '{"whole": 1}\n'
    assert cut_torn_line(journal) == 0


def test_another_space_than_it_began_with_is_refused(tmp_path: Path) -> None:
    create_study(tmp_path, "model.dim=8")
    create_study(tmp_path, "model.dim=8", "logger=none")
    with pytest.raises(ConfigError, match=r"began with `model.dim=8`, not with 9"):
        create_study(tmp_path, "model.dim=9")
    with pytest.raises(ConfigError, match=r"began with `study.space="):
        Study.create_or_load(tmp_path, compose(["study.space={noise.exponent: [0, 1]}", "model.dim=8"]))


def test_folders_that_cannot_hold_a_study(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a study: it has no study.yaml"):
        Study.load(tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(RunError, match="exists already and is not a study: choose another folder"):
        create_study(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UnwritableError, match="cannot be written: Not a directory"):
        create_study(tmp_path / "file" / "study")


def test_a_grid_ends(tmp_path: Path) -> None:
    study = Study.create_or_load(tmp_path, compose(["study.space={noise.exponent: [0, 1]}", "study.sampler=grid"]))
    claimed = [study.claim(), study.claim(), study.claim()]
    assert [trial and trial.params["noise.exponent"] for trial in claimed] == [0, 1, None]


def report_scores(study: Study, scores: list[list[float]]) -> None:
    """Claim trials and report these scores of their evaluations; complete all trials but the last."""
    for number, values in enumerate(scores):
        trial = study.claim()
        assert trial is not None
        trial_id = study.trials[number]._trial_id
        for index, value in enumerate(values, 1):
            study.storage.set_trial_intermediate_value(trial_id, 100 * index, value)
            should_prune(study, number, 100 * index)
        if number < len(scores) - 1:
            study.storage.set_trial_state_values(trial_id, TrialState.COMPLETE, values[-1:])


def test_median_pruning_at_the_same_tokens(tmp_path: Path) -> None:
    study = create_study(tmp_path, "study.pruner=median", "evaluation.every=100")
    report_scores(study, [[0.1 * n, 0.2 + 0.1 * n] for n in range(6)] + [[0.3, 0.4, 0.9]])
    assert not should_prune(study, 6, 100)
    assert should_prune(study, 6, 200), (
        "compared by its scores up to this step, though it has a better one from a later step"
    )


def test_successive_halving_lets_the_best_third_pass(tmp_path: Path) -> None:
    study = create_study(tmp_path, "study.pruner=halving", "evaluation.every=100")
    report_scores(study, [[0.1 * n] for n in range(6)] + [[0.55]])
    assert not should_prune(study, 6, 100)
    study.storage.set_trial_intermediate_value(study.trials[6]._trial_id, 100, 0.2)
    assert should_prune(study, 6, 100)
    assert should_prune(study, 6, 100), "the decision is the same after a kill"


def test_a_trial_whose_set_could_not_be_evaluated_has_failed(tmp_path: Path) -> None:
    study = create_study(tmp_path)
    trial = study.claim()
    assert trial is not None
    summary = {
        "evaluation": {"wordsim353": {"error": "no pair is in the vocabulary"}},
        "seconds": dict.fromkeys(("train", "evaluate", "total"), 1),
    } | dict.fromkeys(("loss", "words_per_second", "effective_words_per_second", "pairs_per_second"), 1)
    RunFolder(trial.run).write_summary(summary)
    said = study.finish(trial, ProcessResult("finished"))
    assert said == "failed: the run has no evaluation/wordsim353: no pair is in the vocabulary"
    (found,) = study.trials
    assert found.state == TrialState.FAIL
    assert "no evaluation/wordsim353: no pair is in the vocabulary" in found.user_attrs["error"]
