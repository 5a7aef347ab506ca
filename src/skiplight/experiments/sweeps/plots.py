"""Plots of a table of trials, as PNG: each option, heatmaps, parallel coordinates, importance, the Pareto front."""

from __future__ import annotations

import errno
import itertools
import math
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skiplight.experiments.sweeps.conditions import NOT_APPLICABLE
from skiplight.experiments.trials import TrialRow, TrialTable

if TYPE_CHECKING:
    import optuna
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MIN_TRIALS = 4
"""Number of complete trials from which importances are estimated."""

MAX_VALUES = 20
"""Number of distinct values of an option up to which means are drawn, and heatmaps."""


def plot_trials(table: TrialTable, folder: Path) -> dict[str, Path]:
    """Plot the complete trials into a folder, and return the file of each plot by its title."""
    if folder.is_symlink():
        raise OSError(errno.ELOOP, "it is a symbolic link, which is not followed", str(folder))
    folder.mkdir(exist_ok=True)
    drawings: list[tuple[str, str, Callable[[TrialTable], Figure | None]]] = [
        ("Exponent and negatives", "heatmap.png", _heatmap),
        ("Each option", "options.png", _options),
        ("Parallel coordinates", "parallel.png", _parallel),
        ("Importance", "importance.png", _importance),
        ("Pareto front", "pareto.png", _pareto),
    ]
    made = {}
    for title, name, make in drawings:
        (folder / name).unlink(missing_ok=True)
        figure = make(table) if table.complete else None
        if figure is not None:
            figure.savefig(folder / name, dpi=120, bbox_inches="tight")
            made[title] = folder / name
    return made


def to_optuna_study(table: TrialTable) -> optuna.Study:
    """Return the complete trials as an Optuna study in memory, with the options that vary among them."""
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=table.directions)
    spaces: dict[str, Any] = {}
    for name in varying_options(table):
        values = [row.params[name] for row in _reading(table, name)]
        if not _is_numeric(values):
            spaces[name] = CategoricalDistribution(sorted(set(values), key=str))
        elif all(isinstance(value, int) for value in values):
            spaces[name] = IntDistribution(min(values), max(values))
        else:
            spaces[name] = FloatDistribution(min(values), max(values))
    for row in table.complete:
        study.add_trial(
            optuna.trial.create_trial(
                params={name: row.params[name] for name in spaces if row.params[name] != NOT_APPLICABLE},
                distributions={n: space for n, space in spaces.items() if row.params[n] != NOT_APPLICABLE},
                values=[row.metrics[metric] for metric in table.targets],
                user_attrs={"number": row.number},
            )
        )
    return study


def varying_options(table: TrialTable) -> list[str]:
    """Return the swept options that have several values among the complete trials, the seed last."""
    names = sorted(table.swept, key=lambda name: name == "seed")
    return [name for name in names if len({repr(row.params[name]) for row in table.complete}) > 1]


def _reading(table: TrialTable, *names: str) -> list[TrialRow]:
    """Return the complete trials that read some options."""
    return [row for row in table.complete if all(row.params[name] != NOT_APPLICABLE for name in names)]


