"""Word frequencies and the run's noise for the Zipf plot of its page, which itself computes that of any other α."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from skiplight.config.schema import Config
from skiplight.corpus.vocabulary import Vocabulary
from skiplight.data.from_config import make_noise
from skiplight.errors import ConfigError
from skiplight.registry import OBJECTIVES
from skiplight.sampling.noise import STAGES, AnnealedNoise
from skiplight.sampling.subsampling import keep_probabilities

STEPS = 500
"""Words whose counts differ by less than 1/500 form one level."""


def word_frequencies(vocabulary: Vocabulary, config: Config) -> dict[str, Any]:
    """Return the vocabulary as levels of about equally frequent words, the most frequent first.

    Returns:
        `levels` [[words, mean count, share of its tokens that subsampling keeps], ...]; `tokens`, the sum of counts;
        `examples` [[rank, word, count], ...]; `head`, the number of words that are not rare; `exponent` and
        `negatives`, with which the plot begins; `noise`, that of the run (`describe_noise`).
    """
    order = np.argsort(-vocabulary.counts, kind="stable")
    counts = vocabulary.counts[order]
    kept = keep_probabilities(counts, config.sampling.subsample)
    _, starts = np.unique(-np.floor(np.log(counts) * STEPS), return_index=True)
    sizes = np.diff([*starts, len(counts)])

    def level_means(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values, starts) / sizes

    ranks = sorted({min(rank, len(counts)) for rank in (1, 10, 100, 1000, 10_000, 100_000, len(counts))})
    words = vocabulary.array.take(order[[rank - 1 for rank in ranks]]).to_pylist()
    levels = zip(sizes.tolist(), level_means(counts).tolist(), level_means(kept).tolist(), strict=True)
    noise = describe_noise(vocabulary, config)
    if noise and "probabilities" in noise:
        noise["probabilities"] = [float(f"{mean:.5g}") for mean in level_means(noise["probabilities"][order])]
    return {
        "levels": [[n, round(c, 2), round(k, 6)] for n, c, k in levels],
        "tokens": int(counts.sum()),
        "examples": [[rank, word, int(counts[rank - 1])] for rank, word in zip(ranks, words, strict=True)],
        "head": count_head_words(len(counts)),
        "exponent": power_exponent(config, 0.75),
        "negatives": config.noise.negatives,
        "noise": noise,
    }


def describe_noise(vocabulary: Vocabulary, config: Config) -> dict[str, Any] | None:
    """Return the noise distribution that a run drew from, as it was at the end; None if its objective draws none.

    Returns:
        `name`, and `exponent` where it is count^α, else None; `probabilities`, float64 [V], or `error`, the reason why
        they are not known, such as a file of weights that is gone.
    """
    if not OBJECTIVES[config.objective.name].target.needs_noise:
        return None
    described = {"name": config.noise.name, "exponent": power_exponent(config, None)}
    try:
        noise = make_noise(config, vocabulary)
    except ConfigError as error:
        return described | {"error": str(error)}
    if isinstance(noise, AnnealedNoise):
        return described | {"probabilities": noise.probabilities(STAGES - 1)}
    return described | {"probabilities": noise.probabilities}


def power_exponent(config: Config, default: float | None) -> float | None:
    """Return α of noise in proportion to count^α, or the default for any other noise."""
    if config.noise.name == "uniform":
        return 0.0
    return config.noise.exponent if config.noise.name == "power" else default  # type: ignore[attr-defined]


def count_head_words(words: int) -> int:
    """Return the number of words that are not rare: 1,000, or for less than 4,000 the power of ten within a quarter.

    >>> count_head_words(70_000), count_head_words(4000), count_head_words(3999), count_head_words(3)
    (1000, 1000, 100, 1)
    """
    return 10 ** min(3, max(0, math.floor(math.log10(max(words, 1) / 4)))) if words >= 4 else 1
