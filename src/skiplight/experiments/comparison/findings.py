"""The findings of a comparison: a table for each view, and sentences on the differences, with their uncertainty."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from skiplight.experiments.comparison.curves import METRIC_TITLES, Curve, compute_curves, list_metrics
from skiplight.experiments.comparison.plan import Plan, View
from skiplight.experiments.comparison.queue import TrialResult
from skiplight.experiments.trials import markdown_table

PERPLEXITY = "heldout/perplexity"


def render_findings(plan: Plan, results: Sequence[TrialResult], unigram: float) -> str:
    """Return the text of findings.md.

    Args:
        plan: the plan of the comparison.
        results: the results of all runs.
        unigram: held-out perplexity of the unigram model.
    """
    parts = [
        f"# {', '.join(plan.variants)}",
        f"{plan.tokens:,} tokens per run, {plan.compare.seeds} seed(s); values are means ± standard deviations over"
        f" seeds. Perplexity is that of p(o|i) on held-out pairs, exact over the vocabulary; that of the unigram model"
        f" is {unigram:,.1f}." + _describe_correction(results),
    ]
    for view in plan.views:
        view_results = [result for result in results if result.run.view == view.name]
        parts.append(f"## View {view.name!r}: {view.title}")
        if view.fixed:
            parts.append("Fixed for all: " + ", ".join(f"`{one}`" for one in view.fixed) + ".")
        parts += [_results_table(view_results), f"![{view.title}]({view.name}.png)"]
        comparable = _has_comparable_perplexities(view_results)
        notes = [
            *_compare_metrics(view_results, unigram, comparable),
            *_describe_edges(view, view_results),
            *_describe_diverged(view_results),
        ]
        parts.append("\n".join(f"- {line}" for line in notes))
    return "\n\n".join(part for part in parts if part) + "\n"


def _describe_correction(results: Sequence[TrialResult]) -> str:
    corrected = [o.run.config for o in results if o.run.config.objective.name == "negative_sampling"]
    if not corrected:
        return ""
    exact = all(config.noise.exclude == "none" for config in corrected)
    return " That of negative sampling is of softmax(u·v + log P_n)" + (
        "." if exact else ", which is approximate where the target is excluded from the noise."
    )


def _results_table(results: Sequence[TrialResult]) -> str:
    shown = list_metrics(results)
    by_metric = {metric: compute_curves(results, metric) for metric in shown}
    head = ["", "engine", "chosen", *(METRIC_TITLES.get(metric, metric) for metric in shown), "seconds", "words/s"]
    rows: list[list[str]] = []
    finished: dict[str, list[TrialResult]] = {}
    for result in results:
        if not result.search:
            finished.setdefault(result.run.variant, []).append(result)
    for variant, runs in finished.items():
        summaries = [run.summary for run in runs if run.summary is not None]
        if not summaries:
            rows.append([variant, f"failed: {runs[0].error}", *[""] * (len(head) - 2)])
            continue
        chosen = " ".join(f"`{one}`" for one in runs[0].run.chosen)
        row = [variant, summaries[0]["engine"], chosen]
        row += [_format_mean(by_metric[m][variant].final, m) if variant in by_metric[m] else "" for m in shown]
        row.append(f"{statistics.fmean(s['seconds']['train'] for s in summaries):.1f}")
        row.append(f"{statistics.fmean(s['words_per_second'] for s in summaries):,.0f}")
        rows.append(row)
    return markdown_table(head, rows)


def _format_mean(values: Sequence[float], metric: str) -> str:
    digits = 1 if metric == PERPLEXITY else 3
    deviation = f" ± {statistics.stdev(values):,.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):,.{digits}f}{deviation}"


def _has_comparable_perplexities(results: Sequence[TrialResult]) -> bool:
    """Return whether all runs have the same vocabulary, subsampling and window, so that perplexities are comparable."""
    settings = {
        (o.summary["vocabulary_size"], o.run.config.sampling.subsample, o.run.config.sampling.window)
        for o in results
        if o.summary is not None
    }
    return len(settings) <= 1


def _compare_metrics(results: Sequence[TrialResult], unigram: float, comparable: bool) -> list[str]:
    """Return sentences on each metric: the best variant, its lead, and the time of each to the level of the first."""
    sentences = []
    for metric in list_metrics(results):
        if metric == PERPLEXITY and not comparable:
            sentences.append(
                "Perplexities are not compared: vocabulary, subsampling or window differ between variants."
            )
            continue
        curves = compute_curves(results, metric)
        sign = -1 if metric == PERPLEXITY else 1
        order = sorted(curves, key=lambda v: -sign * statistics.fmean(curves[v].final))
        name, best = METRIC_TITLES.get(metric, metric), order[0]
        line = f"{name}: {best} ends best at {_format_mean(curves[best].final, metric)}"
        if len(order) > 1:
            line += f", {_describe_lead(curves, best, order[1], metric)}"
        sentences.append(line + ".")
        if metric == PERPLEXITY:
            sentences += _compare_with_unigram(curves, unigram)
            sentences += _describe_time_to_level(curves, sign)
    return sentences


def _describe_lead(curves: dict[str, Curve], best: str, second: str, metric: str) -> str:
    a, b = curves[best].final, curves[second].final
    gap = abs(statistics.fmean(a) - statistics.fmean(b))
    digits = 1 if metric == PERPLEXITY else 3
    line = f"ahead of {second} by {gap:,.{digits}f}"
    if min(len(a), len(b)) < 2:
        return line + " (one seed only, so this may be chance)"
    if statistics.pstdev(a) == statistics.pstdev(b) == 0:
        return line
    from scipy import stats

    if statistics.fmean(a) < statistics.fmean(b):
        a, b = b, a  # so that the difference, and its interval, are positive
    low, high = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.95)
    if low < 0:
        line += ", which may be chance"
    return line + f" (Welch's 95 % interval {low:,.{digits}f} to {high:,.{digits}f})"


def _compare_with_unigram(curves: dict[str, Curve], unigram: float) -> list[str]:
    above = [variant for variant, curve in curves.items() if statistics.fmean(curve.final) >= unigram]
    if above:
        predicts = "predicts" if len(above) == 1 else "predict"
        return [f"At the end, {', '.join(above)} {predicts} no better than the unigram model ({unigram:,.1f})."]
    return [f"All predict better than the unigram model ({unigram:,.1f})."]


def _describe_time_to_level(curves: dict[str, Curve], sign: int) -> list[str]:
    """Return a sentence on the pairs and seconds that each variant needs to reach the final level of the first."""
    first, *others = curves
    level = curves[first].mean[-1]
    reached = []
    for variant in others:
        curve = curves[variant]
        at = next((i for i, value in enumerate(curve.mean) if sign * value >= sign * level), None)
        if at is None:
            reached.append(f"{variant} does not reach it")
        else:
            reached.append(f"{variant} by {curve.pairs[at] / 1e6:,.1f} M pairs and {curve.seconds[at]:,.1f} s")
    if not reached:
        return []
    end = curves[first]
    return [
        f"{first} ends at {level:,.1f} after {end.pairs[-1] / 1e6:,.1f} M pairs and {end.seconds[-1]:,.1f} s;"
        f" {', '.join(reached)} (at their first evaluation at that level)."
    ]


def _describe_edges(view: View, results: Sequence[TrialResult]) -> list[str]:
    """Return a sentence for each best learning rate at the edge of those tried, as a better one may lie beyond."""
    sentences = []
    chosen = {o.run.variant: list(o.run.chosen) for o in results if not o.search}
    for variant, best in chosen.items():
        rates = [float(o.partition("=")[2]) for o in best if o.startswith("optim.lr=")]
        if not rates:
            continue
        rest = [o for o in best if not o.startswith("optim.lr=")]
        tried = [
            float(o.partition("=")[2])
            for candidate in view.candidates[variant]
            if [o for o in candidate if not o.startswith("optim.lr=")] == rest
            for o in candidate
            if o.startswith("optim.lr=")
        ]
        if len(tried) > 1 and rates[0] in (min(tried), max(tried)) and not math.isnan(rates[0]):
            sentences.append(f"{variant}: the best learning rate, {rates[0]:g}, is at the edge of the range searched.")
    return sentences


def _describe_diverged(results: Sequence[TrialResult]) -> list[str]:
    """Return a sentence for each variant on its candidates that diverged, in the search or in full runs."""
    failed: dict[str, dict[str, None]] = {}
    for result in results:
        if result.search and result.summary is None:
            failed.setdefault(result.run.variant, {})[" ".join(f"`{one}`" for one in result.run.chosen)] = None
    return [f"{variant}: diverged with {', with '.join(tried)}." for variant, tried in failed.items()]
