"""Similarity scores are gensim's; files are read as people write them; what cannot be scored says why."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from gensim.test.utils import datapath
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from skiplight.corpus.vocabulary import Vocabulary
from skiplight.errors import EvaluationError
from skiplight.evaluation.similarity import Pairs, covered_pairs, read_pairs, similarity
from skiplight.vectors.word_vectors import WordVectors


def write(folder: Path, text: str, name: str = "set.tsv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def angles(degrees: list[float]) -> WordVectors:
    """A word `zero`, and words w0, w1, ... at the given angles from it."""
    turns = torch.tensor([0.0, *degrees], dtype=torch.float64).deg2rad()
    words = ["zero", *(f"w{i}" for i in range(len(degrees)))]
    return WordVectors(Vocabulary(words, [1] * len(words)), torch.stack([turns.cos(), turns.sin()], 1))


@pytest.mark.parametrize("restrict", [300_000, 700])
@pytest.mark.parametrize(("name", "file"), [("wordsim353", "wordsim353.tsv"), ("simlex999", "simlex999.txt")])
def test_scores_are_gensims_on_trained_vectors(trained, name, file, restrict):
    pearson, spearman, oov = trained.gensim.evaluate_word_pairs(datapath(file), restrict_vocab=restrict)
    result = similarity(trained.ours, name, restrict)
    assert result.score == pytest.approx(spearman[0], abs=1e-6)
    assert result.pearson == pytest.approx(pearson[0], abs=1e-6)
    assert result.oov == pytest.approx(oov / 100, abs=1e-9)
    assert 10 < result.pairs < len(read_pairs(name).words)


def test_ties_and_case_variants_are_scored_as_gensim_does(trained, tmp_path):
    words = trained.gensim.index_to_key
    lines = [f"{words[i].title()}\t{words[i * 7 % 90].upper()}\t{i % 3}" for i in range(1, 60)]
    path = write(tmp_path, "\n".join([*lines, *lines[:20], "absent\tword\t1"]))
    pearson, spearman, oov = trained.gensim.evaluate_word_pairs(str(path))
    result = similarity(trained.ours, path)
    # Not nearer: words paired with themselves are ranked by rounding errors, gensim's in float32.
    assert (result.score, result.pearson) == pytest.approx((spearman[0], pearson[0]), abs=1e-5)
    assert result.oov == pytest.approx(oov / 100)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=30))
def test_spearman_with_ties_is_scipys(levels):
    cosines, judgements = zip(*levels, strict=True)
    vectors = angles([20.0 * level for level in cosines])
    words = tuple(("ZERO", f"W{i}") for i in range(len(levels)))
    pairs = Pairs("set", words, tuple(map(float, judgements)))
    if len(set(cosines)) == 1 or len(set(judgements)) == 1:
        with pytest.raises(EvaluationError, match="are equal"):
            similarity(vectors, pairs)
    else:
        expected = spearmanr([-level for level in cosines], judgements).statistic
        assert similarity(vectors, pairs).score == pytest.approx(expected, abs=1e-9)


def test_a_word_counts_as_it_is_spelled_and_else_as_the_most_frequent_one_in_another_case():
    words = Vocabulary(["us", "US", "them", "we"], [9, 8, 7, 6])
    vectors = WordVectors(words, torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, 0.6]]))
    for spelling, score in (("us", 1), ("Us", 1), ("US", -1)):
        pairs = Pairs("set", ((spelling, "THEM"), (spelling, "WE")), (1.0, 2.0))
        assert similarity(vectors, pairs).score == pytest.approx(score)


def test_letters_that_are_one_in_upper_case_and_composed_characters():
    vocabulary = Vocabulary(["tip", "tıp", "hastane", "réseau"], [9, 8, 7, 6])
    pairs = Pairs("set", (("tıp", "hastane"), ("tip", "hastane"), ("re\u0301seau", "tip")), (3.0, 1.0, 2.0))
    assert covered_pairs(vocabulary, pairs, 10) == [(0, 1, 2), (1, 0, 2), (2, 3, 0)]


def test_a_file_may_have_comments_a_header_spaces_in_words_and_windows_line_ends(tmp_path):
    text = "\ufeff# a set\r\nWord 1\tWord 2\tHuman (mean)\r\n\r\nNew York\tcity\t7.5\r\nnaïve  straße 1e0\r\n"
    pairs = read_pairs(write(tmp_path, text, "my.set.txt"))
    assert pairs.name == "my.set"
    assert pairs.words == (("New York", "city"), ("naïve", "straße"))
    assert pairs.judgements == (7.5, 1.0)


def test_malformed_lines_are_named_by_number(tmp_path):
    text = "a b 1\n\nonly two\nb c 2\nx y nan\na b c 3\na\t\t1\n"
    with pytest.raises(EvaluationError, match=r"line 3: 'only two'; line 5: 'x y nan'; line 6: .*; and 1 more"):
        read_pairs(write(tmp_path, text))


@pytest.mark.parametrize("first", ["tiger cat", "tiger cat 7,35x"])
def test_a_malformed_first_line_is_not_taken_for_a_header(tmp_path, first):
    with pytest.raises(EvaluationError, match="line 1"):
        read_pairs(write(tmp_path, f"{first}\na b 1\n"))


def test_a_set_that_is_not_there_or_not_text_is_named_with_what_could_be_chosen(tmp_path):
    with pytest.raises(EvaluationError, match=r"'wordsim'.*wordsim353, simlex999"):
        read_pairs("wordsim")
    with pytest.raises(EvaluationError, match="cannot read"):
        read_pairs(tmp_path)
    (tmp_path / "latin.txt").write_bytes("naïve a 1".encode("latin-1"))
    with pytest.raises(EvaluationError, match="not UTF-8 at byte 2"):
        read_pairs(tmp_path / "latin.txt")
    (tmp_path / "pairs.xlsx").write_bytes(b"PK\3\4\xff")
    with pytest.raises(EvaluationError, match=r"pairs\.xlsx is a document of an office program.*\.csv"):
        read_pairs(tmp_path / "pairs.xlsx")


def test_no_covered_pair_and_diverged_vectors_are_errors():
    vectors = angles([10, 20])
    with pytest.raises(EvaluationError, match="0 of its 353 pairs"):
        similarity(vectors, "wordsim353")
    with pytest.raises(EvaluationError, match="cosines of all 2 covered pairs are equal"):
        similarity(
            WordVectors(vectors.vocabulary, torch.zeros(3, 2)),
            Pairs("set", (("ZERO", "W0"), ("ZERO", "W1")), (1, 2)),
        )
    vectors.input[1] = math.nan
    with pytest.raises(EvaluationError, match="diverged"):
        similarity(vectors, Pairs("set", (("ZERO", "W0"), ("ZERO", "W1")), (1, 2)))
