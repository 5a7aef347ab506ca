"""The trials of a study, a multirun or a comparison as a table: trials.csv, a DataFrame, and means over seeds."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skiplight.experiments.metrics import Direction
from skiplight.files import replacing, writing

if TYPE_CHECKING:
    import pandas

TRIALS_FILE = "trials.csv"


@dataclasses.dataclass(frozen=True)
class TrialRow:
    """A trial.

    Attributes:
        number: number of the trial.
        state: complete, pruned, paused (at a rung), failed, running, or unfinished (the same command resumes it);
            confirmation if it is a complete one with a fresh seed, which takes no part in the search.
        seed: seed of its run.
        params: values of the swept options.
        metrics: its metrics; if it is not complete, those of the last evaluation.
        seconds: seconds of training; None if it has not been evaluated yet.
        run: folder of its run, relative to that of the table.
        error: why it failed; empty otherwise.
    """

    number: int
    state: str
    seed: int
    params: dict[str, Any]
    metrics: dict[str, float]
    seconds: float | None
    run: str
    error: str = ""


@dataclasses.dataclass(frozen=True)
class SeedAverage:
    """Trials that differ in their seed only, one per seed.

    Attributes:
        params: their values of the swept options, without the seed.
        rows: the trials.
        mean: mean of each metric that all have.
        error: standard error of each mean; empty for a single seed.
    """

    params: dict[str, Any]
    rows: list[TrialRow]
    mean: dict[str, float]
    error: dict[str, float]


@dataclasses.dataclass(frozen=True)
class TrialTable:
    """The trials of a folder.

    Attributes:
        folder: folder of the experiment.
        rows: the trials.
        swept: the options in which they differ.
        targets: the metrics that are optimised, the first of which ranks the trials.
        directions: whether each target is maximised or minimised.
        logarithmic: the swept options that are searched in the logarithm.
    """

    folder: Path
    rows: list[TrialRow]
    swept: list[str]
    targets: list[str]
    directions: list[Direction]
    logarithmic: list[str] = dataclasses.field(default_factory=list)

    @property
    def complete(self) -> list[TrialRow]:
        """The complete trials that have every target."""
        return [row for row in self.rows if row.state == "complete" and all(t in row.metrics for t in self.targets)]

    @property
    def swept_except_seed(self) -> list[str]:
        """The swept options without the seed, which has a column of its own."""
        return [name for name in self.swept if name != "seed"]

    @property
    def metrics(self) -> list[str]:
        """The metrics of all trials, the targets first."""
        return list(dict.fromkeys([*self.targets, *(name for row in self.rows for name in row.metrics)]))

    @property
    def frame(self) -> pandas.DataFrame:
        """A row per trial: number, state, seed, every swept option, every metric, seconds, run."""
        import pandas

        rows = []
        for row in self.rows:
            values = [*map(row.params.get, self.swept_except_seed), *map(row.metrics.get, self.metrics)]
            rows.append([row.number, row.state, row.seed, *values, row.seconds, row.run])
        columns = ["number", "state", "seed", *self.swept_except_seed, *self.metrics, "seconds", "run"]
        # As objects first, so that integers stay integers in a column where some values are missing.
        return pandas.DataFrame(rows, columns=columns, dtype=object).infer_objects()

    def _repr_html_(self) -> str:
        """Return the table, for a notebook."""
        return str(self.frame.to_html(index=False))

    def write_csv(self) -> Path:
        """Write trials.csv into the folder.

        Raises:
            UnwritableError: the folder cannot be written to.
        """
        path = self.folder / TRIALS_FILE
        with writing(path), replacing(path) as temporary:
            self.frame.to_csv(temporary, index=False)
        return path

    def average_seeds(self) -> list[SeedAverage]:
        """Return the complete trials, grouped by their options without the seed, the best by the first target first."""
        return self._average(self.complete)

    def best_by(self, target: str) -> SeedAverage:
        """Return the best point by one of the targets, of a table with complete trials."""
        return self._average(self.complete, target)[0]

    def average_confirmations(self) -> list[SeedAverage]:
        """Return the points that were trained again with fresh seeds, the best by those first."""
        return self._average([row for row in self.rows if row.state == "confirmation"])

    def _average(self, rows: Sequence[TrialRow], target: str | None = None) -> list[SeedAverage]:
        groups: dict[str, dict[int, TrialRow]] = {}
        for row in rows:
            groups.setdefault(repr(_without_seed(row.params)), {}).setdefault(row.seed, row)
        averages = []
        for group in groups.values():
            own = list(group.values())
            shared = [name for name in own[0].metrics if all(name in row.metrics for row in own)]
            values = {name: [row.metrics[name] for row in own] for name in shared}
            error = {name: statistics.stdev(v) / math.sqrt(len(v)) for name, v in values.items() if len(v) > 1}
            mean = {name: statistics.fmean(found) for name, found in values.items()}
            averages.append(SeedAverage(_without_seed(own[0].params), own, mean, error))
        target = self.targets[0] if target is None else target
        sign = -1 if self.directions[self.targets.index(target)] == "maximize" else 1
        return sorted(averages, key=lambda average: sign * average.mean[target])


def _without_seed(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name != "seed"}


def markdown_table(head: Sequence[Any], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table in Markdown.

    >>> print(markdown_table(["option", "share"], [["a|b", 0.5]]))
    | option | share |
    | --- | --- |
    | a\\|b | 0.5 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
