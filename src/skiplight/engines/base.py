"""The interface of engines, which move the tables under an objective, one step at a time."""

from __future__ import annotations

import abc
import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from skiplight.engines.in_flight import StepScales
from skiplight.engines.shortening import Shortening
from skiplight.objectives.base import Objective, Tables
from skiplight.sampling.batches import TokenBlock, Windows
from skiplight.sampling.windows import WindowSampler

GradientCounts = dict[Tensor, Tensor]
"""For the parameter of a table [rows, d], the number of gradients that each of its rows sums, float32 [rows]."""


@dataclasses.dataclass
class StepResult:
    """The loss of a step.

    Attributes:
        loss_sum: the loss before the step, summed over all pairs in float64.
        pairs: number of pairs; a tensor on the device if the host has not waited for it.
        loss: the same sum with its autograd graph, if the optimiser is to move the tables; None if they have moved.
    """

    loss_sum: Tensor | float
    pairs: Tensor | int
    loss: Tensor | None = None


@dataclasses.dataclass(frozen=True)
class Request:
    """What a training needs from its engine.

    Attributes:
        objective: the objective.
        optimizer: class of the optimiser, one of torch.optim or one's own.
        arguments: its arguments, but for the learning rate, that differ from their defaults.
        bias: whether there is an output bias.
        input: which side of a window is the input word, "context" or "centre".
        device: type of the device, as in `torch.device.type`.
        precision: precision, as in Lightning's Trainer.
        strategy: name of the strategy by which several devices train together; "single" for one device.
        ranks: number of processes that train together.
        machines: number of machines that they run on.
        clipping: whether gradients are clipped.
        accumulate: number of batches whose gradients are summed before a step.
        dim: length of the vectors.
        negatives: K, the number of negatives per window or pair.
        window: W, the largest half-width of a window.
        deterministic: whether two trainings must give the same bits.
        threads: threads that move the tables; None for the engine's default.
        anomaly: whether autograd is to find the operation whose gradient is not finite.
    """

    objective: type[Objective]
    optimizer: type[torch.optim.Optimizer] = torch.optim.SGD
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    bias: bool = False
    input: str = "context"
    device: str = "cpu"
    precision: str = "32-true"
    strategy: str = "single"
    ranks: int = 1
    machines: int = 1
    clipping: bool = False
    accumulate: int = 1
    dim: int = 100
    negatives: int = 5
    window: int = 5
    deterministic: bool = False
    threads: int | None = None
    anomaly: bool = False


class Engine(abc.ABC):
    """Moves the tables under an objective.

    Args:
        objective: the objective.
        tables: the tables to train; they must be on their device before the first step.
        optimizer: the optimiser that Lightning steps.

    Attributes:
        shortening: counts the gradients that shortened steps leave out.
        sets_rate: whether a step sets the optimiser's learning rate; False if a torch scheduler does.
    """

    name: ClassVar[str]
    device: ClassVar[str | None] = None
    """Type of the device that the engine runs on; None for any."""
    takes_blocks: ClassVar[bool]
    """Whether `step` takes a block of tokens and draws the windows itself, rather than taking windows."""
    block_tokens: ClassVar[int]
    """Default number of tokens per step."""
    strategy: ClassVar[str]
    """Name of the strategy by which several devices train together."""

    def __init__(self, objective: Objective, tables: Tables, optimizer: torch.optim.Optimizer) -> None:
        self.objective, self.tables, self.optimizer = objective, tables, optimizer
        self.shortening = Shortening()
        self.sets_rate = True

    def set_rate(self, lr: float) -> None:
        """Set the optimiser's learning rate, unless something else sets it."""
        if self.sets_rate:
            for group in self.optimizer.param_groups:
                group["lr"] = lr

    @property
    def threads(self) -> int:
        """The threads that it computes with on the CPU."""
        return torch.get_num_threads()

    @classmethod
    def unsupported(cls, request: Request) -> list[str]:
        """Return the parts of a request that this engine does not support, as text; empty if it supports all."""
        return []

    @classmethod
    def maker(
        cls, sampler: WindowSampler, threads: int | None, workers: int | None = None
    ) -> Callable[[Objective, Tables, torch.optim.Optimizer], Engine]:
        """Return a function that constructs this engine for a module.

        Args:
            sampler: draws the windows, for an engine that takes blocks.
            threads: number of threads of this process; default: the engine's choice.
            workers: number of threads that move the tables, with those of other processes that share the tables;
                default: the threads of this process.
        """
        return cls

    @classmethod
    def warm_up(cls, plain: bool) -> threading.Thread | None:
        """Begin to compile, in a thread, what does not depend on the text; None for nothing.

        Args:
            plain: whether the run is negative sampling in its usual form, which engines may have a kernel for.
        """
        return None

    @abc.abstractmethod
    def step(self, batch: TokenBlock | Windows, lr_begin: float, lr_end: float) -> StepResult:
        """Make one step with a learning rate that changes linearly from `lr_begin` to `lr_end`.

        Returns:
            The loss before the step. For an empty batch, the loss and the number of pairs are 0.
        """

    def change_noise(self) -> None:  # noqa: B027 - most engines ask the sampler in every step
        """Follow the sampler to another noise distribution."""

    def gradient_counts(self, batch: TokenBlock | Windows) -> GradientCounts:
        """Return the number of gradients that a step sums for each row; empty if `prepare_step` does not need it."""
        return {}

    def prepare_step(self, counts: GradientCounts) -> None:  # noqa: B027 - most engines have nothing to do here
        """Change the gradients between the backward pass and the optimiser's step.

        Args:
            counts: the result of `gradient_counts`, summed over the batches of the step and over all ranks.
        """


