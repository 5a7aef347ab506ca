"""From what the page knows of the vocabulary it computes the noise distribution that training draws from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiplight.config.schema import Config
from skiplight.corpus.vocabulary import Vocabulary
from skiplight.report.frequencies import word_frequencies
from skiplight.sampling.noise import NoiseDistribution, power_weights
from skiplight.sampling.subsampling import keep_probabilities


def vocabulary(counts: list[int]) -> Vocabulary:
    return Vocabulary([f"w{i}" for i in range(len(counts))], np.array(counts))


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=300), st.floats(-1, 1.5))
def test_levels_hold_the_noise_distribution_and_the_subsampling(counts: list[int], exponent: float) -> None:
    config = Config()
    found = word_frequencies(vocabulary(counts), config)
    size, count, kept = np.array(found["levels"]).T
    assert size.sum() == len(counts)
    assert found["tokens"] == sum(counts)
    weights = count**exponent
    noise = np.repeat(weights / (size * weights).sum(), size.astype(int))
    ordered = np.sort(np.array(counts))[::-1]
    assert noise == pytest.approx(NoiseDistribution(power_weights(ordered, exponent)).probabilities, rel=0.01)
    keep = keep_probabilities(ordered, config.sampling.subsample)
    assert np.repeat(kept, size.astype(int)) == pytest.approx(keep, rel=0.01, abs=1e-6)


def test_a_large_vocabulary_stays_small() -> None:
    counts = (1e9 / np.arange(1, 1_000_001)).astype(int)
    assert len(word_frequencies(vocabulary(counts.tolist()), Config())["levels"]) < 10_000


def test_examples_are_the_words_of_their_ranks() -> None:
    found = word_frequencies(vocabulary([3, 50, 7, 20, *[1] * 16]), Config())
    assert found["examples"] == [[1, "w1", 50], [10, "w9", 1], [20, "w19", 1]]
    assert found["head"] == 1
