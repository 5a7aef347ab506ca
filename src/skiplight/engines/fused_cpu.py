"""The fused CPU engine: one compiled kernel draws windows and negatives from a block and moves both tables in place.

Autograd writes windows, scores and gradients to memory between operations; the kernel (`fused_cpu_numba.py`) keeps a
window in registers and the first-level cache from its draws to its update. It supports every objective that describes
its scores (`objectives/scoring.py`), with plain SGD or Adagrad. Each thread trains on some segments of a block, and all
threads, also those of other processes, write to the same tables without locks. The steps of rows that many threads move
at the same time are shortened (`in_flight.py`), but not those of Adagrad, whose sums of squares grow with every
gradient. With one thread, a run is reproducible bit for bit.

The sums of squares are those in the state of torch's Adagrad, which Lightning saves in checkpoints and which the
optimiser itself never reads, since no table has a gradient.
"""

from __future__ import annotations

import functools
import itertools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
import torch

from skiplight.engines.base import Engine, FusedEngine, Request, StepResult
from skiplight.engines.fused_cpu_numba import KERNEL_TYPES, Model, Rule, Sampling, Steps, train_segments
from skiplight.engines.microkernels import (
    LOGISTIC,
    SCORES,
    SOFTMAX,
    UPDATE,
    UPDATE_APART,
    UPDATE_APART_SCALED,
    UPDATE_SCALED,
    function_addresses,
)
from skiplight.errors import ConfigError
from skiplight.objectives.base import Objective, Tables
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.objectives.scoring import Paths
from skiplight.process import usable_cores
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.windows import WindowSampler
from skiplight.sampling.windows_numba import EXCLUDE

log = logging.getLogger(__name__)


PLAIN = {"momentum": 0, "weight_decay": 0, "lr_decay": 0, "maximize": False}
"""The arguments of optimisers that the kernel does not implement, and their only values."""


