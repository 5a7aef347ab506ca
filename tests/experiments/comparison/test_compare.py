"""A comparison trains its planned runs, continues from those that exist, and its findings follow from the results."""

from __future__ import annotations

import csv
import json
import logging
import math
import re
import shutil
from pathlib import Path

import pytest
import yaml

from skiplight import compare
from skiplight.cli import main
from skiplight.config.compose import compose, quote_value
from skiplight.errors import ConfigError, RunError
from skiplight.experiments.comparison.plan import Plan
from tests.support.runs import SMALL, Running, kill_when, metrics, skiplight
from tests.support.texts import write_texts

VIEWS = (
    "compare.views={same: {title: under one engine, fixed: ['engine=autograd'], "
    "search: {others: [['optim.lr=0.05']], full: [['optim.lr=0.05'], ['optim.lr=0.1']]}}}"
)
VARIANTS = "compare.variants={ns: [], full: ['objective=full_softmax'], nce: ['objective=nce']}"


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("texts"))


def arguments(texts: Path, folder: Path) -> list[str]:
    data = ["data=files", f"data.path='{texts}'", f"data.store={folder / 'stores'}", "data.heldout=0.1"]
    # 600 held-out words would do; the runs are of a document or two of their own.
    small = [option for option in SMALL if not option.startswith("data.block_tokens")]
    return [
        *data,
        *small,
        "data.block_tokens=500",
        "trainer.max_epochs=2",
        "compare.seeds=2",
        "compare.points=4",
        VIEWS,
        VARIANTS,
    ]


