"""What both strategies have in common: ranks of torch.distributed, each with its own tables, which nothing wraps."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import lightning
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from skiplight.distributed.launcher import RankLauncher

if TYPE_CHECKING:
    from skiplight.module import SkipGramModule


def lost_connection(error: RuntimeError) -> bool:
    """Whether an exchange has failed because another rank is gone or silent, rather than by a fault of its own."""
    if isinstance(error, dist.DistBackendError | dist.DistNetworkError):
        return True
    return any(word in str(error).lower() for word in ("connection", "timed out", "gloo", "broken pipe"))


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
    """

    name: ClassVar[str]

    def __init__(self, run: Path | None = None, timeout: float = 1800, **options: Any) -> None:
        super().__init__(timeout=datetime.timedelta(seconds=timeout), **options)
        self.run = run
        self.bytes_sent = 0
        self._words: Any = None  # the group for words between ranks

    def _configure_launcher(self) -> None:
        if self.run is None:
            super()._configure_launcher()
            return
        assert self.cluster_environment is not None
        self._launcher = RankLauncher(self.cluster_environment, self.num_processes, self.num_nodes, self.run)

    def setup_distributed(self) -> None:
        super().setup_distributed()
        gloo = dist.get_backend() == "gloo"
        self._words = dist.group.WORLD if gloo else dist.new_group(backend="gloo", timeout=self._timeout)

    def configure_ddp(self) -> None:
        """Wraps nothing: torch's wrapper would average gradients and cannot add up sparse ones."""

    @property
    def skipgram(self) -> SkipGramModule:
        return cast("SkipGramModule", self.lightning_module)

    def reduce(self, tensor: Tensor | Any, group: Any = None, reduce_op: Any = "mean") -> Tensor:
        if isinstance(tensor, Tensor) and tensor.device.type == "cpu" and group is None:
            group = self._words
        return super().reduce(tensor, group, reduce_op)

    def reduce_boolean_decision(self, decision: bool, all: bool = True) -> bool:
        said = torch.tensor(int(decision))
        dist.all_reduce(said, dist.ReduceOp.MIN if all else dist.ReduceOp.MAX, self._words)
        return bool(said)

    def gather_counts(self, own: list[int]) -> Tensor:
        """The integers of every rank, int64 [world, n]."""
        counts = [torch.empty(len(own), dtype=torch.int64) for _ in range(self.world_size)]
        dist.all_gather(counts, torch.tensor(own), self._words)
        return torch.stack(counts)

    def gather(self, word: Any) -> list[Any]:
        """What every rank says, in their order."""
        heard: list[Any] = [None] * self.world_size
        dist.all_gather_object(heard, word, self._words)
        return heard

    def alike(self) -> bool:
        """Whether the tables are the same on all ranks after the last step, so that it may be saved."""
        return True

    def settle(self) -> None:
        """Makes the tables the same on all ranks now."""

    def teardown(self) -> None:
        super().teardown()
        if dist.is_initialized():
            dist.destroy_process_group()


def alike(trainer: lightning.Trainer) -> bool:
    """Whether the tables are the same on all ranks, where there are several, so that saving moves none."""
    return not isinstance(trainer.strategy, RankStrategy) or trainer.strategy.alike()


def settle(trainer: lightning.Trainer) -> None:
    """Makes the tables the same on all ranks, where there are several."""
    if isinstance(trainer.strategy, RankStrategy):
        trainer.strategy.settle()
