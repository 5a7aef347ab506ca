"""The interval of a score covers as often as it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata

from skiplight.vectors.results import describe_result, score_interval


@pytest.mark.parametrize(("correlation", "pairs"), [(0.0, 40), (0.5, 40), (0.7, 350)])
def test_the_interval_of_spearmans_correlation_covers_it(correlation: float, pairs: int) -> None:
    rng, samples = np.random.default_rng(0), 400
    x, noise = rng.normal(size=(2, samples, pairs))
    y = correlation * x + np.sqrt(1 - correlation**2) * noise
    ranks = [rankdata(values, axis=1) - (pairs + 1) / 2 for values in (x, y)]
    found = (ranks[0] * ranks[1]).sum(1) / (ranks[0] ** 2).sum(1)
    true = 6 / np.pi * np.arcsin(correlation / 2)  # of normal variables
    covered = [low <= true <= high for low, high in (score_interval({"score": r, "pairs": pairs}) for r in found)]
    assert 0.92 <= np.mean(covered) <= 0.98


def test_a_result_is_described_with_what_it_is_of() -> None:
    pairs = {"score": 0.2, "pearson": 0.2, "pairs": 300, "oov": 0.15}
    assert describe_result(pairs) == "0.200 (95 % interval 0.088 to 0.307; 300 pairs, 15.0 % out of vocabulary)"
    hits = {"score": 0.13, "popularity": 0.075, "oov": 0.197, "questions": 1000, "ndcg": 0.1, "mrr": 0.05}
    assert describe_result(hits).startswith(
        "hit rate at 10: 0.130 (95 % interval 0.111 to 0.152; popularity 0.075; 1,000 sequences; 19.7 % of seq"
    )
    assert "; 19.7 % of sequences end in a repeat and are left out, as are 2.0 % out of vocabulary)" in (
        describe_result(hits | {"oov": 0.02, "repeats": 0.197})
    )
    assert score_interval({"score": 1.0, "pairs": 3, "pearson": 1.0}) is None
    assert score_interval({"score": 0.3}) is None


def test_a_perplexity_is_held_against_that_of_word_frequencies() -> None:
    assert describe_result({"perplexity": 900.0, "pairs": 5000}) == "perplexity 900.0 over 5,000 pairs"
    better = describe_result({"perplexity": 900.0, "unigram": 1200.0, "pairs": 5000})
    assert better == "perplexity 900.0 over 5,000 pairs (word frequencies alone: 1,200.0)"
    worse = describe_result({"perplexity": 30_000.0, "unigram": 1200.0, "pairs": 5000})
    assert "the model is 25 times worse than word frequencies alone: it was trained too little" in worse
