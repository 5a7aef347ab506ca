"""Word analogies: `a` is to `b` as `c` is to what?

The answer is the word whose unit vector is nearest to b - a + c, a, b and c themselves excluded (3CosAdd,
Mikolov et al. 2013, "Linguistic Regularities in Continuous Space Word Representations"; so named by Levy and
Goldberg 2014). The score is the share of questions answered rightly, among those whose four words are in the
restricted vocabulary. It depends strongly on that restriction: word2vec's demo takes the 30,000 most frequent
words, gensim by default 300,000. At equal restriction it is the score of gensim's `evaluate_word_analogies`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from skiplight.errors import EvaluationError
from skiplight.evaluation.sets import CaseFolded, case_folded, malformed, read_set, set_name
from skiplight.vectors.word_vectors import WordVectors

SETS = {"google": "questions-words.txt"}

# Scores held at a time: 32 MB. Larger is slower on a CPU, whose cache they leave, and no faster on a GPU.
_SCORES = 2**23


@dataclass(frozen=True)
class Questions:
    """A set of analogy questions.

    Attributes:
        name: what the set is called in results.
        sections: its sections, each with its questions (a, b, c, answer) in upper case.
    """

    name: str
    sections: dict[str, list[tuple[str, str, str, str]]]

    def __len__(self) -> int:
        return sum(map(len, self.sections.values()))


@dataclass(frozen=True)
class AnalogyResult:
    """How many analogies were solved.

    Attributes:
        score: share of the questions asked that were answered rightly, 0 to 1.
        oov: share of the set's questions that were not asked for a word out of vocabulary, 0 to 1.
        questions: how many questions were asked.
        sections: for each section, questions answered rightly and questions asked.
    """

    score: float
    oov: float
    questions: int
    sections: dict[str, tuple[int, int]]


def read_questions(source: str | os.PathLike[str]) -> Questions:
    """Reads a built-in set by name, or a file in the format of Google's questions-words.txt.

    A line `: name` opens a section; every other line is a question, four words between white space.

    Raises:
        EvaluationError: there is no such set; lines (named by number) are malformed, or precede any section.

    >>> questions = read_questions("google")
    >>> len(questions), questions.sections["family"][0]
    (19544, ('BOY', 'GIRL', 'BROTHER', 'SISTER'))
    """
    path, lines = read_set(source, SETS)
    sections: dict[str, list[tuple[str, str, str, str]]] = {}
    section, bad = None, []
    for number, line in enumerate(lines, start=1):
        if line.startswith(":"):
            section = sections.setdefault(line.lstrip(":").strip(), [])
        elif line.strip():
            if section is None:
                raise EvaluationError(f"{path}, line {number}: a question before any section; add a line `: name`")
            match line.upper().split():
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
    """Scores vectors on a set of analogy questions.

    Args:
        vectors: the vectors.
        questions: a set, the name of a built-in one, or the path of a file (see `read_questions`).
        restrict_vocabulary: only the so many most frequent words are asked for and may answer.
        device: where to compute; by default where the vectors lie.

    Raises:
        EvaluationError: the set cannot be read, none of its questions is covered, or vectors are not finite.
    """
    questions = questions if isinstance(questions, Questions) else read_questions(questions)
    folded = case_folded(vectors.vocabulary, restrict_vocabulary)
    ids, asked, sizes = folded.ids, [], []
    for section in questions.sections.values():
        covered = [[ids[word] for word in question] for question in section if all(map(ids.__contains__, question))]
        asked += covered
        sizes.append(len(covered))
    if not asked:
        raise EvaluationError(
            f"{questions.name}: none of its {len(questions)} questions has all four words among the"
            f" {restrict_vocabulary} most frequent; raise evaluation.restrict_vocabulary, or choose a set in"
            " the language and spelling of the training text"
        )
    unit = vectors.unit()[:restrict_vocabulary].to(device or vectors.input.device)
    if not unit.isfinite().all():
        raise EvaluationError(f"{questions.name}: vectors are not finite, training has diverged; lower optim.lr")
    right = _right(unit, torch.tensor(asked), folded)
    correct = [int(part.sum()) for part in right.split(sizes)]
    return AnalogyResult(
        score=sum(correct) / len(asked),
        oov=1 - len(asked) / len(questions),
        questions=len(asked),
        sections=dict(zip(questions.sections, zip(correct, sizes, strict=True), strict=True)),
    )


def _right(unit: torch.Tensor, asked: torch.Tensor, folded: CaseFolded) -> torch.Tensor:
    """Which questions are answered rightly.

    Args:
        unit: unit vectors of the restricted vocabulary [R, d].
        asked: ids of a, b, c and the answer [questions, 4].
        folded: tells which other words are spellings of these.

    Returns:
        bool [questions], on the CPU.
    """
    words, place = asked.unique(return_inverse=True)
    # Spellings of each word [words, spellings], in rows filled up with the word itself.
    spellings = [[word, *folded.variants.get(word, [])] for word in words.tolist()]
    width = max(map(len, spellings))
    table = torch.tensor([row + row[:1] * (width - len(row)) for row in spellings])
    questions = table[place].to(unit.device)  # [questions, 4, spellings]

    # A wrong answer is often another word of the set (another capital, another plural): these few refute
    # many questions at a thirtieth of the cost, and only what they leave meets the whole vocabulary.
    few = table.unique().to(unit.device)
    right = torch.ones(len(asked), dtype=torch.bool, device=unit.device)
    for candidates, columns in ((unit[few], torch.searchsorted(few, questions)), (unit, questions)):
        left = right.nonzero().squeeze(1)
        for part in left.split(max(1, _SCORES // len(candidates))):
            a, b, c = unit[questions[part, :3, 0]].unbind(1)
            right[part] = _beats_all((b - a + c) @ candidates.T, columns[part])
    return right.cpu()


def _beats_all(scores: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Whether the answer scores above every candidate but a, b and c, in any spelling; a tie is no answer.

    Args:
        scores: [questions, candidates]; overwritten.
        columns: those of a, b, c and the answer, in each spelling [questions, 4, spellings].
    """
    scores.scatter_(1, columns[:, :3].flatten(1), -torch.inf)
    best = scores.gather(1, columns[:, 3]).amax(1)
    scores.scatter_(1, columns[:, 3], -torch.inf)
    return best > scores.amax(1)
