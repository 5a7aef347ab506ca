"""What a run writes down while it trains: counts of tokens, pairs, loss and seconds, and the lines of metrics.jsonl."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning

from skiplight.files import replacing, writing
from skiplight.module import SkipGramModule

RECORDS = 500
"""About so many lines are written over a whole run."""


@dataclasses.dataclass
class Pause:
    """How many seconds a pause took, once it is over."""

    seconds: float = 0.0


class Tracking(lightning.Callback):
    """Writes a line of metrics about every 1/500 of the run.

    Args:
        path: metrics.jsonl; an object a line: step, tokens, seconds, lr, words_per_second and what was measured.

    Attributes:
        loss: mean loss of a pair over the last line's stretch; nan before the first.
        epoch_loss: mean loss of a pair over the last epoch, or what there was of it.
        pairs: pairs trained on so far, over all resumptions.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loss, self.pairs, self.epoch_loss = float("nan"), 0, float("nan")
        self._line, self._epoch = (0.0, 0), (0.0, 0)  # loss and pairs since the last line, and in this epoch
        self._seconds = 0.0
        self._since: float | None = None  # None while the clock stands still
        self._written = (0, 0.0)  # tokens and seconds at the last line
        self._next = 0

    @property
    def seconds(self) -> float:
        """Seconds of training so far, without what was `paused`, over all resumptions."""
        return self._seconds + (0.0 if self._since is None else time.perf_counter() - self._since)

    @contextlib.contextmanager
    def paused(self) -> Iterator[Pause]:
        """What is done meanwhile does not count as training; the pause says how long it was."""
        running, begin, pause = self._since is not None, time.perf_counter(), Pause()
        self._stop()
        try:
            yield pause
        finally:
            pause.seconds = time.perf_counter() - begin
            self._since = time.perf_counter() if running else None

    def _stop(self) -> None:
        self._seconds, self._since = self.seconds, None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, SkipGramModule)
        cut_back(self.path, pl_module.tokens)
        self._since = time.perf_counter()
        self._written = (pl_module.tokens, self._seconds)
        self._next = pl_module.tokens + pl_module.total_tokens // RECORDS

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        assert isinstance(pl_module, SkipGramModule)
        if pl_module.tokens >= self._next:
            self._next = pl_module.tokens + pl_module.total_tokens // RECORDS
            self._write_loss(trainer, pl_module)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, SkipGramModule)
        self._write_loss(trainer, pl_module)
        self._stop()

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, SkipGramModule)
        self._collect(pl_module)
        self._epoch = (0.0, 0)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, SkipGramModule)
        self._collect(pl_module)
        if self._epoch[1]:
            self.epoch_loss = self._epoch[0] / self._epoch[1]

    def _collect(self, module: SkipGramModule) -> None:
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
        self.write(trainer, module, {"train/loss": self.loss, "lr": lr, "words_per_second": speed})

    def write(self, trainer: lightning.Trainer, module: SkipGramModule, metrics: dict[str, Any]) -> None:
        """Appends a line with `metrics` and where in the run they were measured."""
        line = {
            "step": trainer.global_step,
            "tokens": module.tokens,
            "seconds": round(self.seconds, 4),
            "pairs": self.pairs + module.pairs,
        } | metrics
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for logger in trainer.loggers:
            logger.log_metrics(line, step=trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        state = {"seconds": self.seconds, "pairs": self.pairs, "loss": self.loss, "epoch_loss": self.epoch_loss}
        return state | {"line": self._line, "epoch": self._epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seconds, self.pairs = state_dict["seconds"], state_dict["pairs"]
        self.loss, self.epoch_loss = state_dict["loss"], state_dict["epoch_loss"]
        self._line, self._epoch = tuple(state_dict["line"]), tuple(state_dict["epoch"])


def cut_back(path: Path, tokens: int) -> None:
    """Drops the lines of metrics.jsonl from beyond `tokens`, and a last one that a killed process left half-written."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["tokens"] <= tokens:
                kept.append(line + "\n")
        except ValueError:
            continue
    with replacing(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")
