"""The fused CPU engine: one compiled kernel draws windows and negatives from a block and moves both tables in place.

Autograd writes windows, scores and gradients to memory between operations; the kernel (`fused_cpu_numba.py`) keeps a
window in registers and the first-level cache from its draws to its update. It supports negative sampling with plain
SGD. Each thread trains on some segments of a block, and all threads, also those of other processes, write to the same
tables without locks. The steps of rows that many threads move at the same time are shortened (`in_flight.py`). With one
thread, a run is reproducible bit for bit.
"""

from __future__ import annotations

import functools
import itertools
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
import torch

from skiplight.engines.base import Engine, FusedEngine, StepResult
from skiplight.engines.fused_cpu_numba import train_segments
from skiplight.objectives.base import Objective, Tables
from skiplight.process import usable_cores
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.windows import WindowSampler
from skiplight.sampling.windows_numba import EXCLUDE

log = logging.getLogger(__name__)


class FusedCpuEngine(FusedEngine):
    """Moves the tables along the gradient of negative sampling, one window at a time.

    Its workers are threads, by default one per core that the process may use. The constructor compiles the kernel for
    the dimension and K, which takes some seconds unless it is in the cache of compiled kernels.
    """

    device: ClassVar[str] = "cpu"
    block_tokens: ClassVar[int] = 400_000

    def plan(self) -> tuple[bool, int]:
        return True, len(usable_cores())

    def prepare(self) -> None:
        threads = self.own_workers
        self._pool = ThreadPoolExecutor(threads, "skiplight-fused") if threads > 1 else None
        self.kernel = self._compile(scaled=False)

    @classmethod
    def maker(
        cls, sampler: WindowSampler, threads: int | None, workers: int | None = None
    ) -> Callable[[Objective, Tables, torch.optim.Optimizer], Engine]:
        return functools.partial(cls, sampler=sampler, own_workers=threads, workers=workers)

    def train(self, block: TokenBlock, rate: float, rate_step: float) -> StepResult:
        kernel = self.kernel
        if self.scales.needed(max(rate, rate + rate_step * len(block.ids))):
            kernel = self.scaled_kernel
        return self._train(kernel, block, self._spans(block.segments.numpy()), rate, rate_step)

    @functools.cached_property
    def scaled_kernel(self) -> Callable:
        """The kernel with shortened steps, compiled when a training first needs it."""
        return self._compile(scaled=True)

    def _compile(self, scaled: bool) -> Callable:
        """Return the compiled kernel, from the cache if it is there."""
        begin = time.perf_counter()
        dim, pair = self.tables.input.embedding_dim, self.sampler.shared == "pair"
        kernel = train_segments(dim, self.sampler.negatives, pair, scaled)
        self._train(kernel, TokenBlock.of([[]]), [(0, 0)], 0.0, 0.0)
        if time.perf_counter() - begin > 1:
            log.info("compiled the fused engine's kernel in %.0f s; it is cached", time.perf_counter() - begin)
        return kernel

    def _train(
        self, kernel: Callable, block: TokenBlock, spans: list[tuple[int, int]], rate: float, rate_step: float
    ) -> StepResult:
        """Train on spans of segments, each in its own thread."""
        sampler = self.sampler

        def run(span: tuple[int, int]) -> tuple[float, int]:
            loss, pairs, _ = kernel(
                block.ids.numpy(), block.segments.numpy(), block.document.numpy(), block.start.numpy(), *span,
                np.uint64(sampler.seed), np.uint64(block.epoch), sampler.keep, sampler.noise.columns, sampler.window,
                EXCLUDE[sampler.exclude], self.tables.input.weight.detach().numpy(),
                self.tables.output.weight.detach().numpy(), rate, rate_step,
                self.scales.other_workers, *self.scales.in_flight.values(),
            )  # fmt: skip
            return loss, pairs

        results = list(map(run, spans) if self._pool is None else self._pool.map(run, spans))
        return StepResult(sum(loss for loss, _ in results), sum(pairs for _, pairs in results))

    def _spans(self, segments: np.ndarray) -> list[tuple[int, int]]:
        """Return the first and last + 1 segment of each thread, with about the same number of tokens per thread."""
        ends = np.searchsorted(segments, segments[-1] * np.arange(1, self.own_workers) / self.own_workers)
        cuts = [0, *ends.tolist(), len(segments) - 1]
        return [(a, b) for a, b in itertools.pairwise(cuts) if a < b]
