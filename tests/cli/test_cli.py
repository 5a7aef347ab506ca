"""The verbs that ask things of finished runs, as a user types them."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import torch
from gensim.models import KeyedVectors

from skiplight.cli.verbs import VERBS, main
from skiplight.config.schema import Config
from skiplight.config.validate import iterate_options
from skiplight.corpus.vocabulary import Vocabulary
from skiplight.vectors.word_vectors import WordVectors
from tests.support.runs import command, train_arguments
from tests.support.texts import write_texts

WORDS = ["the", "king", "queen", "man", "woman", "tiger", "cat"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    table = torch.randn(len(WORDS), 8, generator=torch.Generator().manual_seed(0))
    table[2] = table[1] - table[3] + table[4]
    WordVectors(Vocabulary(WORDS, range(70, 0, -10)), table, table.clone()).save(tmp_path / "run" / "vectors")
    return tmp_path / "run"


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"]):
        text = said(capsys, *arguments)
        assert all(f"  {verb} " in text for verb in VERBS)
    assert said(capsys, "--version").startswith("skiplight ")


def test_help_on_options_is_by_group(capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, "train", "--help")
    assert all(re.search(rf"^{field.name} ", shown, re.MULTILINE) for field in dataclasses.fields(Config))
    assert "noise=annealed_power" in shown
    assert "noise.exponent" not in shown
    assert all(len(line) <= 80 for line in shown.splitlines() if not line.startswith(("usage", "  ", "configs")))
    of_noise = said(capsys, "train", "--help", "noise")
    assert "noise.exponent=0.75   >= -10 <= 10" in of_noise
    assert "0 is uniform, 1 unigram" in of_noise
    assert "model.dim" not in of_noise
    assert "model.dim=100" in said(capsys, "train", "model.dim", "-h")
    assert said(capsys, "train", "--help", "optim.schedule") == said(capsys, "train", "--help", "optim/schedule")
    every = said(capsys, "train", "--help", "all")
    assert all(f"{name}" in every for name, _ in iterate_options())


def test_help_shows_what_presets_are_for(capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, "train", "--help", "experiment")
    assert "experiment=quickstart" in shown
    assert "The demo: 20 epochs" in shown
    assert main(["train", "--help", "nois"]) == 2
    assert "did you mean `noise`?" in capsys.readouterr().err


def test_neighbors_and_analogy(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(said(capsys, "neighbors", run, "king", "cat", "-k", 3, "--json"))
    assert list(found) == ["king", "cat"]
    assert len(found["king"]) == 3
    assert "king" in said(capsys, "neighbors", run, "king")
    (answers,) = json.loads(said(capsys, "analogy", run, "man", "woman", "king", "--json")).values()
    assert answers[0][0] == "queen"
    (answers,) = json.loads(said(capsys, "analogy", run, "Man", "WOMAN", "king", "--json")).values()
    assert answers[0][0] == "queen"


def test_words_are_found_in_another_case_and_an_unknown_one_leaves_the_others(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "KING: king" in said(capsys, "neighbors", run, "KING")
    assert main(["neighbors", str(run), "king", "kingg", "Cat", "--json"]) == 2
    out, error = capsys.readouterr()
    assert list(json.loads(out)) == ["king", "Cat"]
    assert "'kingg' is not in the vocabulary" in error


def test_evaluate(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("tiger cat 9\nking queen 8\nman tiger 1\n")
    results = json.loads(said(capsys, "evaluate", run, "--similarity", pairs, "--json"))
    assert list(results) == ["pairs"]
    assert results["pairs"]["pairs"] == 3
    assert "only 3 pairs" in said(capsys, "evaluate", run, "--similarity", pairs)


def test_export_is_read_by_gensim(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "vectors.bin"
    assert str(path) in said(capsys, "export", run, "--format", "word2vec-binary", "--output", path)
    assert KeyedVectors.load_word2vec_format(path, binary=True).index_to_key == WORDS


@pytest.mark.parametrize(("options", "unbuffered"), [(["--json"], ""), (["--json"], "1"), ([], "")])
def test_it_ends_quietly_where_nobody_reads_on(run: Path, options: list[str], unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as nowhere:
        done = subprocess.run(
            command("neighbors", str(run), "king", *options),
            stdout=nowhere, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown verb `trian`"),
        (["neighbors", "RUN", "kingg"], "did you mean 'king'"),
        (["neighbors", "/no/such/run", "king"], "no vectors in /no/such/run"),
        (["resume", "/no/such/run"], "/no/such/run is not a run"),
    ],
)
def test_wrong_input_is_one_line_that_says_what_to_do(
    run: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run) if argument == "RUN" else argument for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("skiplight: error: ")


def test_runs_are_listed_with_their_scores_and_states(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = write_texts(tmp_path / "texts", files=1, documents=30, words=300)
    for name, code in (("whole", 0), ("study/0", 0), ("diverged", 2)):
        options = ["optim.lr=1e38"] * (name == "diverged")
        run = tmp_path / "runs" / name
        assert main(train_arguments(texts, tmp_path, run, "data.heldout=0.1", "trainer.max_epochs=1", *options)) == code
    (tmp_path / "runs" / "none" / "wandb").mkdir(parents=True)
    capsys.readouterr()
    found = {run["name"]: run for run in json.loads(said(capsys, "runs", tmp_path / "runs", "--json"))}
    assert {name: run["state"] for name, run in found.items()} == {
        "whole": "finished",
        "study/0": "finished",
        "diverged": "failed",
    }
    assert found["whole"]["scores"]["heldout/perplexity"] > 1
    assert found["whole"]["engine"] == "fused"
    assert found["whole"]["size"] > 1000
    assert "study/0" in said(capsys, "runs", tmp_path / "runs")
    assert "there is no run in" in said(capsys, "runs", tmp_path / "texts")