class FusedEngine(Engine):
    """An engine that draws, scores and updates in kernels of its own.

    Its workers, threads on a CPU and programs on a GPU, move the tables at the same time.

    Args:
        objective, tables, optimizer: as for every engine; the optimiser is not stepped.
        sampler: draws the windows and negatives of a block.
        own_workers: number of workers of this engine; default: as many as run at a time on the device.
        workers: number of workers that move these tables, with those of other processes that share them; default:
            those of this engine.

    Attributes:
        scoring: the objective's description of its scores.
        is_adaptive: whether steps are those of Adagrad, and are therefore not shortened.

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
        self.resident, most = self.plan()
        self.own_workers = own_workers or most
        self.workers = workers or self.own_workers
        if self.workers < self.own_workers:
            raise ValueError(f"{self.own_workers} workers of this engine are not among {self.workers} workers")
        self.scoring = objective.scoring(sampler)
        self.is_adaptive = isinstance(optimizer, torch.optim.Adagrad)
        self.scales = StepScales(sampler, self.resident, self.workers - 1, self.scoring)
        self.prepare()

    def change_noise(self) -> None:
        self.scoring = self.objective.scoring(self.sampler)
        self.scales = StepScales(self.sampler, self.resident, self.workers - 1, self.scoring)

    @abc.abstractmethod
    def plan(self) -> tuple[bool, int]:
        """Return whether context rows are resident (`in_flight_gradients`), and how many workers run at a time."""

    @abc.abstractmethod
    def prepare(self) -> None:
        """Make what `train` needs, such as compiled kernels; the constructor calls it once, at its end."""

    def step(self, batch: TokenBlock | Windows, lr_begin: float, lr_end: float) -> StepResult:
        if not isinstance(batch, TokenBlock):
            raise TypeError(f"the fused engine takes a TokenBlock, not {type(batch).__name__}")
        self.set_rate((lr_begin + lr_end) / 2)
        if len(batch.ids) == 0:
            return StepResult(0.0, 0)
        expected = self.scales.shortened(len(batch.ids), (lr_begin + lr_end) / 2)
        for table, (gradients, left_out, rows) in expected.items():
            left_out, rows = (0.0, 0) if self.is_adaptive else (left_out, rows)
            self.shortening.add(table, gradients, left_out, rows)
        return self.train(batch, lr_begin, (lr_end - lr_begin) / len(batch.ids))

    @abc.abstractmethod
    def train(self, block: TokenBlock, rate: float, rate_step: float) -> StepResult:
        """Train on a block that is not empty; the learning rate of its token i is rate + i·rate_step."""

    @classmethod
    def unsupported(cls, request: Request) -> list[str]:
        # Other arguments do nothing without these, or choose between implementations of one step, except for `eps` and
        # `initial_accumulator_value` of Adagrad, which the kernel follows.
        unknown = ("momentum", "weight_decay", "maximize", "lr_decay")
        changed = {name: value for name, value in request.arguments.items() if name in unknown}
        problems = {
            f"the device {request.device}": request.device != cls.device,
            f"{request.optimizer.__name__} with {', '.join(f'{name}={value}' for name, value in changed.items())}": (
                bool(changed)
            ),
            f"precision {request.precision}": request.precision not in ("32-true", "bf16-mixed"),
            f"the strategy {request.strategy}, under which ranks would drift apart": (
                request.strategy not in ("single", cls.strategy)
            ),
            "gradient clipping": request.clipping,
            f"accumulate_grad_batches={request.accumulate}": request.accumulate > 1,
            "deterministic with several workers on one pair of tables (one thread on a CPU can)": (
                request.deterministic and not (cls.device == "cpu" and request.threads == 1)
            ),
            "detect_anomaly, since it has no autograd graph": request.anomaly,
        }
        return [problem for problem, present in problems.items() if present]
