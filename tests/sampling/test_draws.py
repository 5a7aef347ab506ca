"""The draws are the published generator, the same in every implementation, and as likely as they should be."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from skiplight.sampling import draws_numba
from skiplight.sampling.draws import Purpose, mix64, thresholds_at_most, thresholds_below
from skiplight.sampling.draws_torch import draw_bits, draw_negative_bits, philox
from skiplight.sampling.noise import NoiseDistribution, power_weights
from skiplight.sampling.subsampling import keep_probabilities, keep_thresholds

word = st.integers(0, 2**32 - 1)

# Random123's kat_vectors for philox4x32, 10 rounds: counter, key, result.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def _words(text: str) -> list[int]:
    return [int(part, 16) for part in text.split()]


@numba.njit
def _philox(a, b, c, d, k0, k1):
    return draws_numba.philox(a, b, c, d, k0, k1)


@numba.njit
def _negative(place, n, attempt, seed, epoch, columns):
    return draws_numba.draw_negative(place, n, attempt, seed, epoch, columns)


@numba.njit
def _mix64(document):
    return draws_numba.mix64(document)


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter: str, key: str, result: str) -> None:
    c, k = _words(counter), _words(key)
    assert [int(w) for w in philox(tuple(c), tuple(k))] == _words(result)  # type: ignore[arg-type]
    assert [int(w) for w in _philox(*(np.uint64(w) for w in c + k))] == _words(result)


@given(st.lists(word, min_size=6, max_size=6))
def test_torch_and_numba_give_the_same_words(words: list[int]) -> None:
    counter, key = tuple(words[:4]), (words[4], words[5])
    assert [int(w) for w in philox(counter, key)] == [int(w) for w in _philox(*(np.uint64(w) for w in words))]


@given(st.integers(-(2**63), 2**63 - 1))
def test_mix64_is_the_same_in_numpy_and_numba(document: int) -> None:
    assert int(mix64(np.array([document]))[0]) == int(_mix64(np.int64(document)))


@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 5000), st.integers(0, 16), word, word)
def test_negatives_are_the_same_in_torch_and_numba(place: int, n: int, attempt: int, seed: int, epoch: int) -> None:
    noise = NoiseDistribution(power_weights(np.array([50, 20, 7, 3, 1]), 0.75))
    a, b = draw_negative_bits((seed, epoch), torch.tensor(place), torch.tensor(n), attempt)
    column = int(a) * len(noise) >> 32
    expected = column if int(b) < noise.threshold[column] else noise.alias[column]
    got = _negative(np.uint64(place % 2**64), n, attempt, np.uint64(seed), np.uint64(epoch), noise.columns)
    assert got == expected


def test_the_first_negative_shares_the_tokens_own_call() -> None:
    words = draw_bits((1, 2), torch.tensor(77), Purpose.TOKEN)
    a, b = draw_negative_bits((1, 2), torch.tensor(77), torch.tensor(0), attempt=0)
    assert (int(a), int(b)) == (int(words[2]), int(words[3]))


def drawn_probabilities(noise: NoiseDistribution) -> np.ndarray:
    """Return what the integer tables give exactly: `probabilities` but for roundings of 2^-32."""
    own = noise.threshold.astype(np.float64) / 2.0**32
    return (own + np.bincount(noise.alias, weights=1.0 - own, minlength=len(noise))) / len(noise)


@pytest.mark.parametrize("exponent", [0.75, 0.0, 1.0, -0.5, -1.0, 2.3])
def test_noise_draws_have_the_exact_distribution(exponent: float) -> None:
    counts = np.array([1000, 500, 100, 100, 30, 5, 1])
    noise = NoiseDistribution(power_weights(counts, exponent))
    exact = counts**exponent / (counts**exponent).sum()
    np.testing.assert_allclose(noise.probabilities, exact, rtol=1e-12)
    np.testing.assert_allclose(drawn_probabilities(noise), exact, atol=1e-9)

    n = 200_000
    a, b = draw_negative_bits((5, 0), torch.arange(n), torch.tensor(3), attempt=0)
    column = (a * len(noise) >> 32).numpy()
    drawn = np.where(b.numpy() < noise.threshold[column], column, noise.alias[column])
    observed = np.bincount(drawn, minlength=len(counts))
    enough = exact * n >= 5
    observed, expected = (
        np.append(observed[enough], observed[~enough].sum()),
        np.append(exact[enough], exact[~enough].sum()),
    )
    keep = expected > 0
    assert chisquare(observed[keep], expected[keep] * n).pvalue > 1e-4


@given(
    st.lists(st.integers(1, 10**9), min_size=1, max_size=300),
    st.floats(-3, 3, allow_nan=False),
)
def test_the_alias_table_is_exact_for_any_counts(counts: list[int], exponent: float) -> None:
    noise = NoiseDistribution(power_weights(np.array(counts), exponent))
    np.testing.assert_allclose(drawn_probabilities(noise), noise.probabilities, atol=1e-8)
    assert noise.probabilities.sum() == pytest.approx(1)


def test_a_huge_exponent_does_not_overflow() -> None:
    noise = NoiseDistribution(power_weights(np.array([10**9, 10**9, 1]), 10.0))
    np.testing.assert_allclose(noise.probabilities, [0.5, 0.5, 0], atol=1e-9)


def test_words_that_do_not_occur_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        NoiseDistribution(power_weights(np.array([1, 0]), 0.75))


def test_thresholds_are_exact_at_the_ends() -> None:
    assert thresholds_at_most(np.array([1.0]))[0] == 2**32 - 1  # every word is at most this
    assert thresholds_below(np.array([0.0]))[0] == 0  # no word is below this


def test_tokens_are_kept_with_word2vecs_probability() -> None:
    counts = np.array([900_000, 90_000, 9_000, 900, 100])
    probability = keep_probabilities(counts, 1e-3)
    f = counts / counts.sum()
    np.testing.assert_allclose(probability, np.minimum(1, np.sqrt(1e-3 / f) + 1e-3 / f))
    n = 100_000
    words = draw_bits((9, 1), torch.arange(n), Purpose.TOKEN)[0].numpy()
    kept = (words[:, None] <= keep_thresholds(counts, 1e-3)).sum(0)
    deviation = np.sqrt(n * probability * (1 - probability))
    assert np.all(np.abs(kept - n * probability) <= 4.5 * deviation)


def test_nothing_is_dropped_without_subsampling() -> None:
    assert np.all(keep_thresholds(np.array([10, 1]), 0) == 2**32 - 1)


def test_draws_of_epochs_seeds_and_places_differ_and_are_uniform() -> None:
    first = draw_bits((1, 0), torch.arange(50_000), Purpose.TOKEN)
    for other in (
        draw_bits((2, 0), torch.arange(50_000), Purpose.TOKEN),
        draw_bits((1, 1), torch.arange(50_000), Purpose.TOKEN),
    ):
        assert (first[0] == other[0]).float().mean() < 1e-3
    for words in first:
        counts = np.bincount((words >> 24).numpy(), minlength=256)
        assert chisquare(counts).pvalue > 1e-4
