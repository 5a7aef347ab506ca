"""The fused GPU engine: updates the tables from a block of tokens on the device; the host does not wait for it.

A step launches four kinds of kernels and reads nothing back: subsampling and compaction (`sampling/windows_triton.py`),
the draws of negatives, and the training (`fused_gpu_triton.py`). The last two take a limited number of kept tokens at a
time if the negatives of the whole block would need too much memory.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch

from skiplight.engines import in_flight
from skiplight.engines.base import Engine, FusedEngine, Request, StepResult
from skiplight.objectives.base import Objective, Tables
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.windows import WindowSampler

if TYPE_CHECKING:
    from skiplight.sampling.windows_triton import Centres

MOST_DIM, MOST_NEGATIVES, MOST_WINDOW = 1024, 256, 20
"""The largest values that the kernels are tested with."""

SHORTEST = 32
"""The fewest centres of a program, since its first window reads as many rows as the next 2W windows together."""

RESIDENT = 4096
"""The most float32 of context rows that a program keeps in registers; with more, too few programs fit a processor."""

GROUP = 16
"""Output rows per matrix product: the smallest size that all versions of Triton support."""

PIECE = 128
"""Columns per pass if rows do not stay in registers."""

WARPS = 8
"""Warps of these kernels that run on a processor at a time, as limited by its registers."""

NEGATIVES = 2**26
"""The most negatives that are drawn at a time: 256 MB."""


class FusedGpuEngine(FusedEngine):
    """Moves the tables along the gradient of negative sampling, many windows at a time.

    Its workers are programs, each of which trains on one window at a time. Triton compiles the kernels at the first
    step, which takes some seconds unless they are in Triton's cache.
    """

    device: ClassVar[str] = "cuda"
    block_tokens: ClassVar[int] = 1_000_000

    def plan(self) -> tuple[bool, int]:
        self.shape = shape(self.tables.input.embedding_dim, self.sampler.window, self.sampler.shared == "pair")
        return self.shape.resident, _programs(self.tables.input.weight.device, self.shape.warps)

    def prepare(self) -> None:
        from skiplight.engines import fused_gpu_triton

        self.kernels = fused_gpu_triton
        self._move_to_device()

    def change_noise(self) -> None:
        super().change_noise()
        self._move_to_device()

    def _move_to_device(self) -> None:
        from skiplight.sampling.windows_triton import DeviceSampler

        device = self.tables.input.weight.device
        self.device_sampler = DeviceSampler(self.sampler, device)
        self.in_flight = [torch.from_numpy(rows).to(device) for rows in self.scales.in_flight.values()]

    @classmethod
    def unsupported(cls, request: Request) -> list[str]:
        problems = {
            f"the objective {request.objective.__name__}": request.objective is not NegativeSampling,
            f"the optimiser {request.optimizer.__name__}": request.optimizer is not torch.optim.SGD,
            "an output bias": request.bias,
            "the centre as input": request.input != "context",
            f"vectors of {request.dim} numbers, but up to {MOST_DIM}": request.dim > MOST_DIM,
            f"{request.negatives} negatives, but up to {MOST_NEGATIVES}": request.negatives > MOST_NEGATIVES,
            f"windows of {request.window}, but up to {MOST_WINDOW}": request.window > MOST_WINDOW,
            "anything without the package `triton`: install the version that your torch asks for": _no_triton(),
        }
        return super().unsupported(request) + [problem for problem, present in problems.items() if present]

    @classmethod
    def maker(
        cls, sampler: WindowSampler, threads: int | None, workers: int | None = None
    ) -> Callable[[Objective, Tables, torch.optim.Optimizer], Engine]:
        return functools.partial(cls, sampler=sampler)

    def train(self, block: TokenBlock, rate: float, rate_step: float) -> StepResult:
        with torch.cuda.device_of(block.ids):  # Triton launches on torch's current device
            return self._train_in_parts(block, rate, rate_step)

    def _train_in_parts(self, block: TokenBlock, rate: float, rate_step: float) -> StepResult:
        tokens, device, sampler = len(block.ids), block.ids.device, self.device_sampler
        losses = torch.zeros(self.own_workers, dtype=torch.float64, device=device)
        pairs = torch.zeros(self.own_workers, dtype=torch.int64, device=device)
        centres = sampler.centres(block)
        rows = min(max(NEGATIVES // sampler.per_centre, 1), tokens)
        negatives = torch.empty((rows, sampler.per_centre), dtype=torch.int32, device=device)
        for first in range(0, tokens, rows):
            sampler.negatives(block, centres, first, negatives)
            self._train(centres, negatives, first, losses, pairs, rate, rate_step)
        return StepResult(losses.sum(), pairs.sum())

    def _train(
        self,
        centres: Centres,
        negatives: torch.Tensor,
        first: int,
        losses: torch.Tensor,
        pairs: torch.Tensor,
        rate: float,
        rate_step: float,
    ) -> None:
        """Train on the centres from number `first` on whose negatives are `negatives`, int32 [centres, per centre]."""
        sampler, weight = self.sampler, self.tables.input.weight
        arguments = (
            centres.count, centres.word, centres.left, centres.right, centres.at, negatives, weight.detach(),
            self.tables.output.weight.detach(), *self.in_flight, losses, pairs, first, len(negatives), rate, rate_step,
        )  # fmt: skip
        form, dim = self.shape, weight.shape[1]
        constants = (
            sampler.window,
            sampler.negatives,
            dim,
            form.ring,
            form.width,
            form.group,
            SHORTEST,
            in_flight.MOST,
        )
        grid, options = (self.own_workers,), {"num_warps": form.warps, "num_stages": 1}
        if form.resident:
            self.kernels.train_resident[grid](*arguments, *constants, **options)
        else:
            columns = -(-(sampler.negatives + 1) // form.group) * form.group
            steps = weight.new_empty((self.own_workers, form.ring, columns))
            self.kernels.train_reloaded[grid](*arguments, steps, *constants, sampler.shared == "pair", **options)


class Shape(NamedTuple):
    """The layout of a window in a kernel.

    Attributes:
        resident: whether context rows stay in registers from window to window, rather than being read for each.
        ring: number of slots for context rows.
        width: columns per pass.
        group: output rows per pass.
        warps: warps per program.
    """

    resident: bool
    ring: int
    width: int
    group: int
    warps: int


def shape(dim: int, window: int, pair: bool, resident: bool | None = None) -> Shape:
    """Return the layout for vectors of length `dim` and windows of half-width `window`.

    Args:
        pair: whether each pair has its own negatives.
        resident: whether context rows are resident; default: if they fit.
    """
    ring, width = _power_of_two(2 * window + 1), _power_of_two(dim)
    if resident is None:
        resident = not pair and ring * width <= RESIDENT
    width = width if resident else min(width, PIECE)
    return Shape(resident, ring, width, 1 if pair else GROUP, min(max(ring * width // 1024, 1), 8))


def _no_triton() -> bool:
    return importlib.util.find_spec("triton") is None


def _power_of_two(size: int) -> int:
    """Return the smallest power of two that is at least `size` and 16, the smallest size of a matrix product."""
    return max(16, 1 << (size - 1).bit_length())


def _programs(device: torch.device, warps: int) -> int:
    """Return how many programs run at the same time on a device."""
    if device.type != "cuda":
        return 4  # Triton's interpreter runs them one after the other
    return torch.cuda.get_device_properties(device).multi_processor_count * max(WARPS // warps, 1)