def option_importances(table: TrialTable) -> dict[str, float]:
    """Return the importance of each option for the first target, by Optuna's PED-ANOVA; the importances sum to 1.

    The result is empty if there are fewer than `MIN_TRIALS` complete trials or fewer than two varying options.
    """
    from optuna.importance import get_param_importances

    if len(table.complete) < MIN_TRIALS or len(set(varying_options(table)) - {"seed"}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_param_importances(to_optuna_study(table), target=lambda trial: trial.values[0])


def _is_numeric(values: list[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _new_figure(columns: int, rows: int = 1, width: float = 4.2, height: float = 3.4) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _heatmap(table: TrialTable) -> Figure | None:
    """Plot the first target by noise.exponent and noise.negatives, with a panel for each dimension.

    ± is the standard error of a mean over seeds.
    """
    import numpy as np

    down, across, panel = "noise.exponent", "noise.negatives", "model.dim"
    if not {down, across} <= set(varying_options(table)):
        return None
    metric = table.targets[0]
    complete = _reading(table, down, across)
    exponents, negatives = (sorted({row.params[name] for row in complete}) for name in (down, across))
    if min(len(exponents), len(negatives)) < 2 or max(len(exponents), len(negatives)) > MAX_VALUES:
        return None
    dims: list[Any] = list({row.params.get(panel) for row in complete})
    dims.sort(key=None if _is_numeric(dims) else str)  # one is None where the dimension is not swept
    xs, ys = (
        [_position(name, value, table) for value in values] for name, values in ((across, negatives), (down, exponents))
    )
    size = max(3.0, 0.8 * _count_narrowest(xs) + 1.5), max(2.6, 0.42 * _count_narrowest(ys) + 1)
    figure, axes = _new_figure(len(dims), 1, *size)
    cells, errors = np.full((len(dims), len(exponents), len(negatives)), np.nan), {}
    only_seeds = {down, across, panel, "seed"} >= set(varying_options(table))
    for index in np.ndindex(*cells.shape):
        wanted = (dims[index[0]], exponents[index[1]], negatives[index[2]])
        found = [
            row.metrics[metric]
            for row in complete
            if (row.params.get(panel), row.params[down], row.params[across]) == wanted
        ]
        if found:
            cells[index] = statistics.fmean(found)
            if len(found) > 1 and only_seeds:
                errors[index] = f"\n±{statistics.stdev(found) / math.sqrt(len(found)):.2g}"
    low, high = np.nanmin(cells), np.nanmax(cells)
    for at, (dim, ax, cell) in enumerate(zip(dims, axes, cells, strict=True)):
        image = ax.pcolormesh(_cell_edges(xs), _cell_edges(ys), cell, cmap="viridis", vmin=low, vmax=high)
        ax.set_xticks(xs, [str(value) for value in negatives])
        ax.set_yticks(ys, [f"{value:g}" for value in exponents])
        ax.set_xlabel(across)
        ax.set_ylabel(down)
        ax.set_title(f"{panel} {dim}" if dim is not None else metric)
        for (y, x), value in np.ndenumerate(cell):
            if not np.isnan(value):
                bright = (value - low) / max(high - low, 1e-12) > 0.6
                text = f"{_format_value(value)}{errors.get((at, y, x), '')}"
                ax.text(xs[x], ys[y], text, ha="center", va="center", fontsize=8, color="black" if bright else "white")
    figure.colorbar(image, ax=axes, label=metric)
    return figure


def _position(name: str, value: float, table: TrialTable) -> float:
    """Return where a value of an option lies on an axis: in the logarithm, if it was searched so."""
    return math.log(value) if name in table.logarithmic else value


def _cell_edges(centres: list[float]) -> list[float]:
    """Return the edges of cells around two or more increasing centres: those between two in their middle.

    >>> _cell_edges([0, 1, 3])
    [-0.5, 0.5, 2.0, 4.0]
    """
    inner = [(a + b) / 2 for a, b in itertools.pairwise(centres)]
    return [centres[0] - (inner[0] - centres[0]), *inner, centres[-1] + (centres[-1] - inner[-1])]


def _count_narrowest(centres: list[float]) -> float:
    """Return how many of the narrowest cell have room in an axis, at most 12."""
    edges = _cell_edges(centres)
    return min(12.0, (edges[-1] - edges[0]) / min(b - a for a, b in itertools.pairwise(edges)))


def _format_value(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _options(table: TrialTable) -> Figure | None:
    """Plot metrics against each option: a dot per trial and, where values repeat, means with standard deviations."""
    names = [name for name in varying_options(table) if name != "seed"]
    if not names:
        return None
    panels = [(metric, name) for metric in _plotted_metrics(table, len(names)) for name in names]
    columns = min(2 if len(names) == 1 else 3, len(panels))
    figure, axes = _new_figure(columns, math.ceil(len(panels) / columns))
    for ax in axes[len(panels) :]:
        ax.remove()
    for (metric, name), ax in zip(panels, axes, strict=False):
        rows = _reading(table, name)
        values = [row.params[name] for row in rows]
        numeric = _is_numeric(values)
        x = values if numeric else [str(value) for value in values]
        y = [row.metrics[metric] for row in rows]
        ax.plot(x, y, "o", alpha=0.45, markersize=4)
        distinct = sorted(set(x)) if numeric else list(dict.fromkeys(x))
        if len(distinct) <= MAX_VALUES and len(distinct) < len(x):
            found = [[figure for figure, at in zip(y, x, strict=True) if at == value] for value in distinct]
            deviations = [statistics.stdev(group) if len(group) > 1 else 0 for group in found]
            ax.errorbar(distinct, [statistics.fmean(group) for group in found], deviations, fmt="-", capsize=3)
        if name in table.logarithmic:
            ax.set_xscale("log")
        ax.set_xlabel(name)
        ax.set_ylabel(metric)
    return figure


def _plotted_metrics(table: TrialTable, options: int) -> list[str]:
    """Return the metrics to plot against the options: the first target, or all shared metrics for few options."""
    if options > 2:
        return table.targets[:1]
    shared = set.intersection(*(set(row.metrics) for row in table.complete))
    others = sorted(name for name in shared if name.startswith("evaluation/") or name == "heldout/perplexity")
    return list(dict.fromkeys([*table.targets, *others]))


def _parallel(table: TrialTable) -> Figure | None:
    """Plot a line per trial through its options to the first target, coloured by the target."""
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    names, metric = [name for name in varying_options(table) if name != "seed"], table.targets[0]
    if len(names) < 2 or len(table.complete) < 2:
        return None
    figure, (ax,) = _new_figure(1, 1, 1.8 * (len(names) + 1) + 1, 3.8)
    columns = []
    for at, name in enumerate([*names, metric]):
        every = [row.metrics[metric] if name == metric else row.params[name] for row in table.complete]
        values = [value for value in every if value != NOT_APPLICABLE]
        if _is_numeric(values):
            places = [_position(name, value, table) for value in values]
            low, high = min(places), max(places)
            # The line of a trial that does not read an option has a gap there.
            found = [math.nan if value == NOT_APPLICABLE else _position(name, value, table) for value in every]
            columns.append([(place - low) / ((high - low) or 1) for place in found])
            ticks = sorted(set(values)) if len(set(values)) <= 6 else list(np.linspace(min(values), max(values), 5))
            labels = [((_position(name, t, table) - low) / ((high - low) or 1), _format_value(t)) for t in ticks]
        else:
            order = sorted({str(value) for value in every})
            columns.append([order.index(str(value)) / max(len(order) - 1, 1) for value in every])
            labels = [(index / max(len(order) - 1, 1), text) for index, text in enumerate(order)]
        ax.axvline(at, color="0.6", linewidth=0.8)
        for y, text in labels:
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5}
            ax.annotate(text, (at, y), (4, 0), textcoords="offset points", fontsize=8, va="center", bbox=box, zorder=3)
    norm = Normalize(min(columns[-1]), max(columns[-1]))
    scores = [row.metrics[metric] for row in table.complete]
    for line, share in sorted(zip(np.transpose(columns), columns[-1], strict=True), key=lambda pair: pair[1]):
        ax.plot(range(len(names) + 1), line, color=colormaps["viridis"](norm(share)), alpha=0.8, linewidth=1.3)
    ax.set_xticks(range(len(names) + 1), [*names, metric])
    ax.set_xlim(-0.1, len(names) + 0.35)
    ax.set_yticks([])
    for side in ax.spines.values():
        side.set_visible(False)
    figure.colorbar(ScalarMappable(Normalize(min(scores), max(scores)), "viridis"), ax=ax, label=metric)
    return figure


def _importance(table: TrialTable) -> Figure | None:
    if not option_importances(table):
        return None
    from optuna.visualization import matplotlib as optuna_plots

    first: dict[str, Any] = {"target": lambda trial: trial.values[0], "target_name": table.targets[0]}
    return _render_optuna_plot(lambda: optuna_plots.plot_param_importances(to_optuna_study(table), **first))


def _pareto(table: TrialTable) -> Figure | None:
    if len(table.targets) < 2:
        return None
    from optuna.visualization import matplotlib as optuna_plots

    return _render_optuna_plot(
        lambda: optuna_plots.plot_pareto_front(to_optuna_study(table), target_names=table.targets)
    )


def _render_optuna_plot(plot: Callable[[], Axes]) -> Figure:
    """Return the figure of an Optuna plot, without its warning (it is experimental) and its changes of the style."""
    import matplotlib
    from matplotlib import pyplot

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pyplot.switch_backend("Agg")
        plot()
        figure = pyplot.gcf()
    pyplot.close(figure)
    return figure


def pareto_front(table: TrialTable) -> list[int]:
    """Return the numbers of the trials on the Pareto front: none is better in one target and as good in the other."""
    return [trial.user_attrs["number"] for trial in to_optuna_study(table).best_trials]
