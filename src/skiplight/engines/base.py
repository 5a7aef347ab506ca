"""What an engine is: the way an objective moves the tables, a step at a time."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from skiplight.engines.in_flight import StepScales
from skiplight.engines.shortening import Shortening
from skiplight.objectives.base import Objective, Tables
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.sampling.batches import TokenBlock, Windows
from skiplight.sampling.windows import WindowSampler

GradientCounts = dict[Tensor, Tensor]
"""For a table's parameter [rows, d], how many gradients each of its rows sums, float32 [rows]."""


@dataclasses.dataclass
class StepResult:
    """What a step did.

    Attributes:
        loss_sum: the loss summed over all pairs, as it was before the step; accumulated in float64.
        pairs: the number of pairs; a tensor where only the device knows it yet.
        loss: the same sum with a graph, where the tables move only when the optimiser steps; None where they have
        moved.
    """

    loss_sum: Tensor | float
    pairs: Tensor | int
    loss: Tensor | None = None


@dataclasses.dataclass(frozen=True)
class Request:
    """What a training asks of its engine.

    Attributes:
        objective: the scoring rule.
        optimizer: the optimiser's class in torch.optim.
        bias: whether there is an output bias.
        input: which side of a window is the input word.
        device: type of the device, as torch calls it.
        precision: as Lightning calls it.
        strategy: how several devices train together; "single" for one device.
        clipping: whether gradients are clipped.
        accumulate: over how many batches gradients are summed before a step.
        dim: numbers in a vector.
        negatives: K.
        window: the largest half-width.
    """

    objective: type[Objective]
    optimizer: type[torch.optim.Optimizer] = torch.optim.SGD
    bias: bool = False
    input: str = "context"
    device: str = "cpu"
    precision: str = "32-true"
    strategy: str = "single"
    clipping: bool = False
    accumulate: int = 1
    dim: int = 100
    negatives: int = 5
    window: int = 5


class Engine(abc.ABC):
    """Moves the tables under an objective.

    Args:
        objective: the scoring rule.
        tables: what is trained; on their device before the first step.
        optimizer: the optimiser that Lightning steps.

    Attributes:
        shortening: counts the gradients that shortened steps have left out; zeros where no step is shortened.
    """

    name: ClassVar[str]
    device: ClassVar[str | None] = None
    """The type of device that it is for; None: any."""
    takes_blocks: ClassVar[bool]
    """Whether a step takes a block of tokens and draws its windows itself, rather than taking windows."""
    block_tokens: ClassVar[int]
    """How many tokens a step should consume, where the user does not say."""
    strategy: ClassVar[str]
    """By which strategy several devices train together."""

    def __init__(self, objective: Objective, tables: Tables, optimizer: torch.optim.Optimizer) -> None:
        self.objective, self.tables, self.optimizer = objective, tables, optimizer
        self.shortening = Shortening()

    @classmethod
    def unsupported(cls, request: Request) -> list[str]:
        """What of the request this engine cannot do, in the user's words; empty where it can do it all."""
        return []

    @classmethod
    def maker(
        cls, sampler: WindowSampler, threads: int | None, workers: int | None = None
    ) -> Callable[[Objective, Tables, torch.optim.Optimizer], Engine]:
        """Return a function that makes this engine for a module.

        Args:
            sampler: for an engine that draws windows itself.
            threads: of this process; None: as many as the engine chooses.
            workers: how many threads move the tables, with those of other processes that share them; None: this
                process's threads only.
        """
        return cls

    @abc.abstractmethod
    def step(self, batch: TokenBlock | Windows, lr_begin: float, lr_end: float) -> StepResult:
        """One step, with a learning rate that goes from `lr_begin` to `lr_end` over it. An empty batch gives (0, 0)."""

    def gradient_counts(self, batch: TokenBlock | Windows) -> GradientCounts:
        """How many gradients the step of a batch sums in each row of a table; empty if `prepare_step` need not know."""
        return {}

    def prepare_step(self, counts: GradientCounts) -> None:  # noqa: B027 - most engines have nothing to do here
        """Called between the backward pass and the optimiser's step, which takes gradients as they are left here.

        Args:
            counts: as `gradient_counts` has it, summed over the batches of the step and the ranks of a training.
        """


class FusedEngine(Engine):
    """An engine that draws, scores and updates in kernels of its own: negative sampling by plain SGD.

    Its workers, threads on a CPU and programs on a GPU, move the tables at the same time.

    Args:
        objective, tables, optimizer: as for every engine; the optimiser is not stepped.
        sampler: draws the windows and negatives of a block.
        own_workers: number of workers of this engine; default: as many as run at a time on the device.
        workers: number of workers that move these tables, with those of other processes that share them; default:
            those of this engine.

    Raises:
        ValueError: there are fewer `workers` than `own_workers`.
    """

    name: ClassVar[str] = "fused"
    device: ClassVar[str]
    takes_blocks: ClassVar[bool] = True
    strategy: ClassVar[str] = "in_place"

    def __init__(
        self,
        objective: Objective,
        tables: Tables,
        optimizer: torch.optim.Optimizer,
        sampler: WindowSampler,
        own_workers: int | None = None,
        workers: int | None = None,
    ) -> None:
        super().__init__(objective, tables, optimizer)
        self.sampler = sampler
        resident, most = self.plan()
        self.own_workers = own_workers or most
        self.workers = workers or self.own_workers
        if self.workers < self.own_workers:
            raise ValueError(f"{self.own_workers} workers of this engine are not among {self.workers} workers")
        self.scales = StepScales(sampler, resident, self.workers - 1)
        self.prepare()

    @abc.abstractmethod
    def plan(self) -> tuple[bool, int]:
        """Return whether context rows are resident (`in_flight_gradients`), and how many workers run at a time."""

    @abc.abstractmethod
    def prepare(self) -> None:
        """Make what `train` needs, such as kernels and tables on the device; called once, by the constructor."""

    def step(self, batch: TokenBlock | Windows, lr_begin: float, lr_end: float) -> StepResult:
        if not isinstance(batch, TokenBlock):
            raise TypeError(f"the fused engine takes blocks, not {type(batch).__name__}")
        for group in self.optimizer.param_groups:
            group["lr"] = (lr_begin + lr_end) / 2
        if len(batch.ids) == 0:
            return StepResult(0.0, 0)
        expected = self.scales.shortened(len(batch.ids), (lr_begin + lr_end) / 2)
        for table, (gradients, left_out, rows) in expected.items():
            self.shortening.add(table, gradients, left_out, rows)
        return self.train(batch, lr_begin, (lr_end - lr_begin) / len(batch.ids))

    @abc.abstractmethod
    def train(self, block: TokenBlock, rate: float, rate_step: float) -> StepResult:
        """Trains on a block that is not empty, with a learning rate that grows by `rate_step` with every token."""

    @classmethod
    def unsupported(cls, request: Request) -> list[str]:
        problems = {
            f"the device {request.device}": request.device != cls.device,
            f"the objective {request.objective.__name__}": request.objective is not NegativeSampling,
            f"the optimiser {request.optimizer.__name__}": request.optimizer is not torch.optim.SGD,
            "an output bias": request.bias,
            "the centre as input": request.input != "context",
            f"precision {request.precision}": request.precision not in ("32-true", "bf16-mixed"),
            f"the strategy {request.strategy}, under which ranks would drift apart": (
                request.strategy not in ("single", cls.strategy)
            ),
            "gradient clipping": request.clipping,
            f"accumulate_grad_batches={request.accumulate}": request.accumulate > 1,
        }
        return [problem for problem, there in problems.items() if there]
