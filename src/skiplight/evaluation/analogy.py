"""Word analogies: `a` is to `b` as `c` is to what?

The answer is the word whose unit vector is nearest to b - a + c, without a, b and c themselves (3CosAdd, Mikolov et al.
2013, "Linguistic Regularities in Continuous Space Word Representations"; the name is from Levy and Goldberg 2014). The
score is the share of correct answers among the questions whose four words are in the restricted vocabulary. It depends
strongly on that restriction: the demo of word2vec takes the 30,000 most frequent words, gensim 300,000 by default. With
the same restriction, the score equals that of gensim's `evaluate_word_analogies`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from skiplight.corpus.lookup import Lookup, word_lookup
from skiplight.errors import EvaluationError
from skiplight.evaluation.pair_files import malformed
from skiplight.evaluation.sets import read_set, set_name
from skiplight.vectors.word_vectors import WordVectors

if TYPE_CHECKING:
    from skiplight.corpus.vocabulary import Vocabulary

SETS = {"google": "questions-words.txt"}

# Scores computed at a time: 32 MB. More would not fit the cache of a CPU, and are no faster on a GPU.
_SCORES = 2**23


@dataclass(frozen=True)
class Questions:
    """A set of analogy questions.

    Attributes:
        name: name of the set in results.
        sections: the questions (a, b, c, answer) of each section, as they are spelled.
    """

    name: str
    sections: dict[str, list[tuple[str, str, str, str]]]

    def __len__(self) -> int:
        return sum(map(len, self.sections.values()))


@dataclass(frozen=True)
class AnalogyResult:
    """The score of an analogy set.

    Attributes:
        score: share of correct answers among the questions asked, 0 to 1.
        oov: share of the set's questions that were not asked because a word is out of vocabulary, 0 to 1.
        questions: number of questions asked.
        sections: numbers of correct answers and of questions asked, for each section.
    """

    score: float
    oov: float
    questions: int
    sections: dict[str, tuple[int, int]]


def read_questions(source: str | os.PathLike[str]) -> Questions:
    """Read a built-in set by name, or a file in the format of Google's questions-words.txt.

    A line `: name` begins a section; every other line is a question, four words separated by white space. Questions
    before the first such line are a section that is named after the set.

    Raises:
        EvaluationError: there is no such set, or lines are malformed; the message has their numbers.

    >>> questions = read_questions("google")
    >>> len(questions), questions.sections["family"][0]
    (19544, ('boy', 'girl', 'brother', 'sister'))
    """
    path, lines = read_set(source, SETS)
    sections: dict[str, list[tuple[str, str, str, str]]] = {}
    section, bad = None, []
    for number, line in enumerate(lines, start=1):
        if line.startswith(":"):
            section = sections.setdefault(line.lstrip(":").strip(), [])
        elif line.strip():
            if section is None:
                section = sections.setdefault(set_name(source), [])
            match line.split():
                case [a, b, c, answer]:
                    section.append((a, b, c, answer))
                case _:
                    bad.append((number, line))
    if bad:
        raise malformed(path, "four words", bad)
    return Questions(set_name(source), sections)


def analogy(
    vectors: WordVectors,
    questions: Questions | str | os.PathLike[str],
    restrict_vocabulary: int = 30_000,
    device: torch.device | str | None = None,
) -> AnalogyResult:
    """Score vectors on a set of analogy questions.

    Args:
        vectors: the vectors.
        questions: a set, the name of a built-in one, or the path of a file (see `read_questions`).
        restrict_vocabulary: number of most frequent words that questions and answers are restricted to.
        device: device to compute on; default: that of the vectors.

    Raises:
        EvaluationError: the set cannot be read, the vocabulary covers none of its questions, or vectors are not finite.
    """
    questions = questions if isinstance(questions, Questions) else read_questions(questions)
    asked, section = covered_questions(vectors.vocabulary, questions, restrict_vocabulary)
    right = answered_correctly(vectors, questions, asked, restrict_vocabulary, device)
    sizes = torch.bincount(section, minlength=len(questions.sections))
    return analogy_result(questions, torch.bincount(section[right], minlength=len(sizes)), sizes)


def covered_questions(
    vocabulary: Vocabulary, questions: Questions, restrict_vocabulary: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the questions whose four words are in the restricted vocabulary.

    Returns:
        ids of a, b, c and the answer, int64 [asked, 4], and the number of the section of each question, int64 [asked].

    Raises:
        EvaluationError: there are none.
    """
    find = word_lookup(vocabulary, restrict_vocabulary).find
    asked, section = [], []
    for number, part in enumerate(questions.sections.values()):
        covered = [ids for question in part if None not in (ids := list(map(find, question)))]
        asked += covered
        section += [number] * len(covered)
    if not asked:
        raise EvaluationError(
            f"{questions.name}: none of its {len(questions)} questions has all four words among the"
            f" {restrict_vocabulary} most frequent; raise evaluation.restrict_vocabulary, or choose a set in"
            " the language and spelling of the training text"
        )
    return torch.tensor(asked), torch.tensor(section)


