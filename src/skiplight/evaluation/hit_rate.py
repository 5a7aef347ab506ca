"""Hit rate of item vectors: how often the hidden last item of a sequence is near the mean of the other items.

Caselles-Dupré et al. (2018) evaluate item2vec in this way. Items of the sequence itself are not recommended.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch

from skiplight.errors import EvaluationError
from skiplight.evaluation.sets import read_set
from skiplight.files import cache_folder
from skiplight.vectors.word_vectors import WordVectors

NEAREST = 10

_BATCH = 1024
"""Sequences whose similarities to all items are computed at a time."""


@dataclass(frozen=True)
class HitRateResult:
    """A hit rate.

    Attributes:
        score: share of the sequences whose hidden item is among the ten nearest. popularity: the same share if the ten
        most frequent items are recommended for every sequence. oov: share of the sequences that cannot be asked,
        because the hidden item or all others are out of vocabulary, or
            because the hidden item also occurs earlier in the sequence.
        questions: number of sequences asked.
    """

    score: float
    popularity: float
    oov: float
    questions: int


def hit_rate(vectors: WordVectors, source: str | os.PathLike[str]) -> HitRateResult:
    """Return the hit rate at 10 on a file of sequences.

    Args:
        vectors: vectors of the items.
        source: `synthetic_sessions`, or a file with a sequence of items per line, separated by white space.

    Raises:
        EvaluationError: the file cannot be read, or none of its sequences can be asked.
    """
    if str(source) == "synthetic_sessions":
        from skiplight.corpus.sources.synthetic_sessions import write_synthetic_sessions

        source = write_synthetic_sessions(cache_folder())[1]
    path, lines = read_set(source, {})
    sequences = [line.split() for line in lines if line.strip()]
    asked = [found for items in sequences if (found := _known(vectors.vocabulary, items)) is not None]
    if not asked:
        raise EvaluationError(f"{path}: none of its {len(sequences)} sequences has a last item in the vocabulary")
    by_vectors = by_popularity = 0
    unit = vectors.unit()
    for start in range(0, len(asked), _BATCH):
        batch = asked[start : start + _BATCH]
        scores = torch.stack([unit[seen].mean(0) for seen, _ in batch]) @ unit.T
        frequent = -torch.arange(len(unit), device=unit.device, dtype=unit.dtype).repeat(len(batch), 1)
        for row, (seen, _) in enumerate(batch):
            scores[row, seen] = frequent[row, seen] = -torch.inf
        hidden = torch.tensor([item for _, item in batch], device=unit.device)[:, None]
        k = min(NEAREST, len(unit))
        by_vectors += int((scores.topk(k).indices == hidden).sum())
        by_popularity += int((frequent.topk(k).indices == hidden).sum())
    return HitRateResult(
        by_vectors / len(asked), by_popularity / len(asked), 1 - len(asked) / len(sequences), len(asked)
    )


def _known(vocabulary: Any, items: list[str]) -> tuple[list[int], int] | None:
    """Return the rows of all items but the last, and the row of the last; None if the sequence cannot be asked."""
    seen = [row for row in (vocabulary.get(item) for item in items[:-1]) if row is not None]
    hidden = vocabulary.get(items[-1])
    return None if not seen or hidden is None or hidden in seen else (seen, hidden)
