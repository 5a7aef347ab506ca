"""Neighbours and solved analogies are gensim's; an unknown word is answered with near spellings."""

from __future__ import annotations

import pytest
import torch

from skiplight.corpus.vocabulary import Vocabulary
from skiplight.errors import EvaluationError
from skiplight.evaluation.neighbors import neighbors, solve
from skiplight.vectors.nearest import suggest
from skiplight.vectors.word_vectors import WordVectors


def assert_same(ours: list[tuple[str, float]], theirs: list[tuple[str, float]]) -> None:
    assert [word for word, _ in ours] == [word for word, _ in theirs]
    assert [cosine for _, cosine in ours] == pytest.approx([cosine for _, cosine in theirs], abs=1e-5)


@pytest.mark.parametrize("word", ["the", "australia", "police"])
def test_neighbors_are_gensims(trained, word):
    assert_same(neighbors(trained.ours, word), trained.gensim.most_similar(word))
    assert_same(neighbors(trained.ours, word, k=3), trained.gensim.most_similar(word, topn=3))


def test_solved_analogies_are_gensims(trained):
    theirs = trained.gensim.most_similar(positive=["years", "day"], negative=["year"], topn=5)
    assert_same(solve(trained.ours, "year", "years", "day", k=5), theirs)


def test_more_neighbors_than_words_gives_all_others():
    vectors = WordVectors(Vocabulary(["a", "b", "c"], [3, 2, 1]), torch.eye(3))
    assert {word for word, _ in neighbors(vectors, "b", k=100)} == {"a", "c"}
    with pytest.raises(EvaluationError, match="k is 0"):
        neighbors(vectors, "b", k=0)


def test_an_unknown_word_is_answered_with_near_spellings(trained):
    with pytest.raises(EvaluationError, match=r"'Australa' is not in .* did you mean 'australia'"):
        neighbors(trained.ours, "Australa")
    with pytest.raises(EvaluationError, match=r"'zzzzqqq' .* it has no similar spelling"):
        solve(trained.ours, "the", "zzzzqqq", "a")


def test_spellings_in_another_case_come_first():
    words = Vocabulary(["parish", "pairs", "Paris", "PARIS", "parts"], [9, 8, 7, 6, 5])
    assert suggest(words, "paris", n=3) == ["Paris", "PARIS", "parish"]
    assert suggest(words, "") == []
