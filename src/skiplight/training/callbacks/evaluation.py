"""Evaluation during training: similarity, analogies, held-out text and neighbours.

An evaluation that fails is logged once as a warning and recorded as an error; training continues.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import lightning

from skiplight.data.datamodule import SkipGramDataModule
from skiplight.distributed.strategy import final_tables, synchronize
from skiplight.errors import EvaluationError
from skiplight.evaluation.heldout import heldout
from skiplight.evaluation.neighbors import neighbors
from skiplight.evaluation.suite import evaluate
from skiplight.files import parse_json
from skiplight.objectives.base import Objective, Tables
from skiplight.training.callbacks.tracking import Tracking
from skiplight.training.loggers import log_neighbors
from skiplight.training.module import SkipGramModule
from skiplight.vectors.word_vectors import WordVectors

log = logging.getLogger(__name__)

NEIGHBORS = 10


class Evaluation(lightning.Callback):
    """Evaluate at an interval in tokens, and at the end of training.

    Args:
        data: provides the vocabulary and the held-out text.
        tracking: writes the scores, and stops its clock during an evaluation.
        every: tokens between two evaluations; None for the end only.
        similarity, analogy, hit_rate: sets, built in or files.
        words: words whose neighbours are shown.
        restrict_vocabulary: number of most frequent words that may answer analogies.
        interrupted: whether training was stopped to be resumed, so that its end is no result.

    Attributes:
        results: the results of the last evaluation by set, as in summary.json.
        neighbors: the neighbours of `words` at the last evaluation.
        seconds: the duration of all evaluations.
        evaluated: tokens of the run at the last evaluation; -1 before the first.
    """

    def __init__(
        self,
        data: SkipGramDataModule,
        tracking: Tracking,
        *,
        every: int | None,
        similarity: list[str],
        analogy: list[str],
        hit_rate: list[str],
        words: list[str],
        restrict_vocabulary: int,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self.interrupted = interrupted
        self.data, self.tracking, self.every, self.words = data, tracking, every, words
        self.sets = functools.partial(
            evaluate, similarity=similarity, analogy=analogy, hit_rate=hit_rate, restrict_vocabulary=restrict_vocabulary
        )
        self.results: dict[str, dict[str, Any]] = {}
        self.neighbors: dict[str, list[tuple[str, float]]] = {}
        self.seconds = 0.0
        self._next = 0
        self.evaluated = -1
        self._warned: set[str] = set()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, SkipGramModule)
        if self.every is not None:
            self._next = (pl_module.tokens // self.every + 1) * self.every

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        assert isinstance(pl_module, SkipGramModule)
        if self.every is not None and pl_module.tokens >= self._next and pl_module.tokens < pl_module.total_tokens:
            self._next = (pl_module.tokens // self.every + 1) * self.every
            self.run(trainer, pl_module)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, SkipGramModule)
        # Not again if it ended at an evaluation.
        ended = pl_module.tokens >= pl_module.total_tokens or not self.interrupted()
        if ended and self.evaluated != pl_module.tokens:
            synchronize(trainer)
            self.run(trainer, pl_module)

    def run(self, trainer: lightning.Trainer, module: SkipGramModule) -> None:
        """Evaluate on the first rank, while the others wait; the state of the training does not change."""
        self.evaluated = module.tokens
        with final_tables(trainer, module.tables) as tables:
            if trainer.is_global_zero:
                self._evaluate(trainer, module, tables)
        metrics = evaluation_metrics(self.results)
        if self.tracking.shares and trainer.world_size > 1:
            metrics = trainer.strategy.broadcast(metrics)  # for the callbacks of the other ranks
        self.tracking.write(trainer, module, metrics)

    def _evaluate(self, trainer: lightning.Trainer, module: SkipGramModule, tables: Tables) -> None:
        begin = time.perf_counter()
        with self.tracking.paused():
            vectors = WordVectors(self.data.text.vocabulary, tables.input.weight.detach())
            self.results = self.sets(vectors)
            if self.data.validation_pairs:
                self.results["heldout"] = _or_error(lambda: self._heldout(module.objective, tables))
            near = {word: _or_error(functools.partial(neighbors, vectors, word, NEIGHBORS)) for word in self.words}
            self.neighbors = {word: nearest for word, nearest in near.items() if isinstance(nearest, list)}
        self.seconds += time.perf_counter() - begin
        for what, result in [*self.results.items(), *near.items()]:
            if isinstance(result, dict) and "error" in result and what not in self._warned:
                self._warned.add(what)
                log.warning("evaluation of %s left out: %s", what, result["error"])
        log_neighbors(trainer.logger, self.neighbors, module.tokens)

    def _heldout(self, objective: Objective, tables: Tables) -> dict[str, Any]:
        return dataclasses.asdict(heldout(objective, tables, self.data.heldout_pairs()))

    def state_dict(self) -> dict[str, Any]:
        found = json.dumps({"results": self.results, "neighbors": self.neighbors})
        return {"seconds": self.seconds, "evaluated": self.evaluated, "found": found}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds, self.evaluated = state_dict["seconds"], state_dict["evaluated"]
        found = parse_json(state_dict["found"])
        self.results, self.neighbors = found["results"], found["neighbors"]


def evaluation_metrics(results: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return the results of an evaluation that are tracked over a run, by their names in metrics.jsonl."""
    metrics = {f"evaluation/{name}": result["score"] for name, result in results.items() if "score" in result}
    heldout = results.get("heldout", {})
    return metrics | {f"heldout/{name}": heldout[name] for name in ("perplexity", "loss") if name in heldout}


def _or_error(measure: Callable[[], Any]) -> Any:
    try:
        return measure()
    except EvaluationError as error:
        return {"error": str(error)}