class FusedCpuEngine(FusedEngine):
    """Moves the tables along the gradient of an objective, one window at a time.

    Its workers are threads, by default one per core that the process may use.

    Raises:
        ConfigError: the optimiser has arguments that the kernel does not implement.
    """

    device: ClassVar[str] = "cpu"
    block_tokens: ClassVar[int] = 400_000

    def plan(self) -> tuple[bool, int]:
        return True, len(usable_cores())

    @property
    def threads(self) -> int:
        return self.own_workers

    def prepare(self) -> None:
        threads = self.own_workers
        self._pool = ThreadPoolExecutor(threads, "skiplight-fused") if threads > 1 else None
        group = self.optimizer.param_groups[0]
        for name, value in PLAIN.items():
            if group.get(name, value) != value:
                kind = type(self.optimizer).__name__
                raise ConfigError(f"the fused engine cannot do {kind} with {name}={group[name]}: leave it at {value}")
        self.functions = self._compile(UPDATE_APART, UPDATE)
        self.kernel = compile_kernel(self.is_plain)

    @functools.cached_property
    def scaled_functions(self) -> np.ndarray:
        """The functions for shortened steps, compiled when a training first needs them."""
        return self._compile(UPDATE_APART_SCALED, UPDATE_SCALED)

    @property
    def is_plain(self) -> bool:
        """Whether the kernel that only knows negative sampling in its usual form suffices."""
        scoring, sampler = self.scoring, self.sampler
        usual_scores = scoring.rule == "logistic" and scoring.shift is None and scoring.paths is None
        usual_windows = sampler.shared == "window" and sampler.input == "context"
        return usual_scores and usual_windows and self.tables.bias is None and not self.is_adaptive

    def _compile(self, *updates: int) -> np.ndarray:
        paths = self.scoring.paths
        sizes = [1 + self.sampler.negatives] if paths is None else sorted(set(paths.lengths.tolist()))
        scores = (SCORES, SOFTMAX) if self.scoring.rule == "softmax" else (LOGISTIC,)
        return function_addresses(self.tables.input.embedding_dim, sizes, (*scores, *updates))

    @classmethod
    def maker(
        cls, sampler: WindowSampler, threads: int | None, workers: int | None = None
    ) -> Callable[[Objective, Tables, torch.optim.Optimizer], Engine]:
        return functools.partial(cls, sampler=sampler, own_workers=threads, workers=workers)

    @classmethod
    def warm_up(cls, plain: bool) -> threading.Thread:
        thread = threading.Thread(target=compile_kernel, args=(plain,), name="skiplight-compile")
        thread.start()
        return thread

    @classmethod
    def unsupported(cls, request: Request) -> list[str]:
        negative_sampling = request.objective is NegativeSampling and not request.bias
        problems = {
            f"the objective {request.objective.__name__}": not request.objective.has_scoring(),
            f"the optimiser {request.optimizer.__name__}": (
                request.optimizer not in (torch.optim.SGD, torch.optim.Adagrad)
            ),
            "Adagrad on several ranks, which do not share its sums of squares": (
                request.optimizer is torch.optim.Adagrad and request.ranks > 1
            ),
            "an objective other than negative sampling, or an output bias, on several machines, whose rule for the"
            " changes of a row is derived for negative sampling": request.machines > 1 and not negative_sampling,
        }
        return super().unsupported(request) + [problem for problem, present in problems.items() if present]

    def train(self, block: TokenBlock, rate: float, rate_step: float) -> StepResult:
        scaled = not self.is_adaptive and self.scales.needed(max(rate, rate + rate_step * len(block.ids)))
        arguments = self._sampling(block.epoch), self._rule(), self._model(), self._steps(rate, rate_step, scaled)
        dim, functions = self.tables.input.embedding_dim, self.scaled_functions if scaled else self.functions

        def run(span: tuple[int, int]) -> tuple[float, int]:
            loss, pairs, _ = self.kernel(
                block.ids.numpy(), block.segments.numpy(), block.document.numpy(), block.start.numpy(), *span,
                *arguments, dim, functions,
            )  # fmt: skip
            return loss, pairs

        spans = self._spans(block.segments.numpy())
        results = list(map(run, spans) if self._pool is None else self._pool.map(run, spans))
        return StepResult(sum(loss for loss, _ in results), sum(pairs for _, pairs in results))

    def _sampling(self, epoch: int) -> Sampling:
        sampler, noise = self.sampler, self.sampler.negatives > 0
        centre = sampler.input == "centre"
        return Sampling(
            np.uint64(sampler.seed),
            np.uint64(epoch),
            sampler.keep,
            sampler.noise.columns,
            sampler.window,
            sampler.negatives,
            EXCLUDE[sampler.redrawn],
            noise and sampler.shared == "pair",
            centre,
            noise and centre and sampler.exclude != "none",
        )

    def _rule(self) -> Rule:
        scoring = self.scoring
        paths = scoring.paths or NO_PATHS
        shift, target_shift = (_EMPTY if array is None else array for array in (scoring.shift, scoring.target_shift))
        softmax = scoring.rule == "softmax"
        return Rule(softmax, shift, target_shift, scoring.counts_drawn, paths.lengths, paths.nodes, paths.turns)

    def _model(self) -> Model:
        tables = self.tables
        weights = [tables.input.weight, tables.output.weight] + ([] if tables.bias is None else [tables.bias.weight])
        rows = [_array(weight) for weight in weights]
        sums = [_array(self.optimizer.state[weight]["sum"]) for weight in weights] if self.is_adaptive else []
        learned = tables.bias is not None and tables.bias.weight.requires_grad
        (inputs, outputs, *bias), (input_sums, output_sums, *bias_sums) = rows, sums or [_NO_ROWS, _NO_ROWS]
        one, other = (column[0].reshape(-1) if column else _EMPTY for column in (bias, bias_sums))
        return Model(inputs, outputs, one, learned, input_sums, output_sums, other)

    def _steps(self, rate: float, rate_step: float, scaled: bool) -> Steps:
        epsilon = float(self.optimizer.param_groups[0]["eps"]) if self.is_adaptive else 0.0
        in_flight = self.scales.in_flight.values()
        return Steps(rate, rate_step, self.is_adaptive, epsilon, self.scales.other_workers, scaled, *in_flight)

    def _spans(self, segments: np.ndarray) -> list[tuple[int, int]]:
        """Return the first and last + 1 segment of each thread, with about the same number of tokens per thread."""
        ends = np.searchsorted(segments, segments[-1] * np.arange(1, self.own_workers) / self.own_workers)
        cuts = [0, *ends.tolist(), len(segments) - 1]
        return [(a, b) for a, b in itertools.pairwise(cuts) if a < b]


_EMPTY, _NO_ROWS = np.zeros(0, np.float32), np.zeros((0, 0), np.float32)
NO_PATHS = Paths(np.zeros(0, np.int32), np.zeros((0, 0), np.int32), np.zeros((0, 0), np.int8))


def _array(table: torch.Tensor) -> np.ndarray:
    return table.detach().numpy()


def compile_kernel(plain: bool) -> Callable:
    """Compile the kernel, or read it from the cache, and return it; it is the same for all dimensions and K.

    Args:
        plain: as for `train_segments`.
    """
    begin, kernel = time.perf_counter(), train_segments(plain)
    kernel.compile(KERNEL_TYPES)  # type: ignore[attr-defined]
    if time.perf_counter() - begin > 1:
        log.info("compiled the fused engine's kernel in %.0f s; it is cached", time.perf_counter() - begin)
    return kernel
