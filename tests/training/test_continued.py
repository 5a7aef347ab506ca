"""Training goes on from the vectors of another run, with its vocabulary or a grown one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch

from skiplight.cli import main
from skiplight.corpus.vocabulary import Vocabulary
from skiplight.vectors.export import export_vectors
from skiplight.vectors.word_vectors import WordVectors
from tests.support.runs import train_arguments
from tests.support.texts import write_texts

BARELY = ["optim.lr=1e-9", "trainer.max_tokens=2000"]
"""So little training that the vectors stay where they start."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("continued")
    write_texts(folder / "old", files=1)
    write_texts(folder / "new", files=1, seed=1)
    (folder / "new" / "1.txt").write_text((folder / "old" / "0.txt").read_text()[:4000])
    assert main(train_arguments(folder / "old" / "*.txt", folder, folder / "first", "trainer.max_epochs=1")) == 0
    return folder


def train(folder: Path, run: str, *options: str) -> int:
    return main(train_arguments(folder / "new" / "*.txt", folder, folder / run, *BARELY, *options))


def rows(vectors: WordVectors, words: list[str]) -> torch.Tensor:
    return vectors.input[[vectors.vocabulary.get(word) or 0 for word in words]]


def test_a_grown_vocabulary_keeps_old_rows_and_adds_counts(folder: Path) -> None:
    path = folder / "first" / "vectors" / "vocabulary.tsv"
    options = [f"model.init_from={folder / 'first'}", f"vocabulary.path={path}", "vocabulary.grow=true"]
    assert train(folder, "grown", *options) == 0
    first, grown = WordVectors.load(folder / "first"), WordVectors.load(folder / "grown")
    old, new = first.vocabulary, grown.vocabulary
    assert set(old) < set(new)
    assert sorted(new.counts, reverse=True) == new.counts.tolist()
    torch.testing.assert_close(rows(grown, list(old)), first.input, atol=1e-6, rtol=0)
    fresh = rows(grown, sorted(set(new) - set(old)))
    assert fresh.abs().max() <= 0.5 / 16
    assert (fresh != 0).any(1).all()
    both = [word for word in old if new.counts[new.get(word)] > old.counts[old.get(word)]]
    assert both


def test_the_same_vocabulary_keeps_its_counts(folder: Path) -> None:
    path = folder / "first"  # the run's folder stands for the vocabulary in it
    assert train(folder, "same", f"model.init_from={folder / 'first'}", f"vocabulary.path={path}") == 0
    first, same = WordVectors.load(folder / "first"), WordVectors.load(folder / "same")
    assert list(same.vocabulary) == list(first.vocabulary)
    assert same.vocabulary.counts.tolist() == first.vocabulary.counts.tolist()
    torch.testing.assert_close(same.input, first.input, atol=1e-6, rtol=0)


def test_its_own_vocabulary_keeps_what_both_know(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "skiplight")
    assert train(folder, "own", f"model.init_from={folder / 'first'}") == 0
    first, own = WordVectors.load(folder / "first"), WordVectors.load(folder / "own")
    both = [word for word in own.vocabulary if word in first.vocabulary]
    torch.testing.assert_close(rows(own, both), rows(first, both), atol=1e-6, rtol=0)
    assert f"{len(both)} of {len(own.vocabulary)} words start from" in caplog.text


@pytest.mark.parametrize(("name", "binary"), [("first.vec", False), ("first.bin.gz", True)])
def test_vectors_of_another_tool_begin_a_training(
    folder: Path, name: str, binary: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "skiplight")
    first, path = WordVectors.load(folder / "first"), folder / name
    export_vectors(first, path, "word2vec-binary" if binary else "word2vec")
    assert train(folder, f"from-{name}", f"model.init_from={path}") == 0
    found = WordVectors.load(folder / f"from-{name}")
    both = [word for word in found.vocabulary if word in first.vocabulary]
    torch.testing.assert_close(rows(found, both), rows(first, both), atol=1e-6, rtol=0)
    assert f"{path} has no output vectors: they start as they do in a run without" in caplog.text


def test_words_and_counts_of_another_tool_are_the_vocabulary(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "skiplight")
    path, first = folder / "counts.txt", WordVectors.load(folder / "first").vocabulary
    lines = [f"{word} {count}" for word, count in zip(first, first.counts, strict=True)]
    path.write_text("\n".join(["absent 1", *reversed(lines), "never 3"]))
    text = " ".join(file.read_text() for file in (folder / "new").iterdir()).split()
    occurring = len(set(first) & set(text))
    for _ in range(2):  # also where the text is stored already
        assert train(folder, "counts", f"vocabulary.path={path}") == 0
        assert f"{path}: {occurring:,} of its {len(first) + 2:,} words occur in the text, and are" in caplog.text
        assert WordVectors.load(folder / "counts").vocabulary.counts.tolist() == sorted([*first.counts, 3, 1])[::-1]
        shutil.rmtree(folder / "counts")
        caplog.clear()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["model.init_from=FIRST", "model.dim=8"], "give `model.dim=16`"),
        (["model.init_from=/no/such/run"], "`model.init_from=/no/such/run`: no vectors in"),
        (["model.init_from=/no/such/run", "data.path=/no/such/text"], "model.init_from"),  # before the text
        (["model.init_from=OTHER", "data.path=/no/such/text"], "has vectors of 2 numbers: give `model.dim=2`"),
        (["vocabulary.grow=true"], "vocabulary.path"),
        (["vocabulary.path=FIRST/checkpoints"], "is a folder without a vocabulary: give a vocabulary.tsv"),
        (["vocabulary.grow=true", "vocabulary.path=FIRST/vectors/vocabulary.tsv", "data.streaming=true"], "streaming"),
    ],
)
def test_what_cannot_be_continued_is_refused(
    folder: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "other.txt").write_text("a 1 2\n")
    names = {"FIRST": folder / "first", "OTHER": folder / "other.txt"}
    options = [re.sub("FIRST|OTHER", lambda found: str(names[found[0]]), option) for option in options]
    assert train(folder, "refused", *options) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "refused").exists()


def test_counts_add_up() -> None:
    grown = Vocabulary(["a", "b"], [5, 3]).grown_by(Vocabulary(["b"], [4]))
    assert dict(zip(grown, grown.counts.tolist(), strict=True)) == {"b": 7, "a": 5}
