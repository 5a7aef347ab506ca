"""Evaluations by name: those of the package and of plug-ins, with the results as `summary.json` stores them.

A registered evaluation is a function of vectors that returns a number, or several by name; or whatever makes a
torchmetrics `Metric` or `MetricCollection` from its options, a class or a function, whose `update` gets the vectors.

A failed evaluation must not end a training: if a set cannot be evaluated, its result is the reason. Several ranks share
out the work. A metric whose `update` takes `rank` and `world` is updated by every rank with its share of the questions,
and torchmetrics adds up the states. Any other evaluation is the work of a single rank, of another one for each.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import math
import numbers
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from skiplight.errors import ConfigError, EvaluationError
from skiplight.evaluation.ranks import ALONE, Ranks
from skiplight.evaluation.sets import set_name
from skiplight.registry import EVALUATIONS, register_evaluation
from skiplight.vectors.results import FEW
from skiplight.vectors.word_vectors import WordVectors

if TYPE_CHECKING:
    from skiplight.evaluation.heldout import HeldoutLoss

log = logging.getLogger(__name__)

Sources = Iterable[str | os.PathLike[str]]
Results = dict[str, dict[str, Any]]

HELDOUT = "heldout"
"""The name of the result on held-out text."""

MEANS = ("perplexity", "loss")
"""The fields of that result which are tracked over a run."""

HIT_RATE_KEYS = ("ndcg", "mrr", "popularity")
"""The other fields of a hit rate that are tracked."""


@register_evaluation("similarity")
def word_similarity(*, source: str = "wordsim353") -> Any:
    """Return the metric of a set of word pairs; torchmetrics is imported here, which takes a second."""
    from skiplight.evaluation.metrics import WordSimilarity

    return WordSimilarity(source)


@register_evaluation("analogy")
def word_analogy(*, source: str = "google", restrict_vocabulary: int = 30_000) -> Any:
    """Return the metric of a set of analogy questions."""
    from skiplight.evaluation.metrics import WordAnalogy

    return WordAnalogy(source, restrict_vocabulary)


@register_evaluation("hit_rate")
def item_hit_rate(*, source: str = "synthetic_sessions") -> Any:
    """Return the metric of a set of item sequences."""
    from skiplight.evaluation.metrics import HitRate

    return HitRate(source)


def evaluate(
    vectors: WordVectors,
    similarity: Sources = ("wordsim353", "simlex999"),
    analogy: Sources = ("google",),
    restrict_vocabulary: int = 30_000,
    hit_rate: Sources = (),
    metrics: Mapping[str, Mapping[str, Any]] | None = None,
) -> Results:
    """Score vectors on sets of word pairs, analogy questions and item sequences, and by registered evaluations.

    Args:
        vectors: the vectors; analogies are solved on their device.
        similarity: built-in sets or files of word pairs.
        analogy: built-in sets or files of analogy questions.
        restrict_vocabulary: number of most frequent words that analogies are restricted to. Similarity keeps gensim's
            300,000, because it ranks only the pairs themselves.
        hit_rate: `synthetic_sessions`, or files of sequences whose last item is to be predicted.
        metrics: further registered evaluations, with their options.

    Returns:
        For each set, by name (the stem of a file, or its whole path if the stem is taken), the fields of its
        SimilarityResult, AnalogyResult or HitRateResult, or `{"error": reason}`; for each further evaluation
        `{"score": number}`, or `{"scores": {key: number}}` if it returns several.
    """
    return EvaluationSuite.of(similarity, analogy, restrict_vocabulary, hit_rate, metrics)(vectors)


def read_sets(similarity: Sources, analogy: Sources, hit_rate: Sources) -> None:
    """Read all sets that are named, so that what is wrong with a file is known before a long training.

    Raises:
        ConfigError: a set cannot be read; the message names the option.
    """
    from skiplight.evaluation.analogy import read_questions
    from skiplight.evaluation.hit_rate import read_sequences
    from skiplight.evaluation.similarity import read_pairs

    readers = {"similarity": (read_pairs, similarity), "analogy": (read_questions, analogy)}
    for kind, (read, sources) in (readers | {"hit_rate": (read_sequences, hit_rate)}).items():
        for source in sources:
            try:
                read(source)
            except EvaluationError as error:
                raise ConfigError(f"`evaluation.{kind}=[{source}]`: {error}") from None


def evaluation_metrics(results: Results) -> dict[str, float]:
    """Return the results of an evaluation that are tracked over a run, by their names in metrics.jsonl."""
    found: dict[str, float] = {}
    for name, result in results.items():
        if "score" in result:
            found[f"evaluation/{name}"] = result["score"]
        several = result.get("scores") or {key: result[key] for key in HIT_RATE_KEYS if key in result}
        found |= {f"evaluation/{name}/{key}": value for key, value in several.items()}
    heldout = results.get(HELDOUT, {})
    parts = {HELDOUT: heldout, "validation": heldout.get("validation", {})}
    return found | {f"{part}/{name}": of[name] for part, of in parts.items() for name in MEANS if name in of}


class EvaluationSuite:
    """Evaluations by the names of their results, which are called with vectors."""

    def __init__(self) -> None:
        self._evaluations: dict[str, _Evaluation] = {}
        self._warned: set[str] = set()

    @classmethod
    def of(
        cls,
        similarity: Sources = (),
        analogy: Sources = (),
        restrict_vocabulary: int = 30_000,
        hit_rate: Sources = (),
        metrics: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> EvaluationSuite:
        """Return the suite of some sets and registered evaluations; arguments are those of `evaluate`.

        Raises:
            ConfigError: nothing is registered by the name of a metric, or it is that of a set.
        """
        suite = cls()
        for kind, sources in (("similarity", similarity), ("analogy", analogy), ("hit_rate", hit_rate)):
            options = {"restrict_vocabulary": restrict_vocabulary} if kind == "analogy" else {}
            for source in sources:
                name = set_name(source)
                name = str(source) if suite._has(name) else name
                suite._add(name, kind, options | {"source": source})
        for name, own in (metrics or {}).items():
            if suite._has(name):
                raise ConfigError(f"`evaluation.metrics={name}`: a set of words or text is called so too, rename one")
            suite._add(name, name, dict(own or {}))
        return suite

    def _add(self, name: str, registered: str, options: dict[str, Any]) -> None:
        entry = EVALUATIONS[registered]
        plugin = None if entry.is_built_in else f"the evaluation {name} of {entry.plugin}"
        self._evaluations[name] = _Evaluation(entry.target, dataclasses.asdict(entry.options()) | options, plugin)

    def _has(self, name: str) -> bool:
        return name in self._evaluations or name == HELDOUT

    def add(self, name: str, evaluation: Any) -> None:
        """Add an evaluation.

        Args:
            name: of its result: `evaluation/NAME`.
            evaluation: a torchmetrics `Metric` or `MetricCollection`, or a function of vectors.
        """
        if self._has(name):
            raise ValueError(f"there is an evaluation {name} already: give another name")
        is_function = inspect.isroutine(evaluation)
        made = evaluation if is_function else lambda: evaluation
        self._evaluations[name] = _Evaluation(made, {}, f"the evaluation {name}")

    def __len__(self) -> int:
        return len(self._evaluations)

    def __call__(
        self,
        vectors: WordVectors,
        ranks: Ranks = ALONE,
        heldout: Callable[[HeldoutLoss, int, int], None] | None = None,
    ) -> Results:
        """Return the results of all evaluations, the same on every rank; all ranks must call this.

        Args:
            vectors: the same on all ranks that take a share.
            ranks: the ranks that evaluate together.
            heldout: updates a metric with share number RANK of WORLD of the held-out text; its result is `heldout`, and
                that of its validation part is in it.
        """
        steps = self._evaluations if heldout is None else self._evaluations | {HELDOUT: _Heldout(heldout)}
        found = {
            name: step.measure(vectors, ranks, owner=number % ranks.world)
            for number, (name, step) in enumerate(steps.items())
        }
        # What failed on any rank has failed on all, so that none waits for the states of another.
        gathered = ranks.gather(found)
        results = {}
        for name, step in steps.items():
            parts = [part[name] for part in gathered if part[name] is not None]
            failed = next((part for part in parts if "error" in part), None)
            results[name] = failed or (step.collect(ranks) if step.is_shared else parts[0])
            step.reset()
        return results

    def warn(self, results: Mapping[str, Any]) -> None:
        """Log each error among results, once for each name."""
        for name, result in results.items():
            if isinstance(result, dict) and "error" in result and name not in self._warned:
                self._warned.add(name)
                log.warning("evaluation of %s left out: %s", name, result["error"])


class _Evaluation:
    """One evaluation.

    Args:
        target: what is registered: a function of vectors, or what makes a metric.
        options: of `target`.
        plugin: what errors call it; None for an evaluation of the package.
    """

    def __init__(self, target: Callable[..., Any], options: dict[str, Any], plugin: str | None) -> None:
        self.target, self.options, self.plugin = target, options, plugin
        self.is_function = _is_function(target)
        self.is_shared = False
        self._metric: Any = None

    def measure(self, vectors: WordVectors, ranks: Ranks, owner: int) -> dict[str, Any] | None:
        """Do this rank's part; return an error, the result of an evaluation that is not shared, or None.

        Args:
            vectors: the vectors.
            ranks: the ranks that evaluate together.
            owner: the rank that evaluates alone, if the work is not shared.
        """
        try:
            if self._metric is None and not self.is_function:
                self._make()
            if self.is_shared and ranks.rank is not None:
                self.update(vectors, ranks.rank, ranks.world)
            if self.is_shared or ranks.rank != owner:
                return None
            if self.is_function:
                return _result(self.target(self._given(vectors), **self.options))
            self._let_sync(None)
            self._metric.update(self._given(vectors))
            return _result(self._metric.compute())
        except Exception as error:
            return self._failed(error)

    def _make(self) -> None:
        import torchmetrics

        made = self.target(**self.options)
        if not isinstance(made, torchmetrics.Metric | torchmetrics.MetricCollection):
            raise EvaluationError(
                f"it is a {type(made).__name__}: register a function of vectors, or what makes a Metric or a"
                " MetricCollection of torchmetrics"
            )
        self._metric = made
        self.is_shared = all(
            {"rank", "world"} <= inspect.signature(metric.update).parameters.keys() for metric in _metrics_of(made)
        )

    def _let_sync(self, group: Any) -> None:
        """Let the metric synchronise over a process group, or not at all."""
        for metric in _metrics_of(self._metric):
            metric.process_group, metric.distributed_available_fn = group, _never if group is None else _always

    def update(self, vectors: WordVectors, rank: int, world: int) -> None:
        """Update the metric with a share of the questions."""
        self._metric.update(self._given(vectors), rank=rank, world=world)

    def _given(self, vectors: WordVectors) -> WordVectors:
        """Return the vectors, for a plug-in as a copy: it may scale them in place, and they are the model's tables."""
        return vectors if self.plugin is None else vectors.copy()

    def collect(self, ranks: Ranks) -> dict[str, Any]:
        """Return the result of a shared metric, from the states of all ranks; all of them must call this."""
        from skiplight.evaluation.metrics import SummedMetric

        self._let_sync(ranks.group)
        try:
            if isinstance(self._metric, SummedMetric):
                return _marked(dataclasses.asdict(self._metric.result(), dict_factory=_without_none))
            return _result(self._metric.compute())
        except Exception as error:
            return self._failed(error)

    def reset(self) -> None:
        """Forget the vectors."""
        if self._metric is not None:
            self._metric.reset()

    def _failed(self, error: Exception) -> dict[str, Any]:
        """Return the result of an evaluation that failed; an error in the package's own code is raised."""
        if self.plugin is None:
            if not isinstance(error, EvaluationError):
                raise error
            return {"error": str(error)}
        kind = "" if isinstance(error, EvaluationError) else f"{type(error).__name__}: "
        return {"error": f"{self.plugin}: {kind}{error}; correct it, or leave it out"}


