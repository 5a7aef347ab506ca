"""Evaluates vectors on several sets, with the results as `summary.json` stores them.

A failed evaluation must not end a training: if a set cannot be evaluated, its result is the reason.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from typing import Any

from skiplight.errors import EvaluationError
from skiplight.evaluation.analogy import AnalogyResult
from skiplight.evaluation.analogy import analogy as score_analogy
from skiplight.evaluation.hit_rate import HitRateResult
from skiplight.evaluation.hit_rate import hit_rate as score_hits
from skiplight.evaluation.sets import set_name
from skiplight.evaluation.similarity import SimilarityResult
from skiplight.evaluation.similarity import similarity as score_similarity
from skiplight.vectors.word_vectors import WordVectors

Sources = Iterable[str | os.PathLike[str]]


def evaluate(
    vectors: WordVectors,
    similarity: Sources = ("wordsim353", "simlex999"),
    analogy: Sources = ("google",),
    restrict_vocabulary: int = 30_000,
    hit_rate: Sources = (),
) -> dict[str, dict[str, Any]]:
    """Score vectors on sets of word pairs, analogy questions and item sequences.

    Args:
        vectors: the vectors; analogies are solved on their device.
        similarity: built-in sets or files of word pairs.
        analogy: built-in sets or files of analogy questions.
        restrict_vocabulary: number of most frequent words that analogies are restricted to. Similarity keeps gensim's
            300,000, because it ranks only the pairs themselves.
        hit_rate: `synthetic_sessions`, or files of sequences whose last item is to be predicted.

    Returns:
        For each set, by name (the stem of a file, or its whole path if the stem is taken), the fields of its
        SimilarityResult, AnalogyResult or HitRateResult, or `{"error": reason}`.
    """
    kinds: list[
        tuple[Sources, Callable[[str | os.PathLike[str]], SimilarityResult | AnalogyResult | HitRateResult]]
    ] = [
        (similarity, lambda source: score_similarity(vectors, source)),
        (analogy, lambda source: score_analogy(vectors, source, restrict_vocabulary)),
        (hit_rate, lambda source: score_hits(vectors, source)),
    ]
    results: dict[str, dict[str, Any]] = {}
    for sources, score in kinds:
        for source in sources:
            name = set_name(source)
            name = str(source) if name in results else name
            try:
                results[name] = dataclasses.asdict(score(source))
            except EvaluationError as error:
                results[name] = {"error": str(error)}
    return results
