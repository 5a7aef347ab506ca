"""Training leaves a page, `skiplight report` makes it anew, and no page is a reason for a training to fail."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skiplight.cli import main
from skiplight.config.schema import Config
from skiplight.corpus.vocabulary import Vocabulary
from skiplight.report.curves import POINTS, run_curves
from skiplight.report.run import show_finished_run
from skiplight.training.run_folder import RunFolder, TrialInfo
from skiplight.vectors.word_vectors import WordVectors
from tests.support.runs import metrics, train_arguments
from tests.support.texts import write_texts

SUMMARY: dict[str, Any] = {"tokens": 10, "evaluation": {}}


def shown(run: Path) -> dict[str, Any]:
    """What a page holds."""
    page = (run / "report.html").read_text(encoding="utf-8")
    return json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_texts(folder / "texts")
    words = (folder / "texts" / "0.txt").read_text().split()
    (folder / "pairs.tsv").write_text("".join(f"{words[0]}\t{word}\t{n}\n" for n, word in enumerate(words[1:9])))
    return folder


def test_a_run_leaves_a_page_and_report_adds_tsne(folder: Path) -> None:
    run = folder / "run"
    (folder / "foreign.tsv").write_text("no\tsuch\t1\n")
    options = [
        f"evaluation.similarity=[{folder / 'pairs.tsv'},{folder / 'foreign.tsv'}]",
        "data.heldout=0.2",
        "noise.exponent=0.5",
    ]
    assert main(train_arguments(folder / "texts" / "*.txt", folder, run, *options)) == 0
    at_once = shown(run)
    assert set(at_once["map"]["layouts"]) == {"PCA"}
    assert main(["report", str(run)]) == 0
    later = shown(run)
    assert set(later["map"]["layouts"]) == {"PCA", "t-SNE"}
    del at_once["map"]["layouts"], later["map"]["layouts"]
    assert later | {"summary": {}} == at_once | {"summary": {}}
    summary = json.loads((run / "summary.json").read_text())
    assert later["summary"] == summary == {"format": 1, **at_once["summary"]}
    assert later["metrics"] == metrics(run)
    assert {name: len(pairs) for name, pairs in later["similarity"].items()} == {
        "pairs": summary["evaluation"]["pairs"]["pairs"]
    }
    vectors = WordVectors.load(run)
    assert later["map"]["words"] == vectors.vocabulary.words
    changed = {option["name"]: option["value"] for option in later["settings"] if option["changed"]}
    assert changed["noise.exponent"] == "0.5"
    assert "sampling.window" not in changed


def test_pairs_stand_beside_their_cosines(folder: Path) -> None:
    """Spearman's correlation of what the page shows is the score."""
    page = shown(folder / "run")
    people, cosines = np.array([[pair[2], pair[3]] for pair in page["similarity"]["pairs"]]).T
    ranks = [values.argsort().argsort() for values in (people, cosines)]
    assert np.corrcoef(*ranks)[0, 1] == pytest.approx(page["summary"]["evaluation"]["pairs"]["score"])
    nearer = np.array([pair[4] for pair in page["similarity"]["pairs"]])
    assert nearer == pytest.approx((ranks[1] - ranks[0]) / (len(people) - 1), abs=1e-4)


def finished(folder: Path) -> tuple[RunFolder, WordVectors]:
    run = RunFolder(folder / "run")
    run.create(Config())
    return run, WordVectors(Vocabulary(["a", "b", "c"], np.array([3, 2, 1])), torch.eye(3))


def test_a_page_that_cannot_be_written_is_told_and_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run, vectors = finished(tmp_path)
    (run.report / "full").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        show_finished_run(run, Config(), SUMMARY, vectors, None)
    assert "the page was not written" in caplog.text
    assert str(run.report) in caplog.text
    run.report.joinpath("full").rmdir()
    run.report.rmdir()
    show_finished_run(run, Config(), SUMMARY, vectors, None)
    assert shown(run.path)["map"]["words"] == ["a", "b", "c"]


def test_runs_of_which_there_are_many_make_no_page_of_their_own(tmp_path: Path) -> None:
    run, vectors = finished(tmp_path / "runs")
    part = TrialInfo("study", "0" * 16, "..", 0)
    run.trial.write_text(json.dumps(dataclasses.asdict(part)))
    assert run.trial_info == part
    show_finished_run(run, Config(), SUMMARY, vectors, None)
    assert not run.report.exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: run.summary.unlink(), "is not finished"),
        (lambda run: run.config_file.unlink(), "neither a study nor a multirun"),
        (
            lambda run: WordVectors(Vocabulary(["a"], np.array([1])), torch.tensor([[math.nan]])).save(run.vectors),
            "not finite",
        ),
    ],
)
def test_what_is_no_finished_run_has_no_page(
    tmp_path: Path, damage: Any, message: str, capsys: pytest.CaptureFixture
) -> None:
    run, vectors = finished(tmp_path)
    run.write_summary(SUMMARY)
    vectors.save(run.vectors)
    damage(run)
    assert main(["report", str(run.path)]) == 2
    assert message in capsys.readouterr().err
    assert not run.report.exists()


def test_a_metric_is_for_studies_only(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run, _ = finished(tmp_path)
    assert main(["report", str(run.path), "--metric", "loss"]) == 2
    assert "--metric loss is for a study" in capsys.readouterr().err


def test_curves_are_thinned_to_the_means_of_neighbouring_lines(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    lines = [{"tokens": 10 * n, "seconds": n / 2, "pairs": n, "train/loss": n % 2, "lr": 1} for n in range(1, 501)]
    lines.insert(77, {"tokens": 770, "seconds": 38.5, "pairs": 77, "heldout/perplexity": 9.5})
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"tokens": ')
    curves = run_curves(run)
    assert set(curves) == {"train/loss", "heldout/perplexity"}
    assert curves["heldout/perplexity"] == [[770], [38.5], [77], [9.5]]
    tokens, seconds, pairs, values = curves["train/loss"]
    assert len(tokens) == len(seconds) == len(pairs) == len(values) <= POINTS
    assert (tokens[-1], seconds[-1], pairs[-1]) == (5000, 250, 500)
    assert all(0.4 < value < 0.6 for value in values[:-1])
    assert run_curves(RunFolder(tmp_path / "none")) == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one", "one"], "a run is given twice"),
        (["one", "two"], "two is not a run: it has no config.yaml"),
        (["one", "--output", "x.html"], "is for several runs"),
        (["one", "two", "--metric", "loss"], "leave it out, or give one folder"),
    ],
)
def test_what_cannot_be_overlaid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    RunFolder("one").create(Config())
    assert main(["report", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.html"))


def test_a_damaged_comparison_is_told_apart_from_an_unfinished_one(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "comparison.yaml").write_text("{format: 2, id: a, compare: {views: null}}")
    assert main(["report", str(tmp_path)]) == 2
    assert "trials.csv is missing" in capsys.readouterr().err
    (tmp_path / "trials.csv").write_text("number,run\n0,x\n")
    assert main(["report", str(tmp_path)]) == 2
    assert "damaged comparison" in capsys.readouterr().err
