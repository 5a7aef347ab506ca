"""The plots of a comparison: every metric against pairs seen and against seconds, a curve and a band per variant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from skiplight.experiments.comparison.curves import METRIC_TITLES, compute_curves, list_metrics
from skiplight.experiments.comparison.queue import TrialResult


def plot_curves(results: Sequence[TrialResult], title: str, path: Path, levels: dict[str, tuple[float, str]]) -> None:
    """Plot the convergence of the variants of one view, the band being one standard deviation over seeds.

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
    figure, axes = pyplot.subplots(
        len(shown), 2, figsize=(11, 3.2 * len(shown)), layout="constrained", squeeze=False, sharey="row"
    )
    for row, metric in zip(axes, shown, strict=True):
        for variant, curve in compute_curves(results, metric).items():
            low = [m - d for m, d in zip(curve.mean, curve.deviation, strict=True)]
            high = [m + d for m, d in zip(curve.mean, curve.deviation, strict=True)]
            for plot, x in zip(row, ([pairs / 1e6 for pairs in curve.pairs], curve.seconds), strict=True):
                (line,) = plot.plot(x, curve.mean, "o-", markersize=3, label=variant)
                plot.fill_between(x, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
        if metric in levels:
            level, name = levels[metric]
            for plot in row:
                plot.axhline(level, color="grey", linestyle=":", label=name)
        row[1].set_xscale("log")
        plain = [row[1].xaxis]
        if metric == "heldout/perplexity":
            row[0].set_yscale("log")
            plain.append(row[0].yaxis)
        for axis in plain:
            axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,g}"))
            axis.set_minor_formatter(ticker.NullFormatter())
        row[0].set_ylabel(METRIC_TITLES.get(metric, metric))
        for plot in row:
            plot.grid(alpha=0.3, which="both")
    axes[-1][0].set_xlabel("million pairs seen")
    axes[-1][1].set_xlabel("seconds of training (log scale)")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
    figure.suptitle(title)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
