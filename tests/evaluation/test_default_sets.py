"""Where no set is named, the built-in English ones are evaluated if they fit the vocabulary."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch

from skiplight.cli import main
from skiplight.corpus.vocabulary import Vocabulary
from skiplight.evaluation.default_sets import choose_similarity, is_english
from skiplight.evaluation.similarity import read_pairs
from skiplight.vectors.word_vectors import WordVectors
from tests.support.runs import SMALL

ENGLISH = ["the", "of", "and", "to", "in", "a", "is", "was", "for", "that", "with", "his", "on", "from"]
PAIRED = sorted({word for pair in read_pairs("wordsim353").words for word in pair})
FRENCH = ["de", "la", "le", "et", "les", "des", "en", "un", "une", "du", "dans", "est", "que", "pour"]


def vocabulary(*words: str) -> Vocabulary:
    found = list(dict.fromkeys(words))
    return Vocabulary(found, range(len(found), 0, -1))


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "skiplight")


def test_english_is_known_by_its_frequent_words() -> None:
    assert is_english(vocabulary(*ENGLISH))
    assert is_english(vocabulary("The", "AND", "Of"))
    assert is_english(
        vocabulary("</s>", "in", "for", "that", "is", "on", "##", "The", "with", "said")
    )  # word2vec's own
    # A large vocabulary of another language has the words of English too, but not in front.
    assert not is_english(vocabulary(*FRENCH, *(f"mot{n}" for n in range(40)), *ENGLISH, *PAIRED))
    assert not is_english(vocabulary(*(f"i{n}" for n in range(100))))


def test_sets_that_fit_are_taken_and_others_named(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_similarity(["auto"], vocabulary(*ENGLISH, *PAIRED), "name them")[0] == "wordsim353"
    caplog.clear()
    assert choose_similarity(["auto", "mine.txt"], vocabulary(*FRENCH, *PAIRED), "name them") == ["mine.txt"]
    assert "wordsim353 and simlex999 left out: by its most frequent words (de, la, le, et, les, ...)" in caplog.text
    assert "; name them" in caplog.text
    caplog.clear()
    assert choose_similarity(["auto"], vocabulary(*ENGLISH, "cat", "tiger"), "name them") == []
    assert "has the words of only 2 and 0 of their items, and 30 are the least; name them" in caplog.text
    caplog.clear()
    assert choose_similarity(["simlex999"], vocabulary(*FRENCH), "name them") == ["simlex999"]
    assert not caplog.text


def test_evaluate_leaves_out_what_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog) -> None:
    for name, frequent in (("english", ENGLISH), ("french", FRENCH)):
        words = vocabulary(*frequent, *PAIRED)
        WordVectors(words, torch.randn(len(words), 5, generator=torch.Generator().manual_seed(1))).save(tmp_path / name)
    assert main(["evaluate", str(tmp_path / "english"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["wordsim353"]["oov"] == 0
    assert main(["evaluate", str(tmp_path / "french")]) == 2
    assert "google left out" in caplog.text
    assert "no set fits: name sets or files after --similarity" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "french"), "--similarity", "wordsim353"]) == 0


def test_a_training_says_once_what_it_leaves_out_and_compares_with_word_frequencies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    text = tmp_path / "sessions.txt"
    text.write_text("\n".join(f"i{n % 7} i{n % 7} i{n % 5} i{n % 3}" for n in range(2000)))
    options = [option for option in SMALL if "similarity" not in option]
    run = tmp_path / "run"
    arguments = ["data=sequences", f"data.path={text}", f"data.store={tmp_path / 'stores'}", f"run_dir={run}", *options]
    (tmp_path / "pairs.txt").write_text("i1 i2 3\ni1 i3 2\ni2 i4 1\nno one 2\n")
    assert (
        main(["train", *arguments, f"evaluation.similarity=[auto,{tmp_path / 'pairs.txt'}]", "data.heldout=0.2"]) == 0
    )
    out = capsys.readouterr().out
    assert caplog.text.count("left out") == 1
    assert "left out" not in out
    assert "only 3 pairs" in out
    found = json.loads((run / "summary.json").read_text())["evaluation"]
    assert list(found) == ["pairs", "heldout"]
    assert found["pairs"]["few"] is True
    assert 1 < found["heldout"]["unigram"] < 8
    assert f"(word frequencies alone: {found['heldout']['unigram']:.1f})" in out
