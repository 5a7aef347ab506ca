"""What a study or a multirun found: trials.csv, report.md with its plots, and the best options as an experiment."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from skiplight.config.schema import CHOSEN, Config, chosen
from skiplight.config.validate import OPEN, run_options
from skiplight.errors import UnwritableError
from skiplight.experiments.collect import collect_trials
from skiplight.experiments.metrics import incomparable
from skiplight.experiments.sweeps.plots import draw, front_numbers, importances
from skiplight.experiments.trials import Mean, TrialTable, markdown_table
from skiplight.files import replacing
from skiplight.registry import REGISTRIES
from skiplight.training.run_folder import RunFolder

log = logging.getLogger(__name__)

OWN = ("run_dir", "seed", "logger", "checkpoint")
"""Options that are a run's own, and not of the configuration that an experiment repeats."""

SHOWN = 15
"""So many configurations are shown on the screen; the files have all."""


def summarise(folder: Path, metric: str | None = None) -> tuple[TrialTable, Path | None]:
    """Write trials.csv, report.md, plots/ and experiment/best.yaml into the folder, and print the table.

    Returns: the table and the file of the best options, None where no trial has finished.

    Raises:
        RunError: there are no trials in it.
        UnwritableError: it cannot be written to.
    """
    table = collect_trials(folder, metric)
    means = table.means()
    try:
        table.write_csv()
        plots = draw(table, folder / "plots")
        best = _write_best(table, means[0]) if means else None
        with replacing(folder / "report.md") as temporary:
            temporary.write_text("\n\n".join(_parts(table, means, plots, best)) + "\n", encoding="utf-8")
    except OSError as error:
        raise UnwritableError(f"{folder} cannot be written: {error.strerror}; make it writable") from None
    _show(table, means)
    print(f"report: {folder / 'report.md'}")
    return table, best


def _parts(table: TrialTable, means: list[Mean], plots: dict[str, Path], best: Path | None) -> Iterable[str]:
    states: dict[str, int] = {}
    for row in table.rows:
        states[row.state] = states.get(row.state, 0) + 1
    yield f"# {table.folder.resolve().name}"
    told = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    yield f"{len(table.rows)} trials: {told}. Judged by {_goal(table)}."
    if incomparable(table.swept):
        yield (
            f"Perplexities are left out: over different {', '.join(incomparable(table.swept))} they cannot be compared."
        )
    if len(table.targets) > 1:
        front = front_numbers(table) if table.complete else []
        yield f"Pareto front: trials {', '.join(map(str, front))}. With two metrics no trial is pruned."
    if best is not None:
        shown = ", ".join(f"`{name}={_text(value)}`" for name, value in means[0].params.items())
        yield f"## Best\n\n{shown}: {table.targets[0]} {_with_deviation(means[0], table.targets[0])}"
        place = f"'hydra.searchpath=[\"file://{table.folder.resolve()}\"]'"
        yield f"Train it: `skiplight train {place} experiment={best.stem}`"
    if found := importances(table):
        shares = [[name, f"{share:.2f}"] for name, share in found.items()]
        yield "## Importance (PED-ANOVA)\n\n" + markdown_table(["option", "share"], shares)
    for title, path in plots.items():
        yield f"## {title}\n\n![{title}]({path.relative_to(table.folder)})"
    if any(len(mean.rows) > 1 for mean in means):
        yield "## Means over seeds\n\n" + markdown_table(*_mean_table(table, means))
    yield "## All trials\n\n" + markdown_table(*_all(table))
    if errors := [[row.number, row.error] for row in table.rows if row.error]:
        yield "## Failed\n\n" + markdown_table(["trial", "why"], errors)


def _goal(table: TrialTable) -> str:
    words = {"maximize": "the most", "minimize": "the least"}
    return " and ".join(f"{words[d]} {m}" for m, d in zip(table.targets, table.directions, strict=True))


def _names(table: TrialTable) -> list[str]:
    """The targets, then what else an evaluation found."""
    return [name for name in table.metrics if name in table.targets or name.startswith(("evaluation/", "heldout/"))]


def _mean_table(table: TrialTable, means: list[Mean]) -> tuple[list[str], list[list[Any]]]:
    swept, names = table.varied, _names(table)
    rows = [[*(_text(m.params[n]) for n in swept), *(_with_deviation(m, n) for n in names), len(m.rows)] for m in means]
    return [*swept, *names, "seeds"], rows


def _all(table: TrialTable) -> tuple[list[str], list[list[Any]]]:
    swept, names = table.varied, _names(table)
    rows = [
        [
            row.number, row.state, row.seed, *(_text(row.params.get(name)) for name in swept),
            *(_text(row.metrics.get(name)) for name in names), "" if row.seconds is None else f"{row.seconds:.1f}",
        ]
        for row in table.rows
    ]  # fmt: skip
    return ["trial", "state", "seed", *swept, *names, "seconds"], rows


def _with_deviation(mean: Mean, name: str) -> str:
    if name not in mean.mean:
        return ""
    return _text(mean.mean[name]) + (f" ± {mean.deviation[name]:.2g}" if name in mean.deviation else "")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"
    return "" if value is None else str(value)


def _show(table: TrialTable, means: list[Mean]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as Screen

    head, rows = _mean_table(table, means)
    screen = Screen(*map(escape, head))
    for row in rows[:SHOWN]:
        screen.add_row(*(escape(str(cell)) for cell in row))
    Console().print(screen)
    if len(rows) > SHOWN:
        print(f"and {len(rows) - SHOWN} more")
    for trial in table.rows:
        if trial.state not in ("complete", "pruned"):
            print(f"trial {trial.number}: {trial.state}{': ' + trial.error if trial.error else ''}")


def _write_best(table: TrialTable, best: Mean) -> Path:
    """The best configuration as experiment/best.yaml: what was searched, and what differs from the defaults."""
    config = run_options(RunFolder(table.folder / str(best.rows[0].number)).config())
    changed = _changed(config, _defaults(config), set(table.swept))
    # A registered name is chosen as a group, since that brings its own options.
    keys = {group: REGISTRIES[group].key for group in CHOSEN}
    names = {group: changed[group].pop(key) for group, key in keys.items() if key in changed.get(group, {})}
    if names:
        changed = {"defaults": [{f"override /{group}": name} for group, name in names.items()], **changed}
    path = table.folder / "experiment" / "best.yaml"
    trials = ", ".join(str(row.number) for row in best.rows)
    head = f"# @package _global_\n# {table.targets[0]} {_with_deviation(best, table.targets[0])} in trial {trials}.\n"
    with replacing(path) as temporary:
        temporary.write_text(head + yaml.safe_dump(changed, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def _defaults(config: dict[str, Any]) -> dict[str, Any]:
    """The defaults of a run's options, with those that its registered names add."""
    defaults = run_options(Config())
    for group in CHOSEN:
        key = REGISTRIES[group].key
        own = dataclasses.asdict(chosen(group, config[group][key]))
        defaults[group] = own | {key: defaults[group][key]}
    return defaults


def _changed(config: dict[str, Any], defaults: dict[str, Any], swept: set[str], group: str = "") -> dict[str, Any]:
    """The options that differ from the defaults, and those of `swept`, which has their names with dots."""
    found = {}
    for name, value in config.items():
        if name in OWN:
            continue
        if isinstance(value, dict) and not group and name not in OPEN:
            value = _changed(value, defaults[name], swept, f"{name}.")
            if value:
                found[name] = value
        elif value != defaults[name] or group + name in swept:
            found[name] = value
    return found