@pytest.fixture(scope="module")
def compared(texts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison."""
    folder = tmp_path_factory.mktemp("compared")
    compare(*arguments(texts, folder), run_dir=folder / "comparison")
    return folder / "comparison"


def trials(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_comparison_has_a_page_and_its_runs_have_theirs_when_asked(compared: Path) -> None:
    assert [page.parent for page in compared.rglob("report.html")] == [compared]
    page = (compared / "report.html").read_text()
    (compared / "report.html").unlink()
    assert main(["report", str(compared)]) == 0
    assert (compared / "report.html").read_text() == page


def test_every_variant_is_trained_from_every_seed_as_its_search_found(compared: Path) -> None:
    rows = trials(compared)
    searched = [row for row in rows if row["kind"] == "search"]
    assert [(row["variant"], row["chosen"]) for row in searched] == [
        ("full", "optim.lr=0.05"),
        ("full", "optim.lr=0.1"),
    ]
    # On other held-out text than what is reported.
    found = min(searched, key=lambda row: float(row["validation/perplexity"]))
    assert {row["validation/perplexity"] for row in searched}.isdisjoint(row["heldout/perplexity"] for row in searched)
    best, runs = found["chosen"], [row for row in rows if row["kind"] == "run"]
    first = next(row for row in runs if row["variant"] == "full")
    assert first["run"] == found["run"]  # which `compare.search=1` trained whole
    assert [(row["variant"], row["seed"]) for row in runs] == [(v, s) for v in ("ns", "full", "nce") for s in "01"]
    assert {row["chosen"] for row in runs if row["variant"] == "full"} == {best}
    assert {row["engine"] for row in runs} == {"autograd"}
    tokens: dict[str, set] = {"0": set(), "1": set()}
    for row in runs:
        lines = [line for line in metrics(compared / row["run"]) if "heldout/perplexity" in line]
        assert len(lines) == 4
        assert lines[-1]["heldout/perplexity"] == pytest.approx(float(row["heldout/perplexity"]))
        assert not (compared / row["run"] / "checkpoints").exists()
        tokens[row["seed"]].add(tuple((line["tokens"], line["pairs"]) for line in lines))
    # Evaluated at the same positions, after the same windows, whatever the objective.
    assert [len(positions) for positions in tokens.values()] == [1, 1]


def test_the_findings_are_those_of_the_runs(compared: Path) -> None:
    text = (compared / "findings.md").read_text()
    assert "under one engine" in text
    assert (compared / "same.png").read_bytes().startswith(b"\x89PNG")
    runs = [row for row in trials(compared) if row["kind"] == "run"]
    mean = {
        v: math.exp(sum(float(row["heldout/loss"]) for row in runs if row["variant"] == v) / 2)
        for v in ("ns", "full", "nce")
    }
    best = min(mean, key=mean.__getitem__)
    assert f"held-out perplexity: {best} ends best at {mean[best]:,.1f}" in text
    summary = json.loads((compared / runs[0]["run"] / "summary.json").read_text())
    pairs = summary["evaluation"]["heldout"]["pairs"]
    assert (f"held-out perplexity, {pairs:,} pairs" in text) == (pairs > 0)
    assert ("too few for a claim" in text) == (pairs < 1_000)
    assert "on 50% of the held-out text" in text
    assert "full: the best learning rate" in text  # of two, it is always an edge


def test_a_finished_comparison_is_not_repeated_and_another_is_refused(texts: Path, compared: Path) -> None:
    same = arguments(texts, compared.parent)
    before = {path: path.stat().st_mtime_ns for path in compared.glob("runs/*/summary.json")}
    compare(*same, run_dir=compared)
    assert {path: path.stat().st_mtime_ns for path in compared.glob("runs/*/summary.json")} == before
    with pytest.raises(ConfigError, match=r"the comparison in .* began with `model.dim=\d+`, not with 8"):
        compare(*same, "model.dim=8", run_dir=compared)
    with pytest.raises(RunError, match="is not a comparison"):
        compare(*same, run_dir=compared.parent)


def test_where_a_rate_is_edited_the_other_runs_are_taken_over(
    texts: Path, compared: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(compared, tmp_path / "comparison")
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/summary.json")}
    edited = [option.replace("['optim.lr=0.1']", "['optim.lr=0.07']") for option in arguments(texts, compared.parent)]
    with caplog.at_level(logging.INFO, "skiplight"):
        compare(*edited, run_dir=folder)
    assert "the runs of the same options are taken over" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in before} == before
    new = [path.parent.name for path in folder.glob("runs/*/summary.json") if path not in before]
    assert new
    assert all(name.startswith("full-") for name in new)
    assert "optim.lr=0.07" in {row["chosen"] for row in trials(folder) if row["kind"] == "search"}


def test_a_killed_comparison_continues_and_ends_as_the_undisturbed_one(
    texts: Path, compared: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "comparison"
    again = ["compare", *arguments(texts, compared.parent), f"run_dir={folder}"]
    kill_when(again, lambda: len(list(folder.glob("runs/*/summary.json"))) >= 3)
    done = skiplight(again)
    assert done.returncode == 0, done.stderr
    timing = ("number", "seconds", "words_", "pairs_", "effective_")
    wanted = [{k: v for k, v in row.items() if not k.startswith(timing)} for row in trials(compared)]
    assert [{k: v for k, v in row.items() if not k.startswith(timing)} for row in trials(folder)] == wanted
    assert "ends best" in done.stdout
    assert re.search(r"perplexity [\d.,]+; \d of \d+ runs, about \d+ s left  \(", done.stderr)


@pytest.mark.slow
def test_two_commands_with_two_workers_each_share_a_comparison(texts: Path, compared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "comparison"
    shared = ["compare", *arguments(texts, compared.parent), f"run_dir={folder}", "--workers", "2"]
    both = [Running(shared), Running(shared)]
    ended = [process.wait() for process in both]
    assert [done.returncode for done in ended] == [0, 0], ended
    begun = [line for done in ended for line in done.stderr.splitlines() if line.startswith("comparison: view")]
    runs = list((folder / "runs").iterdir())
    assert len(begun) == len(runs) == len(set(begun))  # each was trained once, by either
    assert not list(folder.rglob("heartbeat.json"))
    # Of one thread each, since two workers share two cores; the undisturbed one may have had more.
    table = [(row["variant"], row["kind"], row["seed"], row["state"], row["chosen"]) for row in trials(folder)]
    assert table == [(r["variant"], r["kind"], r["seed"], r["state"], r["chosen"]) for r in trials(compared)]


def test_a_run_that_ended_for_another_reason_is_resumed(texts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "comparison"
    options = [option for option in arguments(texts, tmp_path) if not option.startswith("compare.seeds")]
    compare(*options, "compare.seeds=1", run_dir=folder)
    run = next(path for path in sorted((folder / "runs").iterdir()) if (path / "summary.json").exists())
    (run / "summary.json").unlink()
    (run / "errors").mkdir(exist_ok=True)
    (run / "errors" / "0.txt").write_text("OSError: No space left on device")
    compare(*options, "compare.seeds=1", run_dir=folder)
    assert (run / "summary.json").exists()
    assert {row["state"] for row in trials(folder)} == {"complete"}


def test_one_that_diverges_is_recorded_and_the_others_continue(texts: Path, tmp_path: Path) -> None:
    wild = "[['optim.lr=1e30'], ['optim.lr=1e31']]"
    views = f"compare.views={{one: {{search: {{ns: [['optim.lr=1e30'], ['optim.lr=0.05']], hopeless: {wild}}}}}}}"
    variants = "compare.variants={ns: [], wild: ['optim.lr=1e30'], hopeless: ['seed=0']}"
    options = [o for o in arguments(texts, tmp_path) if not o.startswith(("compare.", "trainer.max_epochs"))]
    options = [*options, views, variants, "engine=autograd"]
    compare(*options, "trainer.max_epochs=1", "compare.seeds=1", "optim.name=adam", run_dir=tmp_path / "comparison")
    rows = trials(tmp_path / "comparison")
    state = {(row["variant"], row["kind"], row["chosen"]): row["state"] for row in rows}
    assert state["ns", "search", "optim.lr=1e30"] == "failed"
    assert state["ns", "run", "optim.lr=0.05"] == "complete"
    assert state["wild", "run", ""] == "failed"
    # Nor does one whose whole search diverges end the comparison.
    assert state["hopeless", "search", "optim.lr=1e31"] == "failed"
    assert not any(variant == "hopeless" and kind == "run" for variant, kind, _ in state)
    assert re.search(r"\| hopeless +\| failed: ", (tmp_path / "comparison" / "findings.md").read_text())
    # Which of the two is found first depends on the clock.
    assert re.search("failed: (the loss is|vectors are not)", (tmp_path / "comparison" / "findings.md").read_text())


def test_a_candidate_that_diverges_in_a_whole_run_gives_way_to_the_next_best(texts: Path, tmp_path: Path) -> None:
    candidates = "[['objective=full_softmax', 'optim.name=adam', 'optim.lr=3'], ['noise.exponent=-2', 'optim.lr=1e-6']]"
    options = [o for o in arguments(texts, tmp_path) if not o.startswith(("compare.v", "compare.seeds"))]
    options += ["engine=autograd", "compare.variants={one: []}", f"compare.views={{v: {{search: {candidates}}}}}"]
    compare(*options, "compare.search=0.01", "compare.seeds=2", run_dir=tmp_path / "comparison")
    rows = trials(tmp_path / "comparison")
    short, whole = rows[:2], rows[2:]
    assert float(short[0]["validation/perplexity"]) < float(short[1]["validation/perplexity"])
    bold, meek = "objective=full_softmax optim.name=adam optim.lr=3", "noise.exponent=-2 optim.lr=1e-6"
    assert [(row["kind"], row["chosen"], row["seed"], row["state"]) for row in whole] == [
        ("search", bold, "0", "failed"),
        ("run", meek, "0", "complete"),
        ("run", meek, "1", "complete"),
    ]
    findings = (tmp_path / "comparison" / "findings.md").read_text()
    assert "one: diverged with `objective=full_softmax` `optim.name=adam` `optim.lr=3`." in findings
    assert "failed:" not in findings


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("compare.variants={a: ['objective=sofmax']}", "'a' in view 'same'.*sofmax"),
        ("compare.variants={a: ['modle.dim=3']}", "unknown option `modle.dim`"),
        ("compare.variants={a: 'optim.lr=3'}", "give a list of overrides"),
        ("compare.variants={a b: [], a-b: []}", "rename one"),
        ("compare.views={v: {search: {b: [[]]}}}", "is for 'b', but there is no such variant"),
        ("compare.views={v: {serach: []}}", "has serach: it may have"),
        ("compare.seeds=0", "compare.seeds=0"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_training(option: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Plan(["data=vital", option], tokens=1000)


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    for name in ("it's mine", 'so "called"', "back\\slash", "it\\'s", "end\\", "a, [b]"):
        assert compose([f"run_dir={quote_value(str(tmp_path / name))}"]).run_dir == str(tmp_path / name)


def test_the_options_of_runs_do_not_hold_those_of_the_comparison(compared: Path) -> None:
    saved = (next(compared.glob("runs/*")) / "config.yaml").read_text()
    assert "compare:" not in saved
    assert yaml.safe_load((compared / "comparison.yaml").read_text())["compare"]["seeds"] == 2
