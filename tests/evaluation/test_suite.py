"""All sets at once: as summary.json keeps them, an error in the place of a score that cannot be had."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics

from skiplight.corpus.vocabulary import Vocabulary
from skiplight.evaluation.analogy import analogy
from skiplight.evaluation.similarity import similarity
from skiplight.evaluation.suite import EvaluationSuite, evaluate
from skiplight.vectors.word_vectors import WordVectors


def test_every_set_is_reported_by_its_name(trained, tmp_path):
    (tmp_path / "mine.tsv").write_text("police\tman\t3\nthe\tyear\t1\nnew\tday\t2\n")
    results = evaluate(trained.ours, ["wordsim353", tmp_path / "mine.tsv"], ["google"], restrict_vocabulary=1_000)
    assert list(results) == ["wordsim353", "mine", "google"]
    assert results["wordsim353"]["score"] == similarity(trained.ours, "wordsim353").score
    assert results["google"]["oov"] == analogy(trained.ours, "google", 1_000).oov
    assert json.loads(json.dumps(results))["google"]["sections"]["family"][1] >= 0


def test_a_set_that_cannot_be_evaluated_says_why_and_the_others_are_scored(trained, tmp_path):
    results = evaluate(trained.ours, [tmp_path / "absent.tsv", "simlex999"], [])
    assert "no evaluation set" in results["absent"]["error"]
    assert results["simlex999"]["pairs"] > 10


def test_sets_of_one_name_are_told_apart_by_their_paths(trained, tmp_path):
    paths = [tmp_path / folder / "set.tsv" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.write_text("police\tman\t3\nthe\tyear\t1\n")
    assert list(evaluate(trained.ours, paths, [])) == ["set", str(paths[1])]


def test_built_in_sets_are_read_without_importing_gensim():
    code = """if True:
        import sys
        import skiplight.evaluation.suite, skiplight.evaluation.neighbors, skiplight.vectors.export
        from skiplight.evaluation.analogy import read_questions
        from skiplight.evaluation.similarity import read_pairs
        assert len(read_questions("google")) == 19544
        assert len(read_pairs("wordsim353").words) == 353
        assert not {"gensim", "torchmetrics", "scipy"} & set(sys.modules), "a slow import"
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def of_one(evaluation: Any, vectors: WordVectors) -> dict[str, Any]:
    suite = EvaluationSuite()
    suite.add("mine", evaluation)
    return suite(vectors)["mine"]


class Mean(torchmetrics.MeanMetric):
    def update(self, vectors):
        super().update(vectors.input)


@pytest.mark.parametrize(
    ("evaluation", "result"),
    [
        (lambda vectors: 3, {"score": 3.0}),
        (lambda vectors: torch.tensor([0.5]), {"score": 0.5}),
        (lambda vectors: {"a": np.float32(2), 5: 1}, {"scores": {"a": 2.0, "5": 1.0}}),
        (Mean(), {"score": 1.0}),
        (torchmetrics.MetricCollection({"one": Mean(), "other": Mean()}), {"scores": {"one": 1.0, "other": 1.0}}),
    ],
)
def test_a_number_or_several_are_results(evaluation: Any, result: dict[str, Any]) -> None:
    assert of_one(evaluation, WordVectors(Vocabulary(["a", "b"], [2, 1]), torch.ones(2, 3))) == result


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        (lambda vectors: math.nan, "its result is nan, which is not a finite number"),
        (lambda vectors: {"a": 1, "b": torch.tensor(math.inf)}, "its b is inf, which is not a finite number"),
        (lambda vectors: "good", "its result is 'good', which is not a number"),
        (lambda vectors: True, "its result is True, which is not a number"),
        (lambda vectors: torch.ones(2), "which is not a number"),
        (lambda vectors: {}, "it returns no result"),
        (lambda vectors: vectors.nothing, "AttributeError: 'WordVectors' object has no attribute 'nothing'"),
        (torch.nn.Linear(1, 1), "it is a Linear: register a function of vectors, or what makes a Metric"),
    ],
)
def test_what_is_wrong_with_an_evaluation_is_its_result(evaluation: Any, message: str) -> None:
    error = of_one(evaluation, WordVectors(Vocabulary(["a", "b"], [2, 1]), torch.ones(2, 3)))["error"]
    assert error.startswith("the evaluation mine: ")
    assert message in error


class Scaled(Mean):
    def update(self, vectors):
        super().update(WordVectors(vectors.vocabulary, vectors.input.zero_()))


@pytest.mark.parametrize("evaluation", [lambda vectors: vectors.input.zero_().sum(), Scaled()])
def test_an_evaluation_that_changes_its_vectors_changes_no_others(evaluation: Any) -> None:
    vectors = WordVectors(Vocabulary(["a", "b"], [2, 1]), torch.ones(2, 3))
    assert of_one(evaluation, vectors) == {"score": 0.0}
    assert vectors.input.sum() == 6


def test_an_evaluation_by_a_name_that_is_taken_is_refused() -> None:
    suite = EvaluationSuite.of(["wordsim353"])
    with pytest.raises(ValueError, match="there is an evaluation wordsim353 already"):
        suite.add("wordsim353", Mean())
    with pytest.raises(ValueError, match="there is an evaluation heldout already"):
        suite.add("heldout", Mean())
