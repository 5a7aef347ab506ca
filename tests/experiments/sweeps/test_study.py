"""The journal, heartbeats and pruning of a study, without trainings: what a killed process leaves for the others."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import threading
from pathlib import Path

import pytest
from optuna.trial import TrialState

from skiplight.config.compose import compose
from skiplight.errors import ConfigError, RunError, UnwritableError
from skiplight.experiments import heartbeat
from skiplight.experiments.collect import collect_trials
from skiplight.experiments.executor import train_claimed_trial
from skiplight.experiments.processes import ProcessResult
from skiplight.experiments.resources import Resources
from skiplight.experiments.sweeps.journal import cut_torn_line
from skiplight.experiments.sweeps.pruning import should_prune
from skiplight.experiments.sweeps.study import JOURNAL_FILE, Study, StudyTrial
from skiplight.experiments.sweeps.summary import write_study_report
from skiplight.experiments.worker import train_folder
from skiplight.training.run_folder import RunFolder

SPACE = "study.space={noise.exponent: {low: -1, high: 1}, noise.negatives: [5, 15]}"


def create_study(folder: Path, *options: str, limit: int | None = None) -> Study:
    return Study.create_or_load(folder, compose([SPACE, *options]), limit)


def claim_in_a_process_that_ends(run: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=heartbeat.claim_run, args=(run,))
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize("sampler", ["tpe", pytest.param("random", marks=pytest.mark.slow)])
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


def test_no_trial_is_pruned_during_the_warm_up(tmp_path: Path) -> None:
    scores = [[0.1 * n, 0.1 * n, 0.1 * n] for n in range(1, 7)] + [[0.0, 0.0, 0.0]]
    # A trial of halving comes to its next rung at evaluation 6.
    for pruner, pruned in (("median", [False, True, True]), ("halving", [False, True, False])):
        study = create_study(tmp_path / pruner, f"study.pruner={pruner}", "evaluation.every=100", "study.warmup=1")
        report_scores(study, scores)
        assert [should_prune(study, 6, 100 * at) for at in (1, 2, 3)] == pruned
        late = create_study(
            tmp_path / f"{pruner}-late", f"study.pruner={pruner}", "evaluation.every=100", "study.warmup_trials=7"
        )
        report_scores(late, scores)
        assert not any(should_prune(late, 6, 100 * at) for at in (1, 2, 3))


def end_with(study: Study, trial: StudyTrial, loss: float) -> None:
    write_summary(trial.run, loss=loss)
    study.finish(trial, ProcessResult("finished"))


def test_the_best_points_are_trained_again_with_fresh_seeds(tmp_path: Path) -> None:
    options = ["study.metric=loss", "study.confirm=2", "study.seeds=2", "seed=10", "study.sampler=random"]
    study, losses = create_study(tmp_path, *options, limit=4), {0: 3.0, 1: 2.0, 2: 1.0, 3: 4.0}
    for number in range(8):
        trial = study.claim()
        assert trial is not None
        assert trial.number == number
        if number == 7:
            other = create_study(tmp_path, *options, limit=4)
            assert other.claim() is None
            assert other.is_waiting(), "the trial that another one trains may be among the best"
        end_with(study, trial, losses[number // 2] + 0.1 * (number % 2))
    confirming, seeds = [], []
    while (trial := create_study(tmp_path, *options, limit=4).claim()) is not None:
        confirming.append(study.trials[trial.number].user_attrs["confirms"])
        seeds.append(RunFolder(trial.run).config().seed)
        assert trial.params == study.trials[confirming[-1]].params
        end_with(study, trial, 2.5 if confirming[-1] == 4 else 2.0)
    assert confirming == [4, 4, 4, 2, 2, 2]
    assert seeds == [12, 13, 14, 12, 13, 14], "none of those that the search used"
    trials, best = write_study_report(tmp_path)
    assert [row.state for row in trials.rows] == ["complete"] * 8 + ["confirmation"] * 6
    assert [average.mean["loss"] for average in trials.average_confirmations()] == [2.0, 2.5]
    assert best is not None
    assert f"exponent: {study.trials[2].params['noise.exponent']}" in best.read_text(), "the best by the fresh seeds"
    assert "## Confirmation" in (tmp_path / "report.md").read_text()
    more = create_study(tmp_path, *options, limit=5).claim()
    assert more is not None
    assert more.params not in [trial.params for trial in study.trials[:14]], "goes on with the search"
    with pytest.raises(ConfigError, match="trains the best points again with fresh seeds: give one metric"):
        create_study(tmp_path / "two", "study.confirm=1", "study.metric=[loss,seconds/train]")


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


def finished_study(folder: Path) -> Study:
    """A study of four trials: one complete, one failed, one complete, one whose process has died."""
    study = create_study(folder, "study.metric=loss")
    for number in range(4):
        trial = study.claim()
        assert trial is not None
        if number == 1:
            study.finish(trial, ProcessResult("failed", "no text"))
        elif number < 3:
            write_summary(trial.run, loss=2.5 - number)
            study.finish(trial, ProcessResult("finished"))
        else:
            claim_in_a_process_that_ends(trial.run)
    return study


def write_summary(run: Path, loss: float) -> None:
    metrics = dict.fromkeys(("words_per_second", "effective_words_per_second", "pairs_per_second"), 1)
    seconds = dict.fromkeys(("train", "evaluate", "total"), 1.0)
    RunFolder(run).write_summary({"evaluation": {}, "seconds": seconds, "loss": loss, **metrics})


def table(folder: Path) -> list[tuple]:
    rows = collect_trials(folder).rows
    return [(row.number, row.state, sorted(row.params.items()), row.metrics.get("loss")) for row in rows]


def test_a_damaged_journal_is_named_or_gives_the_same_table(tmp_path: Path) -> None:
    journal = finished_study(tmp_path).folder / JOURNAL_FILE
    whole = table(tmp_path)
    assert [row[1] for row in whole] == ["complete", "failed", "complete", "unfinished"]
    lines = journal.read_bytes().splitlines(keepends=True)
    count = len(lines)
    damages = [lines[:n] for n in range(0, count, 2)] + [[*lines[:n], *lines[n + 1 :]] for n in range(0, count, 3)]
    damages += [[*lines[: n + 1], lines[n], *lines[n + 1 :]] for n in range(0, count, 4)]
    damages += [[*lines[:n], lines[n + 1], lines[n], *lines[n + 2 :]] for n in range(0, count - 1, 4)]
    data = b"".join(lines)
    for bit in range(5, 8 * len(data), 8 * len(data) // 15):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        damages.append([bytes(flipped)])
    damages += [[b""], [b"\0" * 100 + b"\n"], [b"[" * 100_000 + b"\n"], [data, b'{"op_code": 5, "work']]
    found = 0
    for damage in damages:
        journal.write_bytes(b"".join(damage))
        try:
            assert table(tmp_path) == whole
        except RunError as error:
            found += "journal.log is damaged" in str(error)
    assert found > len(damages) * 0.8
    journal.write_bytes(data)
    assert table(tmp_path) == whole
    write_summary(tmp_path / "0", loss=2.25)
    with pytest.raises(RunError, match=r"has loss 2.25, and the study has recorded 2.5"):
        table(tmp_path)


def test_a_study_whose_journal_has_no_checksums_goes_on(tmp_path: Path) -> None:
    journal = finished_study(tmp_path).folder / JOURNAL_FILE
    whole = table(tmp_path)
    plain = [re.sub(',"check":"[0-9a-f]+"', "", line) for line in journal.read_text().splitlines(keepends=True)]
    journal.write_text("".join(plain))
    assert table(tmp_path) == whole
    trial = create_study(tmp_path, "study.metric=loss").claim()
    assert trial is not None
    assert trial.number == 3, "the one whose process has died"
    assert create_study(tmp_path, "study.metric=loss").claim().number == 4  # type: ignore[union-attr]
    assert "check" in journal.read_text()
    assert [row[:2] for row in table(tmp_path)[3:]] == [(3, "running"), (4, "running")]


def test_a_trial_that_another_process_took_over_is_not_called_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that `finish_elsewhere` is surely called before the training has found that it has no text.
    monkeypatch.setattr("skiplight.experiments.processes.POLL_SECONDS", 0.005)
    options = ["study.metric=loss", "data=files", f"data.path={tmp_path / 'none.txt'}"]
    study, other = create_study(tmp_path, *options), create_study(tmp_path, *options)
    trial = study.claim()
    assert trial is not None
    about = json.loads((trial.run / heartbeat.HEARTBEAT_FILE).read_text())
    (trial.run / heartbeat.HEARTBEAT_FILE).write_text(json.dumps(about | {"start": "1"}))  # as if this process had died
    taken = other.claim()
    assert taken is not None
    assert taken.number == trial.number
    with RunFolder(trial.run).locked():
        assert train_folder(trial.run, lock_wait=0).state == "busy"
    assert other.finish(taken, ProcessResult("busy", "is being trained")) == "is being trained"
    assert study.trials[0].state == TrialState.RUNNING

    def finish_elsewhere() -> bool:
        write_summary(trial.run, loss=1.5)
        return False

    result = train_claimed_trial(trial, Resources(), finish_elsewhere)  # there is no text that it could be trained on
    assert result.state == "finished"
    assert study.finish(trial, result) == "loss 1.5"
    assert other.finish(taken, result) == "loss 1.5", "recorded once, though both have seen its end"
    assert table(tmp_path) == [(0, "complete", sorted(trial.params.items()), 1.5)]


def test_a_heartbeat_that_is_damaged_or_of_another_process_does_no_harm(tmp_path: Path) -> None:
    heartbeat.claim_run(tmp_path)
    about = (tmp_path / heartbeat.HEARTBEAT_FILE).read_text()
    (tmp_path / heartbeat.HEARTBEAT_FILE).write_text(about.replace(f": {os.getpid()}", ": 1"))
    heartbeat.release_run(tmp_path)
    assert (tmp_path / heartbeat.HEARTBEAT_FILE).exists(), "another process has taken it over"
    for text in ("", "[]", "{", "[" * 5000, '{"machine": 1, "pid": "x"}'):
        (tmp_path / heartbeat.HEARTBEAT_FILE).write_text(text)
        assert heartbeat.find_holder(tmp_path) is None
    heartbeat.release_run(tmp_path)
    assert not (tmp_path / heartbeat.HEARTBEAT_FILE).exists()


def test_the_noise_sweep_is_a_grid_with_common_seeds(tmp_path: Path) -> None:
    study = Study.create_or_load(tmp_path, compose(["experiment=noise_sweep"]))
    assert study.limit == 36
    trials = [study.claim() for _ in range(4)]
    assert [RunFolder(trial.run).config().seed for trial in trials if trial] == [0, 1, 2, 0]
    assert [trial.params for trial in trials if trial][:3] == [study.trials[0].params] * 3