def analogy_result(questions: Questions, correct: torch.Tensor, asked: torch.Tensor) -> AnalogyResult:
    """Return the result of a set from the numbers of correct answers and of questions asked, [sections]."""
    counts = list(zip(map(int, correct), map(int, asked), strict=True))
    total = int(asked.sum())
    return AnalogyResult(
        score=int(correct.sum()) / total,
        oov=1 - total / len(questions),
        questions=total,
        sections=dict(zip(questions.sections, counts, strict=True)),
    )


def answered_correctly(
    vectors: WordVectors,
    questions: Questions,
    asked: torch.Tensor,
    restrict_vocabulary: int,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Return which of the questions `asked`, int64 [n, 4], are answered correctly: bool [n], on the CPU.

    Raises:
        EvaluationError: vectors are not finite.
    """
    unit = vectors.unit_rows(slice(restrict_vocabulary)).to(device or vectors.input.device)
    if not unit.isfinite().all():
        raise EvaluationError(f"{questions.name}: vectors are not finite, the training has diverged; lower optim.lr")
    if not len(asked):
        return torch.zeros(0, dtype=torch.bool)
    return _answered_correctly(unit, asked, word_lookup(vectors.vocabulary, restrict_vocabulary))


def _answered_correctly(unit: torch.Tensor, asked: torch.Tensor, lookup: Lookup) -> torch.Tensor:
    """Return which questions are answered correctly.

    Args:
        unit: unit vectors of the restricted vocabulary [R, d].
        asked: ids of a, b, c and the answer [questions, 4].
        lookup: gives the other spellings of a word.

    Returns:
        bool [questions], on the CPU.
    """
    words, index = asked.unique(return_inverse=True)
    # Spellings of each word [words, spellings]; rows are padded with the word itself.
    spellings = [[word, *lookup.variants.get(word, [])] for word in words.tolist()]
    width = max(map(len, spellings))
    table = torch.tensor([row + row[:1] * (width - len(row)) for row in spellings])
    questions = table[index].to(unit.device)  # [questions, 4, spellings]

    # A wrong answer is often another word of the set (another capital, another plural). These few candidates rule out
    # many questions at a thirtieth of the cost; only the remaining ones are compared with the whole vocabulary.
    few = table.unique().to(unit.device)
    right = torch.ones(len(asked), dtype=torch.bool, device=unit.device)
    for candidates, columns in ((unit[few], torch.searchsorted(few, questions)), (unit, questions)):
        left = right.nonzero().squeeze(1)
        for part in left.split(max(1, _SCORES // len(candidates))):
            a, b, c = unit[questions[part, :3, 0]].unbind(1)
            right[part] = _beats_all((b - a + c) @ candidates.T, columns[part])
    return right.cpu()


def _beats_all(scores: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Return whether an answer, in any spelling, scores above all candidates but a, b and c; a tie counts as wrong.

    Args:
        scores: [questions, candidates]; overwritten.
        columns: columns of a, b, c and the answer, in each spelling [questions, 4, spellings].
    """
    scores.scatter_(1, columns[:, :3].flatten(1), -torch.inf)
    best = scores.gather(1, columns[:, 3]).amax(1)
    scores.scatter_(1, columns[:, 3], -torch.inf)
    return best > scores.amax(1)
