"""The report of a study or a multirun: trials.csv, report.md with its plots, and the best options as an experiment."""

from __future__ import annotations

import dataclasses
import functools
import logging
import operator
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from skiplight.config.schema import CHOSEN, Config, chosen
from skiplight.config.validate import OPEN, run_options
from skiplight.errors import UnwritableError
from skiplight.experiments.collect import collect_trials
from skiplight.experiments.metrics import incomparable_options
from skiplight.experiments.sweeps.conditions import NOT_APPLICABLE
from skiplight.experiments.sweeps.plots import option_importances, pareto_front, plot_trials
from skiplight.experiments.sweeps.ties import least_difference, tied_with_best
from skiplight.experiments.trials import SeedAverage, TrialTable, markdown_table
from skiplight.files import replacing
from skiplight.registry import REGISTRIES
from skiplight.training.run_folder import RunFolder

log = logging.getLogger(__name__)

PER_RUN_OPTIONS = ("run_dir", "seed", "logger", "checkpoint")
"""Options and groups that best.yaml omits, since they differ between runs of the same experiment."""

PRINTED_ROWS = 15
"""Number of configurations in the printed table; the files have all."""


def write_study_report(folder: Path, metric: str | None = None) -> tuple[TrialTable, Path | None]:
    """Write trials.csv, report.md, plots/ and experiment/best.yaml into the folder, and print the table.

    Args:
        folder: folder of the study or the multirun.
        metric: metric to rank by; default: that of the study, or the first evaluation.

    Returns:
        The table, and the path of best.yaml, or None if no trial is complete.

    Raises:
        RunError: the folder has no trials.
        ConfigError: the runs do not have the metric.
        UnwritableError: the folder cannot be written to.
    """
    table = collect_trials(folder, metric)
    averages = table.average_seeds()
    try:
        table.write_csv()
        plots = plot_trials(table, folder / "plots")
        confirmed = table.average_confirmations()
        best = _write_best(table, (confirmed or averages)[0]) if averages else None
        with replacing(folder / "report.md") as temporary:
            temporary.write_text("\n\n".join(_report_sections(table, averages, plots, best)) + "\n", encoding="utf-8")
    except OSError as error:
        raise UnwritableError(f"{folder} cannot be written: {error.strerror}; make it writable") from None
    _print_table(table, averages)
    print(f"report: {folder / 'report.md'}")
    return table, best


def _report_sections(
    table: TrialTable, averages: list[SeedAverage], plots: dict[str, Path], best: Path | None
) -> Iterable[str]:
    confirmed = table.average_confirmations()
    states: dict[str, int] = {}
    for row in table.rows:
        states[row.state] = states.get(row.state, 0) + 1
    yield f"# {table.folder.resolve().name}"
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    yield f"{len(table.rows)} trials: {counts}. Ranked by {_describe_targets(table)}."
    if "running" in states:
        yield "Trials were training when this was written: `skiplight report` writes it again."
    if options := incomparable_options(table.swept):
        yield f"Perplexities are omitted, since they cannot be compared over different {', '.join(options)}."
    if len(table.targets) > 1:
        front = pareto_front(table) if table.complete else []
        yield f"Pareto front: trials {', '.join(map(str, front))}. With two metrics no trial is pruned."
    if best is not None:
        first = (confirmed or averages)[0]
        shown = ", ".join(_describe_options(first))
        yield f"## Best\n\n{shown}: {table.targets[0]} {_with_error(first, table.targets[0])}"
        for target in table.targets if len(table.targets) > 1 else ():
            yield f"Best by {target}: {_describe_point(table, table.best_by(target))}"
        yield f"Train with these options: `{train_command(table.folder, best)}`"
    if confirmed:
        yield (
            "## Confirmation\n\nThe best of many points looks better than it is, since it was chosen by the results"
            " that it is shown with. These points were trained again with fresh seeds, and are ranked by those."
        )
        yield markdown_table(*_confirmation_table(table, averages, confirmed))
    if found := option_importances(table):
        shares = [[name, f"{share:.2f}"] for name, share in found.items()]
        yield "## Importance (PED-ANOVA)\n\n" + markdown_table(["option", "share"], shares)
    for title, path in plots.items():
        yield f"## {title}\n\n![{title}]({path.relative_to(table.folder)})"
    if any(len(average.rows) > 1 for average in averages):
        yield f"## Means over seeds\n\n{_describe_ties(table, averages)}"
        yield markdown_table(*_averages_table(table, averages))
    yield "## All trials\n\n" + markdown_table(*_all_trials_table(table))
    if errors := [[row.number, row.error] for row in table.rows if row.error]:
        yield "## Failed trials\n\n" + markdown_table(["trial", "error"], errors)


