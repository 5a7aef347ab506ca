"""`Run`: a finished run as Python sees it, read from its folder."""

from __future__ import annotations

import functools
import html
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skiplight.config.schema import Config
from skiplight.training.run_folder import RunFolder
from skiplight.vectors.word_vectors import WordVectors

if TYPE_CHECKING:
    import pandas


class Run:
    """A run; what is read of it raises a RunError where it is not finished, or damaged.

    Args:
        path: its folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._folder = RunFolder(path)

    def __repr__(self) -> str:
        scores = {name: result["score"] for name, result in self.summary["evaluation"].items() if "score" in result}
        shown = "".join(f", {name} {score:.3f}" for name, score in scores.items())
        return f"<Run {self.path}: {self.summary['tokens']:,} tokens, loss {self.summary['loss']:.4f}{shown}>"

    def _repr_html_(self) -> str:
        """Return the page of the run, for a notebook; its metrics where the run has no page."""
        if not self._folder.report.exists():
            return str(self.metrics.to_html())
        page = html.escape(self._folder.report.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{page}" title="{html.escape(str(self.path))}" width="100%" height="800"></iframe>'

    @property
    def path(self) -> Path:
        """The folder."""
        return self._folder.path

    @functools.cached_property
    def config(self) -> Config:
        """All options of the run."""
        return self._folder.config()

    @functools.cached_property
    def summary(self) -> dict[str, Any]:
        """The content of summary.json."""
        return self._folder.read_summary()

    @functools.cached_property
    def vectors(self) -> WordVectors:
        """The trained vectors."""
        return WordVectors.load(self.path)

    @property
    def metrics(self) -> pandas.DataFrame:
        """The lines of metrics.jsonl: step, tokens, seconds, train/loss, heldout/perplexity, evaluation/SET, ..."""
        import pandas

        return pandas.DataFrame(self._folder.read_metrics())
