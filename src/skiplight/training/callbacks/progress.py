"""The progress bar: tokens of the whole run, loss, words per second, learning rate and time left."""

from __future__ import annotations

import logging
import time
from typing import Any

import lightning
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from skiplight.training.callbacks.tracking import Tracking
from skiplight.training.module import SkipGramModule

log = logging.getLogger(__name__)

REFRESH_SECONDS = 0.25


class TokenProgress(ProgressBar):
    """A bar over the tokens of the whole run; in a notebook a line, replaced; else a log line per tenth of the run."""

    def __init__(self, tracking: Tracking) -> None:
        super().__init__()
        self.tracking = tracking
        self._bar: Progress | None = None
        self._notebook: Any = None  # the handle of what is displayed
        self._shown, self._tokens, self._speed, self._tenth = 0.0, 0, 0.0, 0

    def disable(self) -> None:
        pass

    def enable(self) -> None:
        pass

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, SkipGramModule)
        self._tokens, self._shown = pl_module.tokens, time.perf_counter()
        self._tenth = 10 * pl_module.tokens // pl_module.total_tokens
        console = Console(stderr=True)
        if console.is_terminal:
            columns = (BarColumn(bar_width=24), "{task.percentage:>3.0f}%", TextColumn("{task.description}"), "left")
            self._bar = Progress(*columns, TimeRemainingColumn(), console=console)
            self._bar.add_task("", total=pl_module.total_tokens, completed=pl_module.tokens)
            self._bar.start()
        elif console.is_jupyter:
            from IPython.display import Pretty, display

            self._notebook = display(Pretty(""), display_id=True)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        now = time.perf_counter()
        if now - self._shown < REFRESH_SECONDS:
            return
        assert isinstance(pl_module, SkipGramModule)
        speed = (pl_module.tokens - self._tokens) / (now - self._shown)
        self._speed = speed if self._speed == 0 else 0.7 * self._speed + 0.3 * speed
        self._shown, self._tokens = now, pl_module.tokens
        self._show(pl_module)

    def _show(self, module: SkipGramModule) -> None:
        lr = module.lr_at(module.tokens)
        text = f"loss {self.tracking.loss:.4f}  {self._speed:,.0f} words/s  lr {lr:.2g}"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=module.tokens, description=text)
        elif self._notebook is not None:
            from IPython.display import Pretty

            percent = 100 * module.tokens // module.total_tokens
            self._notebook.update(Pretty(f"{percent} %  {text}"))
        elif (tenth := 10 * module.tokens // module.total_tokens) > self._tenth:
            self._tenth = tenth
            left = max(module.total_tokens - module.tokens, 0) / max(self._speed, 1e-9)  # the last epoch may be longer
            log.info("%d %%  %s  %.0f s left", 10 * tenth, text, left)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, SkipGramModule)
        if self._bar is not None or self._notebook is not None:
            self._show(pl_module)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
