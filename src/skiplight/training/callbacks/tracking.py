"""Counts of tokens, pairs, loss and seconds during training, and the lines of metrics.jsonl."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning

from skiplight.files import open_regular, replacing, sync, writing
from skiplight.training.callbacks.divergence import DivergenceCheck
from skiplight.training.module import SkipGramModule

log = logging.getLogger(__name__)

RECORDS = 500
"""The approximate number of lines per run."""

LEAST_STEPS = 8
"""The least steps per line with several ranks, which wait for each other at every line."""


class Tracking(lightning.Callback):
    """Write a line of metrics about every 1/500 of the run.

    Args:
        path: metrics.jsonl, one object per line: step, tokens, seconds, lr, words_per_second and metrics.
        check: judges the loss of every line.
        shares: whether to log the lines to Lightning too, for callbacks that monitor a metric.

    Attributes:
        loss: mean loss per pair over the last line's interval; nan before the first line.
        epoch_loss: mean loss per pair over the last epoch, which may be incomplete.
        pairs: pairs trained on so far, including earlier sessions of a resumed run.
    """

    def __init__(self, path: Path, check: DivergenceCheck | None = None, *, shares: bool = False) -> None:
        self.path, self.check, self.shares = path, check, shares
        self.loss, self.pairs, self.epoch_loss = float("nan"), 0, float("nan")
        self._line, self._epoch = (0.0, 0), (0.0, 0)  # loss and pairs since the last line, and in this epoch
        self._seconds = 0.0
        self._since: float | None = None  # None while the clock is stopped
        self._written = (0, 0.0)  # tokens and seconds at the last line
        self._lines = 0  # written so far
        self._least_tokens = 1  # between two lines
        self._next = 0
        self._restored = False  # from a checkpoint

    @property
    def seconds(self) -> float:
        """Seconds of training without pauses, including earlier sessions of a resumed run."""
        return self._seconds + (0.0 if self._since is None else time.perf_counter() - self._since)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock of the training for the duration of a block."""
        running = self._since is not None
        self._stop()
        try:
            yield
        finally:
            self._since = time.perf_counter() if running else None

    def _stop(self) -> None:
        self._seconds, self._since = self.seconds, None

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        assert isinstance(pl_module, SkipGramModule)
        pl_module.is_tracked = True

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, SkipGramModule)
        if trainer.is_global_zero:
            with writing(self.path):
                truncate_metrics(self.path, self._lines)
        cursor = getattr(getattr(trainer, "datamodule", None), "cursor", None)
        if self._restored and cursor is not None and cursor.index == 0:
            # The checkpoint is of the last step of an epoch, and Lightning announces neither its end nor the next one.
            self._end_epoch(pl_module)
            self._epoch = (0.0, 0)
        self._since = time.perf_counter()
        if trainer.world_size > 1:
            block_tokens = getattr(getattr(trainer, "datamodule", None), "block_tokens", 1)
            self._least_tokens = LEAST_STEPS * block_tokens * trainer.world_size
        self._next = self._after(pl_module)

    def _after(self, module: SkipGramModule) -> int:
        """Return the tokens at which the next line is due; resuming does not shift the grid."""
        stretch = max(1, module.total_tokens // RECORDS, self._least_tokens)
        return (module.tokens // stretch + 1) * stretch

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        assert isinstance(pl_module, SkipGramModule)
        if pl_module.tokens >= self._next:
            self._next = self._after(pl_module)
            self._write_loss(trainer, pl_module)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, SkipGramModule)
        self.shares = False  # Lightning logs nothing after the last step
        self._write_loss(trainer, pl_module)
        # A run that goes on from a checkpoint at its last step, saved before its epoch ended, trains no more batches.
        self._end_epoch(pl_module)
        self._stop()

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, SkipGramModule)
        self._collect(pl_module)
        self._epoch = (0.0, 0)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, SkipGramModule)
        self._end_epoch(pl_module)
        if self.shares:  # what monitors a metric at the end of an epoch finds that of the epoch
            pl_module.log("train/loss", self.epoch_loss, logger=False, batch_size=1)

    def _end_epoch(self, module: SkipGramModule) -> None:
        self._collect(module)
        if self._epoch[1]:
            self.epoch_loss = self._epoch[0] / self._epoch[1]

    def _collect(self, module: SkipGramModule) -> None:
        """Add the loss of all ranks since the last call; all ranks must call this at the same tokens."""
        loss, pairs = module.take_loss()
        self.pairs += pairs
        self._line = self._line[0] + loss, self._line[1] + pairs
        self._epoch = self._epoch[0] + loss, self._epoch[1] + pairs

    def _write_loss(self, trainer: lightning.Trainer, module: SkipGramModule) -> None:
        self._collect(module)
        loss, pairs = self._line
        if pairs == 0:
            return
        self.loss, self._line = loss / pairs, (0.0, 0)
        tokens, seconds = self._written
        self._written = (module.tokens, self.seconds)
        speed = (module.tokens - tokens) / max(self._written[1] - seconds, 1e-9)
        lr = module.lr_at(module.tokens)
        self._append(trainer, module, {"train/loss": self.loss, "lr": lr, "words_per_second": speed})
        if self.check is not None:
            ended = module.tokens >= module.total_tokens
            self.check.judge(module, self.loss, pairs, step=trainer.global_step, last=ended)

    def write(self, trainer: lightning.Trainer, module: SkipGramModule, metrics: dict[str, Any]) -> None:
        """Append a line with `metrics` and the current step and tokens, on the first rank; all ranks must call this."""
        self._collect(module)
        self._append(trainer, module, metrics)

    def _append(self, trainer: lightning.Trainer, module: SkipGramModule, metrics: dict[str, Any]) -> None:
        if self.shares and metrics:
            module.log_dict({name: float(value) for name, value in metrics.items()}, logger=False, batch_size=1)
        if not trainer.is_global_zero or not metrics:
            return
        line = {
            "step": trainer.global_step,
            "tokens": module.tokens,
            "seconds": round(self.seconds, 4),
            "pairs": self.pairs,
        } | metrics
        with writing(self.path), open_regular(self.path, "a") as file:
            file.write(json.dumps(line) + "\n")
        self._lines += 1
        for logger in trainer.loggers:
            logger.log_metrics(line, step=trainer.global_step)

    def on_save_checkpoint(self, trainer: lightning.Trainer, *args: Any) -> None:
        if self._lines and trainer.is_global_zero:
            with writing(self.path):
                sync(self.path)  # a checkpoint requires the lines before it

    def state_dict(self) -> dict[str, Any]:
        state = {"seconds": self.seconds, "pairs": self.pairs, "loss": self.loss, "epoch_loss": self.epoch_loss}
        return state | {"line": self._line, "epoch": self._epoch, "lines": self._lines, "written": self._written}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = True
        self._seconds, self.pairs = state_dict["seconds"], state_dict["pairs"]
        self.loss, self.epoch_loss = state_dict["loss"], state_dict["epoch_loss"]
        self._line, self._epoch = tuple(state_dict["line"]), tuple(state_dict["epoch"])
        self._lines, self._written = state_dict["lines"], tuple(state_dict["written"])


def truncate_metrics(path: Path, lines: int) -> None:
    """Keep the first `lines` lines of metrics.jsonl; a resumed run writes those after the checkpoint again."""
    written = []
    with contextlib.suppress(FileNotFoundError), open_regular(path, "rb") as file:
        written = file.read().splitlines(keepends=True)
    if len(written) < lines:
        log.warning(
            "%s has %d of the %d lines that it had at the checkpoint: the others are lost", path, len(written), lines
        )
    if len(written) <= lines:
        return
    with replacing(path, parents=False) as temporary:
        temporary.write_bytes(b"".join(written[:lines]))
