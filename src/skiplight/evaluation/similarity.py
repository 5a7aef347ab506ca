"""Word similarity: do cosines rank pairs of words as people do?

The score is Spearman's rank correlation between the cosines of the words' input vectors and the mean judgements of
people. WordSim-353 (Finkelstein et al. 2002) mixes similarity and relatedness, SimLex-999 (Hill et al. 2015) asks for
similarity alone. Pairs with a word out of vocabulary are left out, and their share is reported, because scores are
comparable at equal coverage only. The same pairs are left out as in gensim's `evaluate_word_pairs`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from skiplight.corpus.lookup import word_lookup
from skiplight.errors import EvaluationError
from skiplight.evaluation.pair_files import parse_pairs
from skiplight.evaluation.sets import SIMILARITY, read_set, set_name, split_column

if TYPE_CHECKING:
    from skiplight.corpus.vocabulary import Vocabulary
    from skiplight.vectors.word_vectors import WordVectors


@dataclass(frozen=True)
class Pairs:
    """A set of word pairs with people's judgements.

    Attributes:
        name: name of the set in results.
        words: the pairs, as they are spelled, [n].
        judgements: how similar people found each pair, on any scale, [n].
    """

    name: str
    words: tuple[tuple[str, str], ...]
    judgements: tuple[float, ...]


@dataclass(frozen=True)
class SimilarityResult:
    """The agreement of cosines with people's judgements.

    Attributes:
        score: Spearman's rank correlation, -1 to 1; ties have their mean rank.
        pearson: Pearson's correlation, -1 to 1.
        oov: share of the set's pairs that were left out because a word is out of vocabulary, 0 to 1.
        pairs: number of pairs scored.
    """

    score: float
    pearson: float
    oov: float
    pairs: int


def read_pairs(source: str | os.PathLike[str]) -> Pairs:
    """Read a built-in set by name, or a file of two words and judgements per line, as `pair_files` describes.

    `FILE:COLUMN` names the column of judgements. A word may contain spaces if they do not separate the fields.

    Raises:
        EvaluationError: there is no such set or column, it is not clear which column has the judgements, or lines are
            malformed; the message has their numbers.

    >>> read_pairs("wordsim353").words[1], len(read_pairs("simlex999").words)
    (('tiger', 'cat'), 999)
    """
    file, column = split_column(source)
    path, lines = read_set(file, SIMILARITY)
    words, judgements = parse_pairs(path, lines, column)
    return Pairs(set_name(source), tuple(words), tuple(judgements))


@dataclass(frozen=True)
class JudgedPairs:
    """The pairs of a set whose words have vectors.

    Attributes:
        result: their score.
        first, second: ids of the words [n].
        judgements: judgements of people, float64 [n].
        cosines: cosines of the words' input vectors, float64 [n], on the CPU.
    """

    result: SimilarityResult
    first: list[int]
    second: list[int]
    judgements: torch.Tensor
    cosines: torch.Tensor

    def __len__(self) -> int:
        return len(self.first)

    def disagreement(self) -> torch.Tensor:
        """Return the rank by cosine minus the rank by people of each pair, divided by n - 1: float64 [n], -1 to 1."""
        from scipy.stats import rankdata

        return torch.from_numpy(rankdata(self.cosines) - rankdata(self.judgements)) / (len(self) - 1)


def covered_pairs(vocabulary: Vocabulary, pairs: Pairs, restrict_vocabulary: int) -> list[tuple[int, int, int]]:
    """Return the pairs whose words are both in the vocabulary: the index of the pair, and the ids of its words."""
    find = word_lookup(vocabulary, restrict_vocabulary).find
    found = ((index, find(first), find(second)) for index, (first, second) in enumerate(pairs.words))
    return [(index, first, second) for index, first, second in found if first is not None and second is not None]


def pair_cosines(vectors: WordVectors, first: list[int], second: list[int]) -> torch.Tensor:
    """Return the cosines of the input vectors of n pairs of words, float64 [n], on the CPU."""
    # Of the rows alone, since each rank of a machine would need memory for a copy of the whole table.
    return (vectors.unit_rows(first).double() * vectors.unit_rows(second).double()).sum(1).cpu()


def similarity_result(pairs: Pairs, covered: torch.Tensor, cosines: torch.Tensor) -> SimilarityResult:
    """Return the result of a set.

    Args:
        pairs: the set.
        covered: ascending indices of the pairs whose words have vectors, int64 [covered].
        cosines: their cosines, float64 [covered], on the CPU.

    Raises:
        EvaluationError: there is no correlation; see `similarity`.
    """
    from scipy import stats

    judgements = torch.tensor(pairs.judgements, dtype=torch.float64)[covered]
    if len(covered) < 2:
        raise EvaluationError(
            f"{pairs.name}: {len(covered)} of its {len(pairs.words)} pairs are in the vocabulary, but a correlation"
            " needs two; choose a set in the language and spelling of the training text, or lower"
            " vocabulary.min_count"
        )
    if not cosines.isfinite().all():
        raise EvaluationError(f"{pairs.name}: vectors are not finite, the training has diverged; lower optim.lr")
    for what, values in (("judgements", judgements), ("cosines", cosines)):
        if (values == values[0]).all():
            raise EvaluationError(
                f"{pairs.name}: the {what} of all {len(values)} covered pairs are equal, so there is no correlation;"
                f" {'check the file' if what == 'judgements' else 'train the vectors first'}"
            )
    left_out = len(pairs.words) - len(covered)
    return SimilarityResult(
        score=float(stats.spearmanr(cosines.numpy(), judgements.numpy()).statistic),
        pearson=float(stats.pearsonr(cosines.numpy(), judgements.numpy()).statistic),
        oov=left_out / (left_out + len(covered)),
        pairs=len(covered),
    )


def judged_pairs(
    vectors: WordVectors, pairs: Pairs | str | os.PathLike[str], restrict_vocabulary: int = 300_000
) -> JudgedPairs:
    """Return the pairs of a set with cosines and judgements; arguments and errors are those of `similarity`."""
    pairs = pairs if isinstance(pairs, Pairs) else read_pairs(pairs)
    found = covered_pairs(vectors.vocabulary, pairs, restrict_vocabulary)
    index, first, second = (list(column) for column in zip(*found, strict=True)) if found else ([], [], [])
    covered, cosines = torch.tensor(index, dtype=torch.int64), pair_cosines(vectors, first, second)
    result = similarity_result(pairs, covered, cosines)
    judgements = torch.tensor(pairs.judgements, dtype=torch.float64)[covered]
    return JudgedPairs(result, first, second, judgements, cosines)


def similarity(
    vectors: WordVectors, pairs: Pairs | str | os.PathLike[str], restrict_vocabulary: int = 300_000
) -> SimilarityResult:
    """Score vectors on a set of word pairs.

    Args:
        vectors: the vectors, on any device.
        pairs: a set, the name of a built-in one, or the path of a file (see `read_pairs`).
        restrict_vocabulary: number of most frequent words that count as in vocabulary; the default is gensim's.

    Raises:
        EvaluationError: the set cannot be read, the vocabulary covers fewer than two of its pairs, vectors are not
            finite, or all judgements or all cosines are equal, so that there is no correlation.
    """
    return judged_pairs(vectors, pairs, restrict_vocabulary).result
