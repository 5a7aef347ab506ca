"""The plots of a comparison: every metric against what it costs, a curve and a band for each variant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from skiplight.experiments.comparison.curves import (
    AXES,
    METRIC_TITLES,
    Curve,
    compute_curves,
    is_logarithmic,
    list_metrics,
)
from skiplight.experiments.comparison.results import TrialResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = {"pairs": 1e6, "scores": 1e6, "seconds": 1.0}
"""The axes of the columns, and the unit of each."""


def plot_curves(results: Sequence[TrialResult], title: str, path: Path, levels: dict[str, tuple[float, str]]) -> None:
    """Plot the convergence of the variants of one view, the band being one standard deviation over seeds.

    There is a column for each of pairs seen, score evaluations and seconds.

    Args:
        results: the results of the view.
        title: title of the view.
        path: the PNG file to write.
        levels: by metric, a reference level to draw as a line, and its name.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    shown = list_metrics(results)
    shape = len(shown), len(COLUMNS)
    figure, axes = pyplot.subplots(
        *shape, figsize=(13, 3.2 * len(shown)), layout="constrained", squeeze=False, sharey="row"
    )
    for row, metric in zip(axes, shown, strict=True):
        for variant, curve in compute_curves(results, metric).items():
            for plot, axis in zip(row, COLUMNS, strict=True):
                _plot_curve(plot, curve, axis, variant)
        if metric in levels:
            level, name = levels[metric]
            for plot in row:
                plot.axhline(level, color="grey", linestyle=":", label=name)
        logarithmic = [plot.xaxis for plot in row[1:]]
        for plot in row[1:]:
            plot.set_xscale("log")
        if is_logarithmic(metric):
            row[0].set_yscale("log")
            logarithmic.append(row[0].yaxis)
        for axis in logarithmic:
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,g}"))
            axis.set_minor_formatter(ticker.NullFormatter())
        row[1].xaxis.set_major_locator(ticker.LogLocator())
        row[0].set_ylabel(METRIC_TITLES.get(metric, metric))
        for plot in row:
            plot.grid(alpha=0.3, which="both")
    for plot, axis in zip(axes[-1], COLUMNS, strict=True):
        million = "million " if COLUMNS[axis] == 1e6 else ""
        plot.set_xlabel(f"{million}{AXES[axis]}{'' if axis == 'pairs' else ' (log scale)'}")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
    figure.suptitle(title)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _plot_curve(plot: Axes, curve: Curve, axis: str, label: str) -> None:
    x = [value / COLUMNS[axis] for value in getattr(curve, axis)]
    (line,) = plot.plot(x, curve.mean, "o-", markersize=3, label=label)
    plot.fill_between(x, curve.low, curve.high, alpha=0.2, color=line.get_color(), linewidth=0)
