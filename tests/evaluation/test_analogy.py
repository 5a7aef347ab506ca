"""Analogy scores are gensim's, section by section; bad files are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gensim.models import KeyedVectors
from gensim.test.utils import datapath

from skiplight.corpus.vocabulary import Vocabulary
from skiplight.errors import EvaluationError
from skiplight.evaluation import analogy as module
from skiplight.evaluation.analogy import Questions, analogy, covered_questions, read_questions
from skiplight.vectors.word_vectors import WordVectors


def assert_as_gensim(keyed: KeyedVectors, vectors: WordVectors, file: str, restrict: int) -> float:
    score, sections = keyed.evaluate_word_analogies(file, restrict_vocab=restrict)
    result = analogy(vectors, file, restrict)
    assert result.score == pytest.approx(score, abs=1e-4)
    theirs = {s["section"]: (len(s["correct"]), len(s["correct"]) + len(s["incorrect"])) for s in sections[:-1]}
    assert result.sections == theirs
    asked = sum(total for _, total in theirs.values())
    assert result.questions == asked
    assert result.oov == pytest.approx(1 - asked / len(read_questions(file)))
    return result.score


def planted(seed: int, noise: float) -> tuple[KeyedVectors, WordVectors, str]:
    """Three relations of 12 pairs among other words, some of them in two cases, and the questions.

    A question has the more frequent spelling of a word, which is the one that gensim takes.
    """
    rng = np.random.default_rng(seed)
    words, rows, lines = [], [], []
    for relation in range(3):
        offset = rng.normal(size=16)
        pairs = [(f"r{relation}left{i}", f"r{relation}right{i}") for i in range(12)]
        for pair in pairs:
            base = rng.normal(size=16)
            words += pair
            rows += [base, base + offset + noise * rng.normal(size=16)]
        lines.append(f": relation {relation}")
        lines += [f"{a} {b} {c} {d}" for a, b in pairs for c, d in pairs if a != c]
    for i in range(0, len(words), 3):
        words.append(words[i].title())
        rows.append(rows[i] + 0.2 * rng.normal(size=16))
    words += [f"other{i}" for i in range(100)]
    rows += list(rng.normal(size=(100, 16)))
    order = rng.permutation(len(words))
    keyed = KeyedVectors(16)
    keyed.add_vectors([words[i] for i in order], np.array(rows, dtype=np.float32)[order])
    vocabulary = Vocabulary(keyed.index_to_key, range(len(keyed), 0, -1))
    spelling: dict[str, str] = {}
    for word in keyed.index_to_key:
        spelling.setdefault(word.lower(), word)
    lines = [line if line[0] == ":" else " ".join(map(spelling.__getitem__, line.split())) for line in lines]
    return keyed, WordVectors(vocabulary, torch.tensor(keyed.vectors)), "\n".join(lines)


@pytest.mark.parametrize("restrict", [30_000, 1_000])
def test_score_is_gensims_on_trained_vectors(trained, restrict):
    assert_as_gensim(*trained, datapath("questions-words.txt"), restrict)


@pytest.mark.parametrize("restrict", [30_000, 150])
@pytest.mark.parametrize(("seed", "noise"), [(0, 0.4), (1, 0.7), (2, 1.0)])
def test_score_is_gensims_with_planted_relations_and_case_variants(tmp_path, seed, noise, restrict):
    keyed, vectors, questions = planted(seed, noise)
    Path(tmp_path, "planted.txt").write_text(questions)
    score = assert_as_gensim(keyed, vectors, str(tmp_path / "planted.txt"), restrict)
    assert 0.01 < score < 1


def test_the_score_does_not_depend_on_how_questions_are_cut_into_chunks(tmp_path, monkeypatch):
    _, vectors, questions = planted(1, 0.5)
    Path(tmp_path, "planted.txt").write_text(questions)
    whole = analogy(vectors, tmp_path / "planted.txt")
    monkeypatch.setattr(module, "_SCORES", 1)
    assert analogy(vectors, tmp_path / "planted.txt") == whole


def test_vectors_that_are_all_alike_solve_nothing():
    words = Vocabulary(["a", "b", "c", "d", "e"], [5, 4, 3, 2, 1])
    questions = Questions("set", {"s": [("A", "B", "C", "D")]})
    for table in (torch.zeros(5, 3), torch.ones(5, 3)):
        assert analogy(WordVectors(words, table), questions).score == 0


def test_an_answer_among_the_three_words_is_asked_and_never_right():
    words = Vocabulary(["a", "b", "c"], [3, 2, 1])
    result = analogy(WordVectors(words, torch.eye(3)), Questions("set", {"s": [("A", "B", "C", "B")]}))
    assert (result.score, result.questions, result.sections) == (0, 1, {"s": (0, 1)})


def test_questions_without_a_section_malformed_lines_and_no_covered_question_are_errors(tmp_path):
    path = tmp_path / "set.txt"
    path.write_text(": one\na b c d\n\na b c\na b c d e\n")
    with pytest.raises(EvaluationError, match=r"four words.*line 4: 'a b c'; line 5: 'a b c d e'"):
        read_questions(path)
    path.write_text("\na b c d\n: more\nd c b a\n")
    assert read_questions(path).sections == {"set": [("a", "b", "c", "d")], "more": [("d", "c", "b", "a")]}
    with pytest.raises(EvaluationError, match=r"no evaluation set 'wordsim353': .* google"):
        read_questions("wordsim353")
    vectors = WordVectors(Vocabulary(["a", "b"], [2, 1]), torch.eye(2))
    with pytest.raises(EvaluationError, match="none of its 19544 questions"):
        analogy(vectors, "google")
    path.write_text(": empty\n")
    with pytest.raises(EvaluationError, match="none of its 0 questions"):
        analogy(vectors, path)


def test_diverged_vectors_are_an_error():
    words = Vocabulary(["a", "b", "c", "d"], [4, 3, 2, 1])
    with pytest.raises(EvaluationError, match="diverged"):
        analogy(WordVectors(words, torch.full((4, 2), torch.inf)), Questions("set", {"s": [("A", "B", "C", "D")]}))


def test_a_question_is_of_the_words_as_it_spells_them():
    vocabulary = Vocabulary(["tip", "tıp", "insan", "doktor", "mühendis"], [9, 8, 7, 6, 5])
    rows = torch.tensor([[0.0, 1.0], [1.0, 0.1], [0.6, 0.8], [1.0, 0.0], [0.5, 0.7]])
    questions = Questions("turkish", {"": [("tıp", "doktor", "insan", "mühendis")]})
    assert analogy(WordVectors(vocabulary, rows), questions).score == 1
    assert covered_questions(vocabulary, questions, 10)[0].tolist() == [[1, 3, 2, 4]]
