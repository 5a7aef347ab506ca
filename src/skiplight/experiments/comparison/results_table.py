"""The table of a view in the findings of a comparison: a row for each variant, with its means over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from skiplight.experiments.comparison.curves import (
    METRIC_TITLES,
    Curve,
    compute_curves,
    is_logarithmic,
    list_metrics,
)
from skiplight.experiments.comparison.plan import Plan
from skiplight.experiments.comparison.results import TrialResult
from skiplight.experiments.metrics import evaluation_of
from skiplight.experiments.trials import markdown_table


def summaries_of(results: Sequence[TrialResult]) -> dict[str, list[dict[str, Any]]]:
    """Return the summaries of the finished runs of each variant, without those of the search."""
    found: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        if not result.search and result.summary is not None:
            found.setdefault(result.run.variant, []).append(result.summary)
    return found


def results_table(plan: Plan, results: Sequence[TrialResult]) -> str:
    """Return the table in Markdown, from the results of one view."""
    shown, summaries = list_metrics(results), summaries_of(results)
    by_metric = {metric: compute_curves(results, metric) for metric in shown}
    titles = [_title_with_size(metric, summaries) for metric in shown]
    head = ["", "engine", "chosen", *titles, "seconds", "words/s"]
    rows: list[list[str]] = []
    for variant in plan.variants:
        own = [result for result in results if result.run.variant == variant]
        if variant not in summaries:
            errors = [result.error for result in own if result.error]
            if errors:
                rows.append([variant, f"failed: {errors[0]}", *[""] * (len(head) - 2)])
            continue
        chosen = next(result.run.chosen for result in own if not result.search)
        row = [variant, engine_of(summaries[variant]), " ".join(f"`{one}`" for one in chosen)]
        row += [format_mean(by_metric[m][variant], m) if variant in by_metric[m] else "" for m in shown]
        row.append(f"{statistics.fmean(s['seconds']['train'] for s in summaries[variant]):.1f}")
        row.append(f"{statistics.fmean(s['words_per_second'] for s in summaries[variant]):,.0f}")
        rows.append(row)
    return markdown_table(head, rows)


def engine_of(summaries: Sequence[dict[str, Any]]) -> str:
    """Return the names of the engines of some runs."""
    return ", ".join(dict.fromkeys(summary["engine"] for summary in summaries))


def _title_with_size(metric: str, summaries: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    """Return the title of a metric with the number of pairs or questions that it is measured on."""
    title, sizes = METRIC_TITLES.get(metric, metric), sizes_of(metric, summaries)
    return f"{title}, {sizes[0]:,} {unit_of(metric)}" if sizes else title


def unit_of(metric: str) -> str:
    """Return what a metric is measured on, in the plural."""
    return "questions" if metric == "evaluation/google" else "pairs"


def sizes_of(metric: str, summaries: Mapping[str, Sequence[dict[str, Any]]]) -> list[int]:
    """Return how many pairs or questions a metric was measured on, the smallest number first."""
    results = [s["evaluation"].get(evaluation_of(metric), {}) for runs in summaries.values() for s in runs]
    return sorted({result.get("pairs", result.get("questions", 0)) for result in results} - {0})


def format_mean(curve: Curve, metric: str) -> str:
    """Return the mean of a metric at the end, and its standard deviation over seeds."""
    digits, values = (1 if is_logarithmic(metric) else 3), list(curve.final.values())
    deviation = f" ± {statistics.stdev(values):,.{digits}f}" if len(values) > 1 else ""
    return f"{curve.mean[-1]:,.{digits}f}{deviation}"