def train_command(folder: Path, experiment: Path) -> str:
    """Return the command that trains an experiment in the folder experiment/ of a study."""
    return f"skiplight train --config-dir {shlex.quote(str(folder.resolve()))} experiment={experiment.stem}"


def _describe_point(table: TrialTable, point: SeedAverage) -> str:
    metrics = ", ".join(f"{name} {_with_error(point, name)}" for name in table.targets)
    return f"trial {', '.join(str(row.number) for row in point.rows)}, {' '.join(_describe_options(point))}: {metrics}"


def _describe_options(point: SeedAverage) -> list[str]:
    """Return the swept options that a point reads."""
    return [f"`{name}={_format_cell(value)}`" for name, value in point.params.items() if value != NOT_APPLICABLE]


def _describe_targets(table: TrialTable) -> str:
    words = {"maximize": "highest", "minimize": "lowest"}
    return " and ".join(f"{words[d]} {m}" for m, d in zip(table.targets, table.directions, strict=True))


def _shown_metrics(table: TrialTable) -> list[str]:
    """Return the metrics to show: the targets, then those of evaluations."""
    return [name for name in table.metrics if name in table.targets or name.startswith(("evaluation/", "heldout/"))]


def _averages_table(table: TrialTable, averages: list[SeedAverage]) -> tuple[list[str], list[list[Any]]]:
    swept, names = table.swept_except_seed, _shown_metrics(table)
    tied = tied_with_best(averages, table.targets[0])
    rows = [
        [*(_format_cell(m.params[n]) for n in swept), *(_with_error(m, n) for n in names), len(m.rows)]
        + (["≈ best" if m in tied else ""] if tied else [])
        for m in averages
    ]
    return [*swept, *names, "seeds", *([""] if tied else [])], rows


def _confirmation_table(
    table: TrialTable, averages: list[SeedAverage], confirmed: list[SeedAverage]
) -> tuple[list[str], list[list[Any]]]:
    swept, target = table.swept_except_seed, table.targets[0]
    searched = {repr(average.params): average for average in averages}
    names = list(
        dict.fromkeys([target, *(n for n in _shown_metrics(table) if n.startswith(("heldout/", "validation/")))])
    )
    rows = []
    for again in confirmed:
        before = searched.get(repr(again.params))
        options = [_format_cell(again.params[name]) for name in swept]
        metrics = [_with_error(again, name) for name in names]
        rows.append([*options, _with_error(before, target) if before else "", *metrics, len(again.rows)])
    return [*swept, f"{target} in the search", *names, "fresh seeds"], rows


def _describe_ties(table: TrialTable, averages: list[SeedAverage]) -> str:
    """Return in words which points cannot be told from the best, and what ± is."""
    text, least = "± is the standard error of a mean.", least_difference(averages, table.targets[0])
    if least is None:
        return text
    tied = tied_with_best(averages, table.targets[0])
    count = f"{len(tied)} of the others are" if len(tied) != 1 else "1 of the others is"
    return (
        f"{text} {count} so close to the best in {table.targets[0]} that the seeds cannot tell them apart: the means"
        f" differ by at most {least:.2g} (differences by seed, spread pooled over all points, 95 % for all at once)."
    )


def _all_trials_table(table: TrialTable) -> tuple[list[str], list[list[Any]]]:
    swept, names = table.swept_except_seed, _shown_metrics(table)
    rows: list[list[Any]] = []
    for row in table.rows:
        options, metrics = map(row.params.get, swept), map(row.metrics.get, names)
        seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
        rows.append([row.number, row.state, row.seed, *map(_format_cell, [*options, *metrics]), seconds])
    return ["trial", "state", "seed", *swept, *names, "seconds"], rows


