"""The evaluations of word vectors as torchmetrics metrics, whose states ranks add up.

Each rank that updates one with its `rank` and `world` takes a share of the questions. States are sums in float64, so n
ranks find what one does, but for the rounding of sums.

torchmetrics has some of these measures, but not exactly: `SpearmanCorrCoef` ranks in float32 and adds 1e-6 to the
denominator, and `Perplexity` has no weights for pairs and sums in float32. `RetrievalHitRate`, `RetrievalNormalizedDCG`
and `RetrievalMRR` agree with `HitRate` (a test compares them), but keep the scores of every sequence and loop over them
in Python: 1.5 s for 8,000 sequences, of which ours need a few milliseconds once the nearest items are known.
"""

from __future__ import annotations

import abc
import os
from typing import Any

import torch
import torchmetrics
from torch import Tensor

from skiplight.evaluation.analogy import (
    AnalogyResult,
    Questions,
    analogy_result,
    answered_correctly,
    covered_questions,
    read_questions,
)
from skiplight.evaluation.hit_rate import (
    HitRateResult,
    Sequences,
    hit_rate_result,
    known_sequences,
    read_sequences,
    recommend,
)
from skiplight.evaluation.similarity import (
    Pairs,
    SimilarityResult,
    covered_pairs,
    pair_cosines,
    read_pairs,
    similarity_result,
)
from skiplight.vectors.word_vectors import WordVectors

Source = str | os.PathLike[str]


class SummedMetric(torchmetrics.Metric, abc.ABC):
    """A metric whose states are float64 and add up over updates and ranks.

    `compute` returns its main number, float64 []; `result` returns all that it finds, over all ranks as well.

    Args:
        sizes: the shape of each state, by name.
        options: of `torchmetrics.Metric`.
    """

    higher_is_better = True
    full_state_update = False

    def __init__(self, sizes: dict[str, tuple[int, ...]], **options: Any) -> None:
        super().__init__(**options)
        for name, size in sizes.items():
            self.add_state(name, torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, **amounts: Tensor | float) -> None:
        """Add to states by their names."""
        for name, amount in amounts.items():
            setattr(self, name, getattr(self, name) + torch.as_tensor(amount, dtype=torch.float64).to(self.device))

    def compute(self) -> Tensor:
        return torch.tensor(self._result(**self._states()).score, dtype=torch.float64)

    def result(self) -> Any:
        """Return the dataclass of results over all ranks; all of them must call this.

        Raises:
            EvaluationError: there is no result.
        """
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self.sync_on_compute):
            states = self._states()
        return self._result(**states)  # outside, so that states are not left synchronised where it raises

    def _states(self) -> dict[str, Tensor]:
        return {name: getattr(self, name).cpu() for name in self.metric_state}

    @abc.abstractmethod
    def _result(self, **states: Tensor) -> Any: ...


class WordSimilarity(SummedMetric):
    """Spearman's correlation of cosines with people's judgements; see `skiplight.evaluation.similarity`.

    Args:
        source: a set, the name of a built-in one, or the path of a file.
        restrict_vocabulary: number of most frequent words that count as in vocabulary.
        options: of `torchmetrics.Metric`.

    Raises:
        EvaluationError: the set cannot be read.
    """

    def __init__(self, source: Pairs | Source, restrict_vocabulary: int = 300_000, **options: Any) -> None:
        self.pairs = source if isinstance(source, Pairs) else read_pairs(source)
        self.restrict_vocabulary = restrict_vocabulary
        size = (len(self.pairs.words),)
        super().__init__({"covered": size, "cosines": size}, **options)

    def update(self, vectors: WordVectors, *, rank: int = 0, world: int = 1) -> None:
        """Add the cosines of the pairs rank, rank + world, ... of those in the vocabulary."""
        found = covered_pairs(vectors.vocabulary, self.pairs, self.restrict_vocabulary)[rank::world]
        index = [number for number, _, _ in found]
        covered, cosines = torch.zeros(2, len(self.pairs.words), dtype=torch.float64)
        covered[index] = 1
        cosines[index] = pair_cosines(vectors, [first for _, first, _ in found], [second for _, _, second in found])
        self.add(covered=covered, cosines=cosines)

    def _result(self, covered: Tensor, cosines: Tensor) -> SimilarityResult:  # type: ignore[override]
        index = covered.nonzero().squeeze(1)
        return similarity_result(self.pairs, index, cosines[index])


class WordAnalogy(SummedMetric):
    """The share of analogy questions that are answered correctly; see `skiplight.evaluation.analogy`.

    Args:
        source: a set, the name of a built-in one, or the path of a file.
        restrict_vocabulary: number of most frequent words that questions and answers are restricted to.
        options: of `torchmetrics.Metric`.

    Raises:
        EvaluationError: the set cannot be read.
    """

    def __init__(self, source: Questions | Source, restrict_vocabulary: int = 30_000, **options: Any) -> None:
        self.questions = source if isinstance(source, Questions) else read_questions(source)
        self.restrict_vocabulary = restrict_vocabulary
        size = (len(self.questions.sections),)
        super().__init__({"correct": size, "asked": size}, **options)

    def update(self, vectors: WordVectors, *, rank: int = 0, world: int = 1) -> None:
        """Add the answers to the questions rank, rank + world, ... of those in the vocabulary.

        Raises:
            EvaluationError: there are none, or vectors are not finite.
        """
        restrict = self.restrict_vocabulary
        asked, section = covered_questions(vectors.vocabulary, self.questions, restrict)
        asked, section = asked[rank::world], section[rank::world]
        right = answered_correctly(vectors, self.questions, asked, restrict)
        correct, sizes = (
            torch.bincount(numbers, minlength=len(self.questions.sections)) for numbers in (section[right], section)
        )
        self.add(correct=correct, asked=sizes)

    def _result(self, correct: Tensor, asked: Tensor) -> AnalogyResult:  # type: ignore[override]
        return analogy_result(self.questions, correct, asked)


class HitRate(SummedMetric):
    """Hit rate, NDCG and MRR at 10 of the last items of sequences; see `skiplight.evaluation.hit_rate`.

    Args:
        source: a set, `synthetic_sessions`, or the path of a file.
        options: of `torchmetrics.Metric`.

    Raises:
        EvaluationError: the file cannot be read.
    """

    def __init__(self, source: Sequences | Source, **options: Any) -> None:
        self.sequences = source if isinstance(source, Sequences) else read_sequences(source)
        super().__init__({"sums": (5,)}, **options)

    def update(self, vectors: WordVectors, *, rank: int = 0, world: int = 1) -> None:
        """Add the sequences rank, rank + world, ... of those that can be asked."""
        known = known_sequences(vectors.vocabulary, self.sequences)[rank::world]
        self.add(sums=recommend(vectors, known).sum(0))

    def _result(self, sums: Tensor) -> HitRateResult:  # type: ignore[override]
        return hit_rate_result(self.sequences, sums)
