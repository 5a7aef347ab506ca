"""What the result of an evaluation says: in a few words, with an interval of its score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

FEW = 30
"""Of fewer pairs or questions a score is hardly better than chance, and is marked."""

MANY_TIMES = 2
"""How many times the unigram model's a perplexity is that is called worse."""


def score_interval(result: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the 95 % interval of a score, over the sets of as many pairs or questions that might have been asked.

    That of Spearman's correlation of n pairs is by Fisher's transform with the variance (1 + r²/2) / (n - 3) (Bonett
    and Wright 2000, "Sample size requirements for estimating Pearson, Kendall and Spearman correlations"); that of a
    share of correct answers is Wilson's.

    Returns:
        None if the result is no score of a known number of pairs or questions, or of three pairs or fewer.

    >>> [round(end, 3) for end in score_interval({"score": 0.5, "pearson": 0.5, "pairs": 103})]
    [0.329, 0.639]
    >>> [round(end, 3) for end in score_interval({"score": 0.1, "questions": 50})]
    [0.043, 0.214]
    """
    score, pairs, questions = result.get("score"), result.get("pairs"), result.get("questions")
    if score is None or not math.isfinite(score):
        return None
    if pairs is not None and pairs > 3:
        middle = math.atanh(min(max(score, -1 + 1e-12), 1 - 1e-12))
        half = 1.959964 * math.sqrt((1 + score**2 / 2) / (pairs - 3))
        return math.tanh(middle - half), math.tanh(middle + half)
    if not questions:
        return None
    from scipy.stats import binomtest

    found = binomtest(round(score * questions), questions).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def describe_result(result: Mapping[str, Any]) -> str:
    """Return the result of an evaluation, which is no error, in a few words.

    >>> describe_result({"score": 0.5, "pearson": 0.5, "pairs": 12, "oov": 0.25})
    '0.500 (95 % interval -0.143 to 0.846; only 12 pairs, 25.0 % out of vocabulary)'
    """
    if "perplexity" in result:
        return _describe_perplexity(result)
    if "scores" in result:  # of a plug-in
        return ", ".join(f"{key} {value:.4g}" for key, value in result["scores"].items())
    if "oov" not in result:
        return f"{result['score']:.4g}"
    interval = score_interval(result)
    about = [] if interval is None else [f"95 % interval {interval[0]:.3f} to {interval[1]:.3f}"]
    oov = f"{result['oov']:.1%}".replace("%", " %")
    if "popularity" in result:
        others = "".join(f", {key.upper()} {result[key]:.3f}" for key in ("ndcg", "mrr") if key in result)
        left = f"{oov} of sequences are left out"
        if "repeats" in result:  # which older runs do not have
            left = f"{result['repeats']:.1%} of sequences end in a repeat and are left out".replace("%", " %")
            left += f", as are {oov} out of vocabulary" if result["oov"] else ""
        few = "only " if result["questions"] < FEW else ""
        about += [f"popularity {result['popularity']:.3f}", f"{few}{result['questions']:,} sequences"]
        return f"hit rate at 10: {result['score']:.3f} ({'; '.join([*about, left])}){others}"
    return f"{result['score']:.3f} ({'; '.join([*about, f'{count_of(result)}, {oov} out of vocabulary'])})"


def _describe_perplexity(result: Mapping[str, Any]) -> str:
    perplexity, unigram = result["perplexity"], result.get("unigram")  # which older runs do not have
    said = f"perplexity {perplexity:,.1f} over {result['pairs']:,} pairs"
    if unigram is None:
        return said
    said += f" (word frequencies alone: {unigram:,.1f})"
    if perplexity < MANY_TIMES * unigram:
        return said
    return (
        f"{said}: the model is {perplexity / unigram:,.3g} times worse than word frequencies alone: it was trained too"
        " little, or with too high a learning rate"
    )


def count_of(result: Mapping[str, Any]) -> str:
    """Return of how many pairs or questions a score is, with a word of warning if they are few."""
    kind = "pairs" if "pairs" in result else "questions"
    number = result.get(kind, 0)
    return f"{'only ' if number < FEW else ''}{number:,} {kind}"
