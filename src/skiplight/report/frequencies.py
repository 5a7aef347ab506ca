"""Word frequencies for the Zipf plot of a run's page, which computes the noise distribution for any α from them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from skiplight.config.schema import Config
from skiplight.corpus.vocabulary import Vocabulary
from skiplight.registry import OBJECTIVES
from skiplight.sampling.subsampling import keep_probabilities

STEPS = 500
"""Words whose counts differ by less than 1/500 form one level."""


def word_frequencies(vocabulary: Vocabulary, config: Config) -> dict[str, Any]:
    """Return the vocabulary as levels of about equally frequent words, the most frequent first.

    Returns:
        `levels` [[words, mean count, share of its tokens that subsampling keeps], ...]; `tokens`, the sum of counts;
        `examples` [[rank, word, count], ...]; `head`, the number of words that are not rare; `exponent`, `negatives`;
        `drawn`, whether this run drew noise from count^α.
    """
    order = np.argsort(-vocabulary.counts, kind="stable")
    counts = vocabulary.counts[order]
    kept = keep_probabilities(counts, config.sampling.subsample)
    _, starts = np.unique(-np.floor(np.log(counts) * STEPS), return_index=True)
    sizes = np.diff([*starts, len(counts)])
    mean, share = np.add.reduceat(counts, starts) / sizes, np.add.reduceat(kept, starts) / sizes
    ranks = sorted({min(rank, len(counts)) for rank in (1, 10, 100, 1000, 10_000, 100_000, len(counts))})
    words = vocabulary.array.take(order[[rank - 1 for rank in ranks]]).to_pylist()
    levels = zip(sizes.tolist(), mean.tolist(), share.tolist(), strict=True)
    return {
        "levels": [[n, round(c, 2), round(k, 6)] for n, c, k in levels],
        "tokens": int(counts.sum()),
        "examples": [[rank, word, int(counts[rank - 1])] for rank, word in zip(ranks, words, strict=True)],
        "head": count_head_words(len(counts)),
        "exponent": getattr(config.noise, "exponent", 0.0 if config.noise.name == "uniform" else 0.75),
        "negatives": config.noise.negatives,
        "drawn": OBJECTIVES[config.objective.name].target.needs_noise and config.noise.name in ("power", "uniform"),
    }


def count_head_words(words: int) -> int:
    """Return the number of words that are not rare: 1,000, or for less than 4,000 the power of ten within a quarter.

    >>> count_head_words(70_000), count_head_words(4000), count_head_words(3999), count_head_words(3)
    (1000, 1000, 100, 1)
    """
    return 10 ** min(3, max(0, math.floor(math.log10(max(words, 1) / 4)))) if words >= 4 else 1
