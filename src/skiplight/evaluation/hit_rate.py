"""Hit rate, NDCG and MRR of item vectors: is the hidden last item of a sequence near the mean of the other items?

Caselles-Dupré et al. (2018) evaluate item2vec in this way. Items of the sequence itself are not recommended. All three
look at the ten nearest items, of which at most one is the hidden one: at rank r, its NDCG is 1 / log2(r + 1) (Järvelin
and Kekäläinen 2002) and its reciprocal rank 1 / r; both are 0 if it is not among the ten.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from skiplight.corpus.sources.built_in import open_sequences
from skiplight.corpus.sources.file_lists import detect_format
from skiplight.errors import DataError, EvaluationError
from skiplight.evaluation.sets import read_set, set_name, split_column
from skiplight.files import cache_folder
from skiplight.vectors.word_vectors import WordVectors

NEAREST = 10

_SEPARATORS = {".csv": "comma", ".tsv": "tab"}
_BATCH = 1024
"""Sequences whose similarities to all items are computed at a time."""


@dataclass(frozen=True)
class HitRateResult:
    """A hit rate.

    Attributes:
        score: share of the sequences whose hidden item is among the ten nearest.
        popularity: the same share if the ten most frequent items are recommended for every sequence.
        oov: share of the sequences that are left out because the hidden item or all others are out of vocabulary.
        repeats: share of the sequences that are left out because they end in a repeat: the hidden item occurs earlier.
        questions: number of sequences asked.
        ndcg: mean normalised discounted cumulative gain at 10.
        mrr: mean reciprocal rank at 10.
    """

    score: float
    popularity: float
    oov: float
    repeats: float
    questions: int
    ndcg: float
    mrr: float


class Sequences(NamedTuple):
    """A set of item sequences, by the name that it has in results."""

    name: str
    sequences: list[list[str]]


def read_sequences(source: str | os.PathLike[str]) -> Sequences:
    """Read `synthetic_sessions`, or a file of sequences as `data=sequences` takes them.

    That is a text file with a sequence of items per line, separated by white space; or a column of Parquet, JSON lines,
    CSV or TSV, which `FILE:COLUMN` names (default: `text`), of such texts or of lists. Each line of a CSV or TSV that
    has no such column, where none is named, is a sequence, separated by commas or tabs.

    Raises:
        EvaluationError: the file cannot be read, or has no such column.
    """
    name = set_name(source)
    if str(source) == "synthetic_sessions":
        from skiplight.corpus.sources.synthetic_sessions import write_synthetic_sessions

        source = write_synthetic_sessions(cache_folder())[1]
    path, column = split_column(source)
    if column is not None or (path.is_file() and detect_format([str(path)]) != "text"):
        return Sequences(name, _read_rows(path, column))
    _, lines = read_set(source, {})
    return Sequences(name, [line.split() for line in lines if line.strip()])


def _read_rows(path: Path, column: str | None) -> list[list[str]]:
    """Return the sequences of a file that has columns."""
    separator = next((mark for ending, mark in _SEPARATORS.items() if ending in path.suffixes), None)
    options: dict[str, Any] = {"cache": cache_folder(), "unit": "document", "column": column or "text"}
    try:
        text = open_sequences(str(path), **options)
        try:
            text.units  # noqa: B018  # which looks for the column
        except DataError:
            if column is not None or separator is None:
                raise
            text = open_sequences(str(path), **options, separator=separator)
        rows: dict[int, list[str]] = {}  # a long one comes in several pieces
        for documents in text.documents():
            for key, items in zip(documents.keys.tolist(), documents.texts.to_pylist(), strict=True):
                rows.setdefault(key, []).extend(items.split() if isinstance(items, str) else items)
    except DataError as error:
        reason = re.sub(r"^data\.\w+(=[^:]*)?: ", "", str(error))
        raise EvaluationError(
            f"sequences of {path}{f', column {column}' if column else ''}: {reason}; `FILE:COLUMN` names a column"
        ) from None
    return [items for items in rows.values() if items]


def hit_rate(vectors: WordVectors, source: Sequences | str | os.PathLike[str]) -> HitRateResult:
    """Return hit rate, NDCG and MRR at 10 on a file of sequences.

    Args:
        vectors: vectors of the items.
        source: a set, `synthetic_sessions`, or the path of a file (see `read_sequences`).

    Raises:
        EvaluationError: the file cannot be read, or none of its sequences can be asked.
    """
    asked = source if isinstance(source, Sequences) else read_sequences(source)
    return hit_rate_result(asked, recommend(vectors, known_sequences(vectors.vocabulary, asked)).sum(0))


def known_sequences(vocabulary: Any, asked: Sequences) -> list[tuple[list[int], int]]:
    """Return the rows of all items but the last, and the row of the last, of each sequence that can be asked."""
    return [found for items in asked.sequences if (found := _known(vocabulary, items)) is not None]


def recommend(vectors: WordVectors, known: list[tuple[list[int], int]]) -> torch.Tensor:
    """Return what each sequence adds to hits, hits by popularity, NDCG, reciprocal rank and questions: float64 [n, 5].

    The result is on the CPU.
    """
    unit, found = vectors.unit(), [torch.zeros(0, 5, dtype=torch.float64)]
    k = min(NEAREST, len(unit))
    for start in range(0, len(known), _BATCH):
        batch = known[start : start + _BATCH]
        scores = torch.stack([unit[seen].mean(0) for seen, _ in batch]) @ unit.T
        frequent = -torch.arange(len(unit), device=unit.device, dtype=unit.dtype).repeat(len(batch), 1)
        for row, (seen, _) in enumerate(batch):
            scores[row, seen] = frequent[row, seen] = -torch.inf
        hidden = torch.tensor([item for _, item in batch], device=unit.device)[:, None]
        by_vectors, by_popularity = ((s.topk(k).indices == hidden).double().cpu() for s in (scores, frequent))
        rank = torch.arange(1, k + 1, dtype=torch.float64)
        hits, popular = by_vectors.sum(1), by_popularity.sum(1)
        ndcg, reciprocal = by_vectors @ (1 / torch.log2(rank + 1)), by_vectors @ (1 / rank)
        found.append(torch.stack([hits, popular, ndcg, reciprocal, torch.ones_like(hits)], 1))
    return torch.cat(found)


def hit_rate_result(asked: Sequences, sums: torch.Tensor) -> HitRateResult:
    """Return the result of a set from the sums of `recommend`, float64 [5].

    Raises:
        EvaluationError: no sequence was asked.
    """
    hits, popular, ndcg, reciprocal, questions = sums.tolist()
    if not questions:
        raise EvaluationError(
            f"{asked.name}: none of its {len(asked.sequences)} sequences has a last item in the vocabulary, and"
            " other items that are: choose sequences of the items that were trained on"
        )
    repeats = sum(items[-1] in items[:-1] for items in asked.sequences) / len(asked.sequences)
    return HitRateResult(
        score=hits / questions,
        popularity=popular / questions,
        oov=max(1 - questions / len(asked.sequences) - repeats, 0.0),
        repeats=repeats,
        questions=int(questions),
        ndcg=ndcg / questions,
        mrr=reciprocal / questions,
    )


def _known(vocabulary: Any, items: list[str]) -> tuple[list[int], int] | None:
    """Return the rows of all items but the last, and the row of the last; None if the sequence cannot be asked."""
    seen = [row for row in (vocabulary.get(item) for item in items[:-1]) if row is not None]
    hidden = vocabulary.get(items[-1])
    return None if not seen or hidden is None or hidden in seen else (seen, hidden)
