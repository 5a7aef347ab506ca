"""Nearest neighbours of a word, and answers to an analogy.

Both rank all words by cosine, as gensim's `most_similar` does. For a word out of vocabulary they raise an error that
names similar spellings.
"""

from __future__ import annotations

import difflib

import torch

from skiplight.corpus.vocabulary import Vocabulary
from skiplight.errors import EvaluationError
from skiplight.vectors.word_vectors import WordVectors

# difflib takes some 10 microseconds per word, so a million words would take many seconds.
_COMPARED = 20_000


def neighbors(vectors: WordVectors, word: str, k: int = 10) -> list[tuple[str, float]]:
    """Return the `k` words nearest to `word`, without `word`, and their cosines, nearest first.

    Raises:
        EvaluationError: `word` is not in the vocabulary, or `k` is not positive.

    >>> words = Vocabulary(["king", "queen", "apple"], [9, 5, 2])
    >>> vectors = WordVectors(words, torch.tensor([[3.0, 4.0], [4.0, 3.0], [-1.0, 0.0]]))
    >>> [(word, round(cosine, 2)) for word, cosine in neighbors(vectors, "king")]
    [('queen', 0.96), ('apple', -0.6)]
    """
    row = _id(vectors.vocabulary, word)
    return _nearest(vectors, vectors.unit()[row], {row}, k)


def solve(vectors: WordVectors, a: str, b: str, c: str, k: int = 10) -> list[tuple[str, float]]:
    """Answer "`a` is to `b` as `c` is to what?" by the `k` words nearest to b - a + c, without the three (3CosAdd).

    Returns:
        The words and their cosines to b - a + c (of unit vectors), nearest first.

    Raises:
        EvaluationError: a word is not in the vocabulary, or `k` is not positive.
    """
    rows = [_id(vectors.vocabulary, word) for word in (a, b, c)]
    unit = vectors.unit()
    query = unit[rows[1]] - unit[rows[0]] + unit[rows[2]]
    return _nearest(vectors, torch.nn.functional.normalize(query, dim=0), set(rows), k)


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


def _id(vocabulary: Vocabulary, word: str) -> int:
    row = vocabulary.get(word)
    if row is None:
        likely = ", ".join(map(repr, suggest(vocabulary, word)))
        raise EvaluationError(
            f"{word!r} is not in the vocabulary of {len(vocabulary)} words;"
            f" {f'did you mean {likely}?' if likely else 'it has no similar spelling'}"
        )
    return row


def _nearest(vectors: WordVectors, query: torch.Tensor, exclude: set[int], k: int) -> list[tuple[str, float]]:
    """Return the `k` words with the highest cosine to `query`, a unit vector [d], without the rows in `exclude`."""
    if k < 1:
        raise EvaluationError(f"k is {k}: it must be at least 1")
    cosines = vectors.unit() @ query
    top = cosines.topk(min(k + len(exclude), len(vectors)))
    words = vectors.vocabulary.words
    ranked = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return [(words[row], cosine) for row, cosine in ranked if row not in exclude][:k]
