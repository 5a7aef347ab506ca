"""The words nearest to a vector by cosine, and words spelled like one that is not in the vocabulary."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import numpy as np
import torch

from skiplight.corpus.lookup import word_lookup
from skiplight.corpus.vocabulary import Vocabulary
from skiplight.errors import EvaluationError

# difflib takes some 10 microseconds per word, so a million words would take many seconds.
_COMPARED = 20_000

_ROWS = 256
"""Rows whose cosines with all others are in memory at once."""


def suggest(vocabulary: Vocabulary, word: str, n: int = 3) -> list[str]:
    """Return up to `n` words spelled like `word`: first those that differ in case only, then the most similar ones.

    It compares the 20,000 most frequent words that share the first or last letter and have nearly the same length.

    >>> suggest(Vocabulary(["Paris", "paris", "pairs", "rome"], [9, 5, 4, 2]), "PARIS")
    ['Paris', 'paris', 'pairs']
    """
    lower = word.lower()
    same: list[str] = []
    near: dict[str, str] = {}
    for candidate in vocabulary.words:
        if abs(len(candidate) - len(word)) > 2:
            continue
        folded = candidate.lower()
        if folded == lower:
            same.append(candidate)
        elif len(near) < _COMPARED and (folded[:1] == lower[:1] or folded[-1:] == lower[-1:]):
            near.setdefault(folded, candidate)
    matches = difflib.get_close_matches(lower, near, n=n, cutoff=0.7) if len(same) < n else []
    return [*same, *(near[match] for match in matches)][:n]


def find_row(vocabulary: Vocabulary, word: str) -> int:
    """Return the row of a word, found by its spelling or else without regard to case.

    Raises:
        EvaluationError: it is not in the vocabulary; the message has similar spellings.
    """
    row = word_lookup(vocabulary, len(vocabulary)).find(word)
    if row is None:
        likely = ", ".join(map(repr, suggest(vocabulary, word)))
        raise EvaluationError(
            f"{word!r} is not in the vocabulary of {len(vocabulary)} words;"
            f" {f'did you mean {likely}?' if likely else 'it has no similar spelling'}"
        )
    return row


def find_rows(vocabulary: Vocabulary, words: Iterable[str]) -> list[int]:
    """Return the rows of words, each found as by `find_row`.

    Raises:
        EvaluationError: some are not in the vocabulary; the message has all of them.
    """
    rows, missing = [], []
    for word in words:
        try:
            rows.append(find_row(vocabulary, word))
        except EvaluationError as error:
            missing.append(str(error))
    if missing:
        raise EvaluationError("; ".join(missing))
    return rows


def nearest_words(
    vocabulary: Vocabulary, unit: torch.Tensor, query: torch.Tensor, exclude: set[int], k: int
) -> list[tuple[str, float]]:
    """Return the `k` words with the highest cosine to `query`, a unit vector [d], without the rows in `exclude`.

    Args:
        unit: vectors of length 1, float32 [V, d].

    Raises:
        EvaluationError: `k` is not positive.
    """
    if k < 1:
        raise EvaluationError(f"k is {k}: it must be at least 1")
    top = (unit @ query).topk(min(k + len(exclude), len(unit)))
    ranked = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return [(vocabulary.words[row], cosine) for row, cosine in ranked if row not in exclude][:k]


def nearest_rows(unit: torch.Tensor, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `k` nearest rows of each of the first `n` rows, without itself, nearest first.

    Args:
        unit: vectors of length 1, float32 [V, d].
        n: at most V.
        k: less than V.

    Returns:
        Their numbers, int64 [n, k], and cosines, float32 [n, k].
    """
    rows, cosines = np.empty((n, k), np.int64), np.empty((n, k), np.float32)
    for begin in range(0, n, _ROWS):
        part = unit[begin : min(begin + _ROWS, n)]
        scores = part @ unit.T
        scores[range(len(part)), range(begin, begin + len(part))] = -torch.inf
        top = scores.topk(k)
        rows[begin : begin + len(part)], cosines[begin : begin + len(part)] = top.indices.numpy(), top.values.numpy()
    return rows, cosines
