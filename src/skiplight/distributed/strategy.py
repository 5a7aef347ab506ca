"""The base of both strategies: ranks of torch.distributed with unwrapped tables."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import lightning
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from skiplight.distributed.launcher import RankLauncher
from skiplight.engines.base import GradientCounts
from skiplight.evaluation.ranks import ALONE, Ranks
from skiplight.objectives.base import Tables


def lost_connection(error: RuntimeError) -> bool:
    """Return whether an exchange has failed because another rank has ended or does not answer."""
    if isinstance(error, dist.DistBackendError | dist.DistNetworkError):
        return True
    return any(part in str(error).lower() for part in ("connection", "timed out", "gloo", "broken pipe"))


class TrainsTables(Protocol):
    """The interface that a strategy needs of the LightningModule, implemented by `SkipGramModule`.

    Attributes:
        tables: the input and output vectors.
        tokens: tokens consumed so far, over all ranks.
        batch_tokens: tokens of this step, over all ranks.
        lr: initial learning rate.
        gradient_counts: number of gradients in each row in this step, by table.
    """

    trainer: lightning.Trainer
    tables: Tables
    tokens: int
    lr: float
    gradient_counts: GradientCounts

    @property
    def batch_tokens(self) -> int: ...

    def lr_at(self, tokens: int) -> float:
        """Return the learning rate after `tokens` tokens."""


class RankStrategy(DDPStrategy):
    """One process per device; subclasses define what is exchanged and when.

    Flags, counts and losses are always exchanged over gloo on the CPU, so that a decision never waits for a GPU.

    Args:
        run: folder of the run, from which the other ranks are started; None to repeat this process's command line, as
            Lightning does.
        timeout: seconds that a rank waits for the others in an exchange.

    Attributes:
        bytes_sent: bytes of tables or gradients that this rank has sent so far, counted as for a ring.
        machine_bytes_sent: the sum over all ranks that share this rank's tables, when training has ended.
        replicas: number of pairs of tables, after `setup_environment`.
        decision_steps: steps between two decisions of all ranks whether to save or stop.
    """

    name: ClassVar[str]

    def __init__(self, run: Path | None = None, timeout: float = 1800, **options: Any) -> None:
        super().__init__(timeout=datetime.timedelta(seconds=timeout), **options)
        self.run = run
        self.bytes_sent = self.machine_bytes_sent = 0
        self.decision_steps = 1
        self._messages: Any = None  # the group for messages between ranks
        self._pending_decision: tuple[Tensor, dist.Work] | None = None

    def _configure_launcher(self) -> None:
        if self.run is None:
            super()._configure_launcher()
            return
        assert self.cluster_environment is not None
        self._launcher = RankLauncher(self.cluster_environment, self.num_processes, self.num_nodes, self.run)

    def setup_distributed(self) -> None:
        super().setup_distributed()
        gloo = dist.get_backend() == "gloo"
        self._messages = dist.group.WORLD if gloo else dist.new_group(backend="gloo", timeout=self._timeout)

    def configure_ddp(self) -> None:
        """Do not wrap the module: torch's wrapper averages gradients and cannot add sparse ones."""

    @property
    def skipgram(self) -> TrainsTables:
        return cast("TrainsTables", self.lightning_module)

    def reduce(self, tensor: Tensor | Any, group: Any = None, reduce_op: Any = "mean") -> Tensor:
        if isinstance(tensor, Tensor) and tensor.device.type == "cpu" and group is None:
            group = self._messages
        return super().reduce(tensor, group, reduce_op)

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        agreed = torch.tensor(int(decision))
        dist.all_reduce(agreed, dist.ReduceOp.MIN if all else dist.ReduceOp.MAX, self._messages)
        return bool(agreed)

    def gather_counts(self, own: list[int]) -> Tensor:
        """Return the integers of every rank, int64 [world, n]."""
        counts = [torch.empty(len(own), dtype=torch.int64) for _ in range(self.world_size)]
        dist.all_gather(counts, torch.tensor(own), self._messages)
        return torch.stack(counts)

    def gather(self, message: Any) -> list[Any]:
        """Return the messages of all ranks, in the order of ranks."""
        messages: list[Any] = [None] * self.world_size
        dist.all_gather_object(messages, message, self._messages)
        return messages

    @property
    def messages(self) -> Any:
        """The process group of all ranks for what is on the CPU."""
        return self._messages

    @property
    def replicas(self) -> int:
        return self.world_size

    def agreed_before(self, decision: bool) -> bool:
        """Return whether any rank passed True at the previous call, the same on all ranks; False at the first call.

        This call's result is returned by the next one, so a rank does not wait for others less than a step behind.
        """
        before = self.forget_decision()
        agreed = torch.tensor(int(decision))
        self._pending_decision = agreed, dist.all_reduce(agreed, dist.ReduceOp.MAX, self._messages, async_op=True)
        return before

    def forget_decision(self) -> bool:
        """Return the result of the last `agreed_before`, and make the next call return False."""
        pending, self._pending_decision = self._pending_decision, None
        if pending is None:
            return False
        agreed, work = pending
        work.wait()
        return bool(agreed)

    def is_synchronized(self) -> bool:
        """Return whether all ranks have the same tables after the last step, so that they may be saved."""
        return True

    def synchronize(self) -> None:
        """Make the tables the same on all ranks."""

    @contextlib.contextmanager
    def final_tables(self) -> Iterator[Tables]:
        """Yield the tables as they would be if training ended now, for the ranks with a `reading_rank`."""
        yield self.skipgram.tables

    def reading_rank(self) -> tuple[int | None, int]:
        """Return the number of this rank among those that may read `final_tables`, or None, and how many they are."""
        return self.global_rank, self.world_size

    def on_train_end(self) -> None:
        super().on_train_end()
        self.forget_decision()
        self.machine_bytes_sent = self.bytes_sent

    def teardown(self) -> None:
        super().teardown()
        if dist.is_initialized():
            dist.destroy_process_group()


def is_synchronized(trainer: lightning.Trainer) -> bool:
    """Return whether all ranks have the same tables, so that saving moves none; True for one rank."""
    return not isinstance(trainer.strategy, RankStrategy) or trainer.strategy.is_synchronized()


def synchronize(trainer: lightning.Trainer) -> None:
    """Make the tables the same on all ranks; does nothing for one rank."""
    if isinstance(trainer.strategy, RankStrategy):
        trainer.strategy.synchronize()


@contextlib.contextmanager
def final_tables(trainer: lightning.Trainer, tables: Tables) -> Iterator[Tables]:
    """Yield the tables as they would be if training ended now, for the ranks that `evaluating_ranks` gives a share."""
    if isinstance(trainer.strategy, RankStrategy):
        with trainer.strategy.final_tables() as final:
            yield final
    else:
        yield tables


def evaluating_ranks(trainer: lightning.Trainer) -> Ranks:
    """Return how the ranks share out an evaluation of the `final_tables`; call it before that.

    Under a strategy that is not of skiplight, each rank does all of the work, since what it may exchange is not known.
    """
    strategy = trainer.strategy
    if not isinstance(strategy, RankStrategy):
        return ALONE
    return Ranks(*strategy.reading_rank(), strategy.messages)
