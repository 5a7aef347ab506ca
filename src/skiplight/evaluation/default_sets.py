"""Chooses among the built-in sets, which are in English, those that fit a vocabulary, where no set is named.

A text counts as English if at least three of the words `the`, `and`, `of`, `that`, `with`, `from` and `this` are among
its fifty most frequent ones. That holds of running text, however it was normalised, and of published vectors; it does
not hold of other languages, though their large vocabularies have most English words too, nor of the ids of items.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from skiplight.corpus.vocabulary import Vocabulary
from skiplight.errors import EvaluationError
from skiplight.evaluation.analogy import covered_questions, read_questions
from skiplight.evaluation.sets import AUTO, SIMILARITY
from skiplight.evaluation.similarity import covered_pairs, read_pairs
from skiplight.vectors.results import FEW

log = logging.getLogger(__name__)

_ENGLISH = {"the", "and", "of", "that", "with", "from", "this"}
_MOST_FREQUENT, _AT_LEAST = 50, 3


def is_english(vocabulary: Vocabulary) -> bool:
    """Return whether words, the most frequent first, are those of an English text.

    >>> is_english(Vocabulary(["the", "of", "and", "cat"], [4, 3, 2, 1])), is_english(Vocabulary(["le", "the"], [2, 1]))
    (True, False)
    """
    frequent = vocabulary.array.slice(0, _MOST_FREQUENT).to_pylist()
    return len(_ENGLISH & {word.lower() for word in frequent}) >= _AT_LEAST


def choose_similarity(sources: Sequence[str], vocabulary: Vocabulary, remedy: str) -> list[str]:
    """Return the sets of word pairs, `auto` replaced by the built-in ones that fit; the log names those left out.

    Args:
        sources: names or files; those that are named are kept.
        vocabulary: the words that have vectors.
        remedy: how to evaluate them nevertheless, for the log.
    """
    fitting = fitting_sets(SIMILARITY, vocabulary, remedy) if AUTO in sources else []
    return list(dict.fromkeys(each for source in sources for each in (fitting if source == AUTO else [source])))


def fitting_sets(names: Iterable[str], vocabulary: Vocabulary, remedy: str) -> list[str]:
    """Return those of the built-in sets that fit a vocabulary; the log names the others, and why they are left out."""
    names = list(names)
    if not is_english(vocabulary):
        log.info(
            "%s left out: by its most frequent words (%s, ...) the text is not English; %s",
            " and ".join(names),
            ", ".join(vocabulary.array.slice(0, 5).to_pylist()),
            remedy,
        )
        return []
    covered = {name: _count_covered(name, vocabulary) for name in names}
    if few := {name: count for name, count in covered.items() if count < FEW}:
        log.info(
            "%s left out: the vocabulary has the words of only %s of their items, and %d are the least; %s",
            " and ".join(few),
            " and ".join(map(str, few.values())),
            FEW,
            remedy,
        )
    return [name for name, count in covered.items() if count >= FEW]


def _count_covered(name: str, vocabulary: Vocabulary) -> int:
    if name in SIMILARITY:
        return len(covered_pairs(vocabulary, read_pairs(name), len(vocabulary)))
    try:
        return len(covered_questions(vocabulary, read_questions(name), len(vocabulary))[0])
    except EvaluationError:
        return 0