def _with_error(average: SeedAverage, name: str) -> str:
    if name not in average.mean:
        return ""
    error = f" ± {average.error[name]:.2g}" if name in average.error else ""
    return _format_cell(average.mean[name]) + error


def _format_cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"
    return "" if value is None else str(value)


def _print_table(table: TrialTable, averages: list[SeedAverage]) -> None:
    head, rows = _averages_table(table, averages)
    _print_rows(head, rows[:PRINTED_ROWS], {*table.swept_except_seed, *table.targets, "seeds", ""})
    if len(rows) > PRINTED_ROWS:
        print(f"and {len(rows) - PRINTED_ROWS} more")
    if confirmed := table.average_confirmations():
        print("the best, trained again with fresh seeds:")
        head, rows = _confirmation_table(table, averages, confirmed)
        _print_rows(head, rows, {*head})
    for trial in table.rows:
        if trial.state not in ("complete", "pruned", "paused", "confirmation"):
            print(f"trial {trial.number}: {trial.state}{': ' + trial.error if trial.error else ''}")


def _print_rows(head: list[str], rows: list[list[Any]], needed: set[str]) -> None:
    """Print a table in the width of the terminal.

    If it is too wide, the last columns that are not needed are left out, and then the groups of the options' names.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as Screen

    console, shown, names = Console(), list(range(len(head))), head

    def make() -> Screen:
        screen = Screen(*(escape(names[at]) for at in shown))
        for row in rows:
            screen.add_row(*(escape(str(row[at])) for at in shown))
        return screen

    while console.measure(make(), options=console.options.update(max_width=10_000)).maximum > console.width:
        if spare := [at for at in shown if head[at] not in needed]:
            shown.remove(spare[-1])
        elif names is head:
            names = [name.rpartition("/")[2].rpartition(".")[2] for name in head]
        else:
            break
    console.print(make())
    if left_out := [name for at, name in enumerate(head) if at not in shown]:
        print(f"report.md also has {', '.join(left_out)}")


def _write_best(table: TrialTable, best: SeedAverage) -> Path:
    """Write experiment/best.yaml: the swept options of the best trial, and its options that are not the default."""
    config = run_options(RunFolder(table.folder / str(best.rows[0].number)).config())
    read = {name for name in table.swept if best.rows[0].params.get(name) != NOT_APPLICABLE}
    changed = _changed_options(config, _default_options(config), read)
    # A registered name is chosen as a group, since that brings its own options.
    names = {}
    for group in CHOSEN:
        inner, key = changed, REGISTRIES[group].key
        for part in group.split("."):
            inner = inner.get(part, {})
        if key in inner:
            names[group.replace(".", "/")] = inner.pop(key)
    if names:
        changed = {"defaults": [{f"override /{group}": name} for group, name in names.items()], **changed}
    path = table.folder / "experiment" / "best.yaml"
    trials = ", ".join(str(row.number) for row in best.rows)
    head = f"# @package _global_\n# {table.targets[0]} {_with_error(best, table.targets[0])} in trial {trials}.\n"
    with replacing(path) as temporary:
        temporary.write_text(head + yaml.safe_dump(changed, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def _default_options(config: dict[str, Any]) -> dict[str, Any]:
    """Return the default options of a run with the same registered names."""
    defaults = run_options(Config())
    for group in CHOSEN:
        *path, last = group.split(".")
        before, own = (functools.reduce(operator.getitem, path, options) for options in (defaults, config))
        key = REGISTRIES[group].key
        before[last] = dataclasses.asdict(chosen(group, own[last][key])) | {key: before[last][key]}
    return defaults


def _changed_options(
    config: dict[str, Any], defaults: dict[str, Any], swept: set[str], group: str = ""
) -> dict[str, Any]:
    """Return the options that are not the default, and those whose dotted names are in `swept`."""
    found = {}
    for name, value in config.items():
        if name in PER_RUN_OPTIONS:
            continue
        if isinstance(value, dict) and (not group or group + name in CHOSEN) and name not in OPEN:
            value = _changed_options(value, defaults[name], swept, f"{group}{name}.")
            if value:
                found[name] = value
        elif value != defaults[name] or group + name in swept:
            found[name] = value
    return found
