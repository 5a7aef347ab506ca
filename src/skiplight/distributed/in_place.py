"""Strategy for engines that move tables in place: shared within a machine, reconciled between machines and GPUs.

On a CPU the ranks of a machine write to the same two tables in shared memory, as threads do (Hogwild), and send
nothing. Each machine, or GPU, is a replica, and replicas are reconciled by the rule of `reconciliation`: after a step
the ranks of a machine wait for each other, each exchanges its share of the due rows with the same rank of the other
machines, and they wait again. A machine sends what one exchange needs, over as many connections as it has ranks.
"""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor

from skiplight.distributed.reconciliation import Reconciler
from skiplight.distributed.replica_exchange import ReplicaExchange
from skiplight.distributed.shared_memory import map_tensors, shared_file, tensor_bytes
from skiplight.distributed.strategy import RankStrategy
from skiplight.errors import RankError
from skiplight.objectives.base import Tables

DECISION_TOKENS, DECISION_STEPS = 500_000, 16
"""Tokens per rank, some tenths of a second, or else steps, after which the ranks of one machine decide whether to save
or stop. A message between processes that use all cores takes some milliseconds, as long as a short step."""


class InPlaceTables(RankStrategy):
    """The strategy for engines that move the tables in place.

    With `overlap`, exchanges of some rows run during the next step and reach the tables after it.

    Args:
        reconciler: makes a `Reconciler` from the number of replicas and the device of the tables; called only if there
            are several replicas.
        overlap: whether exchanges overlap with steps; by default only over NCCL, which has a stream of its own.
        options: of `RankStrategy`.
    """

    name: ClassVar[str] = "in_place"

    def __init__(
        self, reconciler: Callable[[int, torch.device], Reconciler], *, overlap: bool | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.begin(reconciler, overlap)

    def begin(self, reconciler: Callable[[int, torch.device], Reconciler], overlap: bool | None = None) -> None:
        """Set what this kind of strategy has of its own."""
        self.make_reconciler, self.overlap = reconciler, overlap
        self._exchange: ReplicaExchange | None = None  # None for a single replica
        self._is_synchronized = True
        self._base: list[Tensor] = []  # the tables after the last exchange
        self._peers: Any = None  # the group of the ranks that exchange the same rows
        self._machine: Any = None  # the group of this machine's ranks
        self._machine_ranks: list[int] = []
        self._replicas: list[list[int]] = []  # the ranks of each replica

    @property
    def replicas(self) -> int:
        return len(self._replicas)

    @property
    def shares_tables(self) -> bool:
        """Whether this rank shares its tables with other ranks."""
        return len(self._machine_ranks) > 1

    def setup_environment(self) -> None:
        super().setup_environment()
        environment = self.cluster_environment
        assert environment is not None
        on_cpu = self.root_device.type == "cpu"
        replicas: dict[int, list[tuple[int, int]]] = {}
        for rank, (node, local_rank) in enumerate(
            self.gather_counts([environment.node_rank(), self.local_rank]).tolist()
        ):
            replicas.setdefault(node if on_cpu else rank, []).append((local_rank, rank))
        self._replicas = [[rank for _, rank in sorted(ranks)] for ranks in replicas.values()]
        self._machine_ranks = next(ranks for ranks in self._replicas if self.global_rank in ranks)
        if len({len(ranks) for ranks in self._replicas}) > 1:
            raise RankError(
                f"the machines have {', '.join(str(len(ranks)) for ranks in self._replicas)} ranks: start as many on"
                " each"
            )
        if not self.shares_tables:
            self._peers = dist.group.WORLD
        else:  # groups are made by all ranks, in the same order
            self._machine = self._make_group(self._replicas)
            self._peers = self._make_group([list(ranks) for ranks in zip(*self._replicas, strict=True)])
        if self.overlap is None:
            self.overlap = dist.get_backend() == "nccl"
        if self.shares_tables:
            self._share_tables()

    def _make_group(self, parts: list[list[int]]) -> Any:
        """Make a process group for each part, and return that of this rank."""
        groups = [dist.new_group(ranks, timeout=self._timeout) for ranks in parts]
        return next(group for group, ranks in zip(groups, parts, strict=True) if self.global_rank in ranks)

    def _share_tables(self) -> None:
        """Move the first rank's tables to memory that the ranks of this machine share.

        Raises:
            RankError: there is no room for them, or the ranks are not on the same machine.
        """
        tables = list(self.skipgram.tables.parameters())
        shapes = [tuple(table.shape) for table in tables]
        shapes += shapes if self.replicas > 1 else []  # `_base` is shared as well
        first = self._machine_ranks[0]
        is_first = self.global_rank == first
        with contextlib.ExitStack() as named:
            message: list[Any] = [None]
            if is_first:
                name = re.sub("[^A-Za-z0-9._-]", "-", self.run.name if self.run is not None else "run")[:64]
                try:
                    message = [str(named.enter_context(shared_file(name, tensor_bytes(shapes))))]
                except RankError as error:
                    message = [error]
            dist.broadcast_object_list(message, first, self._machine)
            if isinstance(message[0], RankError):
                raise message[0]
            try:
                shared = map_tensors(Path(message[0]), shapes)
            except RuntimeError as error:
                raise RankError(
                    f"rank {self.global_rank} cannot share the tables of rank {first}, {error}: ranks of one machine"
                    " must see the same /dev/shm and temporary folder"
                ) from error
            for table, memory in zip(tables, shared, strict=False):
                if is_first:
                    memory.copy_(table.detach())
            dist.barrier(self._machine)
        for table, memory in zip(tables, shared, strict=False):
            table.data = memory
        self._base = shared[len(tables) :]

    def load_model_state_dict(self, checkpoint: Any, strict: bool = True) -> None:
        if self.global_rank == self._machine_ranks[0]:  # once per shared pair
            super().load_model_state_dict(checkpoint, strict)

    def setup(self, trainer: Any) -> None:
        super().setup(trainer)
        self.barrier()  # until all tables have been read from the checkpoint
        if self.replicas == 1:  # replicas decide only after the rare steps that synchronise all tables
            block_tokens = getattr(getattr(trainer, "datamodule", None), "block_tokens", DECISION_TOKENS)
            self.decision_steps = min(max(1, DECISION_TOKENS // block_tokens), DECISION_STEPS)
        if self.replicas > 1:
            tables = list(self.skipgram.tables.parameters())
            if not self._base:
                self._base = [table.detach().clone() for table in tables]
            elif self.global_rank == self._machine_ranks[0]:
                for base, table in zip(self._base, tables, strict=True):
                    base.copy_(table.detach())
            self._exchange = ReplicaExchange(
                self.make_reconciler(self.replicas, self.root_device),
                tables,
                self._base,
                self._peers,
                (self._machine_ranks.index(self.global_rank), len(self._machine_ranks)),
                self._wait_for_machine,
            )
            self.barrier()

    def optimizer_step(self, optimizer: Any, closure: Callable[[], Any], model: Any = None, **kwargs: Any) -> Any:
        result = super().optimizer_step(optimizer, closure, model, **kwargs)
        if self._exchange is not None:
            module, reconciler = self.skipgram, self._exchange.reconciler
            before, after = (module.lr_at(module.tokens + tokens) for tokens in (0, module.batch_tokens))
            reconciler.consumed(module.batch_tokens, (before + after) / 2)
            self._is_synchronized = False
            step = module.trainer.global_step + 1
            rows = reconciler.due(step, after / module.lr)
            if min(rows) == len(self._base[0]):
                self.synchronize()
            elif any(rows):
                self._exchange.exchange(rows, in_turns=not self.overlap)
        return result

    def is_synchronized(self) -> bool:
        return self._is_synchronized

    def synchronize(self) -> None:
        if self._is_synchronized or self._exchange is None:
            self._wait_for_machine()
            return
        self._exchange.exchange((len(self._base[0]), len(self._base[1])), in_turns=True)
        self._is_synchronized = True

    def _wait_for_machine(self) -> None:
        """Wait until no rank of this machine moves or reads the tables."""
        if self.shares_tables:
            dist.barrier(self._machine)

    @contextlib.contextmanager
    def final_tables(self) -> Iterator[Tables]:
        """Yield the tables as they would be if training ended now, for the ranks with a `reading_rank`.

        The tables do not move during the block. Changes of several replicas are combined in a copy.
        """
        self._wait_for_machine()
        tables = self.skipgram.tables
        if self._exchange is not None and not self._is_synchronized and self.global_rank == self._machine_ranks[0]:
            copies = [torch.nn.Parameter(table) for table in self._exchange.combined_copies()]
            tables = copy.deepcopy(tables, dict(zip((id(table) for table in tables.parameters()), copies, strict=True)))
        yield tables
        self.barrier()

    def reading_rank(self) -> tuple[int | None, int]:
        """Return the number of this rank among the readers of `final_tables`, or None, and how many readers there are.

        They are all ranks where they have the same tables; else the first rank of each replica, which has a copy.
        """
        if self._exchange is None or self._is_synchronized:
            return super().reading_rank()
        first = self.global_rank == self._machine_ranks[0]
        return (self._replicas.index(self._machine_ranks) if first else None), self.replicas

    def on_train_end(self) -> None:
        self.bytes_sent = 0 if self._exchange is None else self._exchange.bytes_sent
        super().on_train_end()
        if self.shares_tables:
            sent = torch.tensor(self.bytes_sent)
            dist.all_reduce(sent, group=self._machine)
            self.machine_bytes_sent = int(sent)