class _Heldout(_Evaluation):
    """The held-out loss, which needs the whole model."""

    def __init__(self, update: Callable[[HeldoutLoss, int, int], None]) -> None:
        from skiplight.evaluation.heldout import HeldoutLoss

        super().__init__(HeldoutLoss, {}, None)
        self._update = update

    def update(self, vectors: WordVectors, rank: int, world: int) -> None:
        self._update(self._metric, rank, world)


def _without_none(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in fields if value is not None}


def _marked(result: dict[str, Any]) -> dict[str, Any]:
    """Mark a score of so few pairs or questions that it is hardly better than chance, as `few`."""
    number = result.get("questions", result.get("pairs", FEW))
    return result | {"few": True} if number < FEW and "score" in result else result


def _is_function(target: Any) -> bool:
    """Return whether it is a function of vectors, rather than what makes a metric."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(target).parameters.values()
    return not isinstance(target, type) and any(parameter.kind in positional for parameter in parameters)


def _metrics_of(metric: Any) -> list[Any]:
    """Return the metrics of a collection, or the metric itself."""
    import torchmetrics

    return list(metric.values()) if isinstance(metric, torchmetrics.MetricCollection) else [metric]


def _result(value: Any) -> dict[str, Any]:
    """Return a number as `score`, or several as `scores`.

    Raises:
        EvaluationError: one is no finite number, or there is none.
    """
    if isinstance(value, Mapping):
        if not value:
            raise EvaluationError("it returns no result")
        return {"scores": {str(key): _number(number, f"its {key}") for key, number in value.items()}}
    return {"score": _number(value, "its result")}


def _number(value: Any, what: str) -> float:
    """Return a finite number.

    Raises:
        EvaluationError: it is none.
    """
    single = getattr(value, "numel", lambda: 1)() == 1
    if isinstance(value, bool) or not single or not (isinstance(value, numbers.Real) or hasattr(value, "item")):
        raise EvaluationError(f"{what} is {value!r}, which is not a number")
    number = float(value)
    if not math.isfinite(number):
        raise EvaluationError(f"{what} is {number}, which is not a finite number")
    return number


def _never() -> bool:
    return False


def _always() -> bool:
    return True
