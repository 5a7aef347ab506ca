"""What both strategies have in common: ranks of torch.distributed, each with its own tables, which nothing wraps."""

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
from skiplight.objectives.base import Tables


def lost_connection(error: RuntimeError) -> bool:
    """Whether an exchange has failed because another rank is gone or silent, rather than by a fault of its own."""
    if isinstance(error, dist.DistBackendError | dist.DistNetworkError):
        return True
    return any(word in str(error).lower() for word in ("connection", "timed out", "gloo", "broken pipe"))


class TrainsTables(Protocol):
    """What a strategy needs to know of the LightningModule: `skiplight.training.module.SkipGramModule` has it.

    Attributes:
        trainer: Lightning's.
        tables: the input and output vectors.
        tokens: consumed so far, over all ranks.
        batch_tokens: of all ranks in this step.
        lr: learning rate at the beginning.
        gradient_counts: of this step, by table.
    """

    trainer: lightning.Trainer
    tables: Tables
    tokens: int
    lr: float
    gradient_counts: GradientCounts

    @property
    def batch_tokens(self) -> int: ...

    def lr_at(self, tokens: int) -> float:
        """Return the learning rate after so many tokens."""


class RankStrategy(DDPStrategy):
    """One process a device; what they exchange, and when, is up to the classes below.

    Flags, counts and losses are exchanged over gloo on the CPU, whatever the tables are exchanged over, so that
    agreeing on something never waits for a GPU.

    Args:
        run: folder of the run, on which the other ranks are started; None to repeat this process's command line, as
            Lightning does.
        timeout: seconds that a rank waits for the others in an exchange.

    Attributes:
        bytes_sent: what this rank has sent of tables or gradients so far, counted as a ring sends them.
        machine_bytes_sent: the same of all ranks that share this rank's tables, when training has ended.
        replicas: how many pairs of tables there are, once the ranks have met.
        decision_steps: steps between two decisions of all ranks whether to save or to stop.
    """

    name: ClassVar[str]

    def __init__(self, run: Path | None = None, timeout: float = 1800, **options: Any) -> None:
        super().__init__(timeout=datetime.timedelta(seconds=timeout), **options)
        self.run = run
        self.bytes_sent = self.machine_bytes_sent = 0
        self.decision_steps = 1
        self._messages: Any = None  # the group for messages between ranks
        self._asked: tuple[Tensor, dist.Work] | None = None

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
        """Wraps nothing: torch's wrapper would average gradients and cannot add up sparse ones."""

    @property
    def skipgram(self) -> TrainsTables:
        return cast("TrainsTables", self.lightning_module)

    def reduce(self, tensor: Tensor | Any, group: Any = None, reduce_op: Any = "mean") -> Tensor:
        if isinstance(tensor, Tensor) and tensor.device.type == "cpu" and group is None:
            group = self._messages
        return super().reduce(tensor, group, reduce_op)

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        said = torch.tensor(int(decision))
        dist.all_reduce(said, dist.ReduceOp.MIN if all else dist.ReduceOp.MAX, self._messages)
        return bool(said)

    def gather_counts(self, own: list[int]) -> Tensor:
        """The integers of every rank, int64 [world, n]."""
        counts = [torch.empty(len(own), dtype=torch.int64) for _ in range(self.world_size)]
        dist.all_gather(counts, torch.tensor(own), self._messages)
        return torch.stack(counts)

    def gather(self, message: Any) -> list[Any]:
        """What every rank says, in their order."""
        heard: list[Any] = [None] * self.world_size
        dist.all_gather_object(heard, message, self._messages)
        return heard

    @property
    def replicas(self) -> int:
        return self.world_size

    def agreed_before(self, decision: bool) -> bool:
        """Return whether any rank decided so at the last call, the same on all ranks; False at the first.

        The answer to this call is ready at the next one, so that a rank waits for none that is less than a step behind.
        """
        before = self.forget_decision()
        said = torch.tensor(int(decision))
        self._asked = said, dist.all_reduce(said, dist.ReduceOp.MAX, self._messages, async_op=True)
        return before

    def forget_decision(self) -> bool:
        """Return the answer to the last `agreed_before`, and have the next one answer with False."""
        asked, self._asked = self._asked, None
        if asked is None:
            return False
        said, work = asked
        work.wait()
        return bool(said)

    def is_synchronized(self) -> bool:
        """Return whether the tables are the same on all ranks after the last step, so that they may be saved."""
        return True

    def synchronize(self) -> None:
        """Make the tables the same on all ranks now."""

    @contextlib.contextmanager
    def final_tables(self) -> Iterator[Tables]:
        """Yield the tables as they would be if training ended now, for the first rank to look at; changes nothing."""
        yield self.skipgram.tables

    def on_train_end(self) -> None:
        super().on_train_end()
        self.forget_decision()
        self.machine_bytes_sent = self.bytes_sent

    def teardown(self) -> None:
        super().teardown()
        if dist.is_initialized():
            dist.destroy_process_group()


def is_synchronized(trainer: lightning.Trainer) -> bool:
    """Return whether the tables are the same on all ranks, where there are several, so that saving moves none."""
    return not isinstance(trainer.strategy, RankStrategy) or trainer.strategy.is_synchronized()


def synchronize(trainer: lightning.Trainer) -> None:
    """Make the tables the same on all ranks, where there are several."""
    if isinstance(trainer.strategy, RankStrategy):
        trainer.strategy.synchronize()


@contextlib.contextmanager
def final_tables(trainer: lightning.Trainer, tables: Tables) -> Iterator[Tables]:
    """Yield the tables as they would be if training ended now, without changing them; for the first rank to look at."""
    if isinstance(trainer.strategy, RankStrategy):
        with trainer.strategy.final_tables() as final:
            yield final
    else:
        yield tables
