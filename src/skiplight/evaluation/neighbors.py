"""What lies near a word, and what completes an analogy: the two questions people ask of vectors by hand.

Both rank all words by cosine, as gensim's `most_similar` does. A word that the vocabulary lacks is an error
that names near spellings.
"""

from __future__ import annotations

import difflib

import torch

from skiplight.corpus.vocabulary import Vocabulary
from skiplight.errors import EvaluationError
from skiplight.vectors.word_vectors import WordVectors

# difflib takes some 10 microseconds a word, so that a million words would take many seconds.
_COMPARED = 20_000


def neighbors(vectors: WordVectors, word: str, k: int = 10) -> list[tuple[str, float]]:
    """The `k` words nearest to `word`, itself excluded, with their cosines, nearest first.

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
    """`a` is to `b` as `c` is to what? The `k` words nearest to b - a + c, the three excluded (3CosAdd).

    Returns:
        The words with their cosines to b - a + c (of unit vectors), nearest first.

    Raises:
        EvaluationError: a word is not in the vocabulary, or `k` is not positive.
    """
    rows = [_id(vectors.vocabulary, word) for word in (a, b, c)]
    unit = vectors.unit()
    query = unit[rows[1]] - unit[rows[0]] + unit[rows[2]]
    return _nearest(vectors, torch.nn.functional.normalize(query, dim=0), set(rows), k)


def suggest(vocabulary: Vocabulary, word: str, n: int = 3) -> list[str]:
    """Up to `n` words spelled like `word`: first those that differ in case only, then the nearest.

    Compared are the 20,000 most frequent words that share its first or last letter and nearly its length.

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
            f" {f'did you mean {likely}?' if likely else 'nothing in it is spelled like that'}"
        )
    return row


def _nearest(vectors: WordVectors, query: torch.Tensor, exclude: set[int], k: int) -> list[tuple[str, float]]:
    """The `k` words with the highest cosine to `query`, a unit vector [d], without the ids in `exclude`."""
    if k < 1:
        raise EvaluationError(f"k is {k}: ask for at least one word")
    cosines = vectors.unit() @ query
    top = cosines.topk(min(k + len(exclude), len(vectors)))
    words = vectors.vocabulary.words
    ranked = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return [(words[row], cosine) for row, cosine in ranked if row not in exclude][:k]
