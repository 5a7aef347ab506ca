"""From what the page knows of the vocabulary it computes the noise distribution that training draws from."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiplight.config.compose import compose
from skiplight.config.schema import Config
from skiplight.corpus.vocabulary import Vocabulary
from skiplight.data.from_config import make_noise
from skiplight.report.frequencies import word_frequencies
from skiplight.sampling.noise import STAGES, AnnealedNoise, NoiseDistribution, power_weights
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


@functools.cache
def composed(choice: str) -> Config:
    return compose([choice])


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=100))
@pytest.mark.parametrize("choice", ["noise=log_uniform", "noise=uniform", "noise=annealed_power"])
def test_any_noise_is_shown_as_the_run_drew_it(choice: str, counts: list[int]) -> None:
    counts = sorted(counts, reverse=True)
    config = composed(choice)
    found = word_frequencies(vocabulary(counts), config)
    drawn = make_noise(config, vocabulary(counts))
    expected = drawn.probabilities(STAGES - 1) if isinstance(drawn, AnnealedNoise) else drawn.probabilities
    sizes = [size for size, _, _ in found["levels"]]
    ends = np.cumsum(sizes)
    sums = np.add.reduceat(expected, ends - sizes)
    assert np.array(found["noise"]["probabilities"]) * sizes == pytest.approx(sums, rel=1e-4)
    assert found["noise"]["exponent"] == (0 if choice == "noise=uniform" else None)
    assert found["exponent"] == (0 if choice == "noise=uniform" else 0.75)


def test_a_page_says_why_the_noise_is_not_known_and_when_there_is_none(tmp_path: Path) -> None:
    weights = tmp_path / "weights.txt"
    lost = word_frequencies(vocabulary([3, 2]), compose(["noise=from_file", f"noise.path={weights}"]))["noise"]
    assert "weights.txt" in lost["error"]
    assert "probabilities" not in lost
    weights.write_text("w0 1\nw1 3\n")
    kept = word_frequencies(vocabulary([3, 2]), compose(["noise=from_file", f"noise.path={weights}"]))["noise"]
    assert kept["probabilities"] == [0.25, 0.75]
    assert word_frequencies(vocabulary([3, 2]), compose(["objective=full_softmax"]))["noise"] is None
