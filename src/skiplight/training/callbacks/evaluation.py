"""Evaluation during training: similarity, analogies, held-out text and neighbours.

An evaluation that fails is logged once as a warning and recorded as an error; training continues.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from typing import Any

import lightning

from skiplight.data.datamodule import SkipGramDataModule
from skiplight.distributed.strategy import evaluating_ranks, final_tables, synchronize
from skiplight.errors import EvaluationError
from skiplight.evaluation.heldout import HeldoutLoss, unigram
from skiplight.evaluation.neighbors import neighbors
from skiplight.evaluation.ranks import Ranks
from skiplight.evaluation.suite import HELDOUT, Results, evaluation_metrics
from skiplight.files import parse_json
from skiplight.objectives.base import Tables
from skiplight.training.callbacks.tracking import Tracking
from skiplight.training.loggers import log_neighbors
from skiplight.training.module import SkipGramModule
from skiplight.vectors.word_vectors import WordVectors

NEIGHBORS = 10


class Evaluation(lightning.Callback):
    """Evaluate at an interval in tokens, and at the end of training: the module's `evaluation` and held-out text.

    Args:
        data: provides the vocabulary and the held-out text.
        tracking: writes the scores, and stops its clock during an evaluation.
        every: tokens between two evaluations; None for the end only.
        words: words whose neighbours are shown.
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
        words: list[str],
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self.interrupted = interrupted
        self.data, self.tracking, self.every, self.words = data, tracking, every, words
        self.results: Results = {}
        self.neighbors: dict[str, list[tuple[str, float]]] = {}
        self.seconds = 0.0
        self._next = 0
        self.evaluated = -1

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
        """Evaluate on all ranks, each a share; the state of the training does not change."""
        self.evaluated = module.tokens
        ranks = evaluating_ranks(trainer)
        with final_tables(trainer, module.tables) as tables:
            self._evaluate(trainer, module, tables, ranks)
        self.tracking.write(trainer, module, evaluation_metrics(self.results))

    def _evaluate(self, trainer: lightning.Trainer, module: SkipGramModule, tables: Tables, ranks: Ranks) -> None:
        def heldout(metric: HeldoutLoss, rank: int, world: int) -> None:
            metric.update(module.objective, tables, self.data.heldout_pairs(), rank=rank, world=world)

        begin = time.perf_counter()
        with self.tracking.paused():
            vectors = WordVectors(self.data.text.vocabulary, tables.input.weight.detach())
            self.results = module.evaluation(vectors, ranks, heldout if self.data.validation_pairs else None)
            # They need no more time than a message to the other ranks.
            words = self.words if trainer.is_global_zero else []
            near = {word: _or_error(functools.partial(neighbors, vectors, word, NEIGHBORS)) for word in words}
            self.neighbors = {word: nearest for word, nearest in near.items() if isinstance(nearest, list)}
            if "perplexity" in self.results.get(HELDOUT, {}):
                self.results[HELDOUT]["unigram"] = self._unigram_perplexity
        self.seconds += time.perf_counter() - begin
        if trainer.is_global_zero:
            module.evaluation.warn({**self.results, **near})
        log_neighbors(trainer.loggers, self.neighbors, module.tokens, trainer.global_step)

    @functools.cached_property
    def _unigram_perplexity(self) -> float:
        """That of word frequencies alone; output words have the frequencies that subsampling leaves."""
        frequencies = self.data.text.vocabulary.counts * (self.data.sampler.keep + 1.0)
        return unigram(self.data.heldout_pairs(), frequencies).perplexity

    def state_dict(self) -> dict[str, Any]:
        found = json.dumps({"results": self.results, "neighbors": self.neighbors})
        return {"seconds": self.seconds, "evaluated": self.evaluated, "found": found}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds, self.evaluated = state_dict["seconds"], state_dict["evaluated"]
        found = parse_json(state_dict["found"])
        self.results, self.neighbors = found["results"], found["neighbors"]


def _or_error(measure: Callable[[], Any]) -> Any:
    try:
        return measure()
    except EvaluationError as error:
        return {"error": str(error)}
