"""The fused GPU engine: updates the tables from a block of tokens on the device; the host does not wait for it.

A step launches four kinds of kernels and reads nothing back: subsampling and compaction (`sampling/windows_triton.py`),
the draws of negatives, and the training. The last two take a limited number of kept tokens at a time if the negatives
of the whole block would need too much memory. The training has two implementations: a warp for each window
(`fused_gpu_warps.cu`) for what fits its registers, and matrix products of Triton (`fused_gpu_triton.py`) for the rest.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch

from skiplight.engines import cuda_source, in_flight
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
"""Warps of Triton's kernels that run on a processor at a time, as limited by its registers."""

LANES = 32
"""Threads of a warp."""

BLOCK = 2
"""Warps of a block of `train_warps`; they share nothing."""

MOST_WARPS = 12
"""The most warps of `train_warps` on a processor. More would be hardly faster, and there would be more in flight."""

AGAIN = 1.0
"""The largest product of rate and gradients in flight for a row that `train_warps` keeps while it is within reach."""

HELD = 192
"""The most float32 of output rows and their changes that a lane of `train_warps` keeps in registers."""

RING = 49_152
"""The most bytes of context rows that a warp of `train_warps` keeps in shared memory."""

NEGATIVES = 2**26
"""The most negatives that are drawn at a time: 256 MB."""


WARP_SOURCE = Path(__file__).parent / "fused_gpu_warps.cu"

Layout = Literal["warp", "resident", "reloaded"]

log = logging.getLogger(__name__)


class FusedGpuEngine(FusedEngine):
    """Moves the tables along the gradient of negative sampling, many windows at a time.

    Its workers are programs, each of which trains on one window at a time. Triton compiles the kernels at the first
    step, which takes some seconds unless they are in Triton's cache.
    """

    device: ClassVar[str] = "cuda"
    block_tokens: ClassVar[int] = 1_000_000
    layout: ClassVar[Layout | None] = None
    """The layout of windows; default: the fastest one that fits (`shape`)."""

    def plan(self) -> tuple[bool, int]:
        sampler, dim, device = self.sampler, self.tables.input.embedding_dim, self.tables.input.weight.device
        setting = (dim, sampler.window, sampler.negatives)
        self.shape = shape(*setting, pair=sampler.shared == "pair", cuda=device.type == "cuda", layout=self.layout)
        if self.shape.layout == "warp":
            try:
                self.warp_kernel = WarpKernel(*setting, device)
                return False, self.warp_kernel.programs
            except (ImportError, RuntimeError) as error:
                if self.layout is not None:
                    raise
                log.warning("Triton's kernels train, at about half the speed, since CUDA C++ cannot be used: %s", error)
                self.shape = shape(*setting, pair=False, cuda=False)
        return self.shape.resident, _programs(device, self.shape.warps)

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
        arguments: tuple[torch.Tensor | int | float, ...] = (
            centres.count, centres.word, centres.left, centres.right, centres.at, negatives, weight.detach(),
            self.tables.output.weight.detach(), *self.in_flight, losses, pairs, first, len(negatives), rate, rate_step,
        )  # fmt: skip
        form, dim = self.shape, weight.shape[1]
        if form.layout == "warp":
            self.warp_kernel(arguments, self.own_workers)
            return
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
        layout: whether context rows stay on chip from window to window, in shared memory (warp; except for the most
            frequent words) or in Triton's registers (resident), or are read for each (reloaded).
        ring: number of slots for context rows.
        width: columns per pass.
        group: output rows per pass.
        warps: warps per program.
    """

    layout: Layout
    ring: int
    width: int
    group: int
    warps: int

    @property
    def resident(self) -> bool:
        """Return whether the rows of all words stay on chip from window to window."""
        return self.layout == "resident"


def shape(dim: int, window: int, negatives: int, *, pair: bool, cuda: bool, layout: Layout | None = None) -> Shape:
    """Return the layout for vectors of length `dim` and windows of half-width `window`.

    Args:
        negatives: negatives of a window, or of a pair if `pair`.
        pair: whether each pair has its own negatives.
        cuda: whether this is for a CUDA device, where kernels of CUDA C++ run.
        layout: the layout; default: the fastest one that fits.
    """
    ring, width = _power_of_two(2 * window + 1), _power_of_two(dim)
    if layout is None:
        if cuda and not pair and _warp_fits(dim, window, negatives):
            layout = "warp"
        else:
            layout = "resident" if not pair and ring * width <= RESIDENT else "reloaded"
    if layout == "warp":
        return Shape(layout, 2 * window + 1, dim, negatives + 1, 1)
    width = width if layout == "resident" else min(width, PIECE)
    return Shape(layout, ring, width, 1 if pair else GROUP, min(max(ring * width // 1024, 1), 8))


class WarpKernel:
    """`train_warps`, compiled for one setting.

    Args:
        dim, window, negatives: the setting.
        device: a CUDA device.

    Attributes:
        programs: how many run on the device at the same time.
    """

    def __init__(self, dim: int, window: int, negatives: int, device: torch.device) -> None:
        self.shared = BLOCK * _ring_bytes(dim, window, negatives)
        self.kernel = self.compile(warp_constants(dim, window, negatives), device)
        blocks = self.kernel.blocks_per_processor(LANES * BLOCK, self.shared)
        if blocks < 1:
            raise RuntimeError(f"{self.shared} bytes of shared memory do not fit a processor of {device}")
        processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
        self.programs = processors * min(BLOCK * blocks, MOST_WARPS)

    def compile(self, constants: dict[str, object], device: torch.device) -> Any:
        """Return the compiled kernel."""
        return cuda_source.CudaKernel(WARP_SOURCE, "train_warps", constants, device)

    def __call__(self, arguments: tuple[torch.Tensor | int | float, ...], programs: int) -> None:
        self.kernel.launch(-(-programs // BLOCK), LANES * BLOCK, self.shared, *arguments, programs)


def warp_constants(dim: int, window: int, negatives: int) -> dict[str, object]:
    """Return the constants of `train_warps`."""
    return {
        "DIM": dim, "WINDOW": window, "K": negatives, "VEC": math.gcd(dim, 4), "WARPS": BLOCK, "SHORTEST": SHORTEST,
        "MOST": f"{in_flight.MOST!r}f", "AGAIN": f"{min(AGAIN, in_flight.MOST)!r}f",
        "RING_BYTES": _ring_bytes(dim, window, negatives),
    }  # fmt: skip


def _lane_numbers(dim: int) -> int:
    """Return how many numbers of a row a lane holds."""
    own = math.gcd(dim, 4)
    return -(-dim // (LANES * own)) * own


def _ring_bytes(dim: int, window: int, negatives: int) -> int:
    """Return the size of the struct `Ring`."""
    slots, tile = 2 * window + 1, max(1 << negatives.bit_length(), 2)
    return -(-4 * (2 * slots * LANES * _lane_numbers(dim) + 4 * tile + 2 * slots) // 16) * 16


def _warp_fits(dim: int, window: int, negatives: int) -> bool:
    held = 2 * (negatives + 1) * _lane_numbers(dim)
    return negatives < 16 and held <= HELD and _ring_bytes(dim, window, negatives) <= RING


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
