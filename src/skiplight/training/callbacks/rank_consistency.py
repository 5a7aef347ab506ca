"""A callback that checks that all ranks of a training start from the same state, and records them."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import platform

import lightning
import torch

from skiplight.distributed.strategy import RankStrategy
from skiplight.errors import RunError
from skiplight.training.module import SkipGramModule
from skiplight.training.run_folder import RunFolder

log = logging.getLogger(__name__)


class RankConsistencyCheck(lightning.Callback):
    """Compare options, text, tables and position of the ranks when training begins.

    Args:
        run: the run's folder; its environment.json gets the ranks' hosts, processes and devices.
        text: fingerprint of the text.
    """

    def __init__(self, run: RunFolder, text: str) -> None:
        self.run, self.text = run, text

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Gather the state of every rank and compare it.

        Raises:
            RunError: two ranks differ.
        """
        strategy = trainer.strategy
        assert isinstance(strategy, RankStrategy)
        assert isinstance(pl_module, SkipGramModule)
        begin = {
            "options": hashlib.blake2b(self.run.config_file.read_bytes(), digest_size=16).hexdigest(),
            "text": self.text,
            "tokens": pl_module.tokens,
            "tables": [float(table.detach().sum(dtype=torch.float64)) for table in pl_module.tables.parameters()],
            "torch": torch.__version__,
            "skiplight": importlib.metadata.version("skiplight"),
        }
        device = strategy.root_device
        about = {
            "rank": trainer.global_rank,
            "host": platform.node(),
            "process": os.getpid(),
            "tables": [list(table.shape) for table in pl_module.tables.parameters()],
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        }
        messages = strategy.gather((begin, about))
        for what in begin:
            values = [other[what] for other, _ in messages]
            rank = next((rank for rank, value in enumerate(values) if value != values[0]), None)
            if rank is not None:
                raise RunError(
                    f"rank {rank} begins with other {what} than rank 0 ({values[rank]}, {values[0]}): give all machines"
                    f" the same versions, text and {self.run.path}"
                )
        if trainer.is_global_zero:
            for _, other in messages:
                log.info(f"rank %(rank)d of {len(messages)}: process %(process)d on %(host)s, %(device)s", other)
            self.run.add_facts(ranks=[about for _, about in messages])
