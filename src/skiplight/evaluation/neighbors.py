"""Nearest neighbours of a word, and answers to an analogy.

Both rank all words by cosine, as gensim's `most_similar` does. For a word out of vocabulary they raise an error that
names similar spellings.
"""

from __future__ import annotations

import torch

from skiplight.vectors.nearest import find_rows, nearest_words
from skiplight.vectors.word_vectors import WordVectors


def neighbors(vectors: WordVectors, word: str, k: int = 10) -> list[tuple[str, float]]:
    """Return the `k` words nearest to `word`, without `word`, and their cosines, nearest first.

    Raises:
        EvaluationError: `word` is not in the vocabulary, or `k` is not positive.

    >>> from skiplight.corpus.vocabulary import Vocabulary
    >>> words = Vocabulary(["king", "queen", "apple"], [9, 5, 2])
    >>> vectors = WordVectors(words, torch.tensor([[3.0, 4.0], [4.0, 3.0], [-1.0, 0.0]]))
    >>> [(word, round(cosine, 2)) for word, cosine in neighbors(vectors, "king")]
    [('queen', 0.96), ('apple', -0.6)]
    """
    return vectors.most_similar(word, k)


def solve(vectors: WordVectors, a: str, b: str, c: str, k: int = 10) -> list[tuple[str, float]]:
    """Answer "`a` is to `b` as `c` is to what?" by the `k` words nearest to b - a + c, without the three (3CosAdd).

    Returns:
        The words and their cosines to b - a + c (of unit vectors), nearest first.

    Raises:
        EvaluationError: words are not in the vocabulary, or `k` is not positive.
    """
    rows = find_rows(vectors.vocabulary, (a, b, c))
    unit = vectors.unit()
    query = unit[rows[1]] - unit[rows[0]] + unit[rows[2]]
    return nearest_words(vectors.vocabulary, unit, torch.nn.functional.normalize(query, dim=0), set(rows), k)
