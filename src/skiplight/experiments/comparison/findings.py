"""The findings of a comparison: a table for each view, and sentences on the differences, with their uncertainty."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from skiplight.experiments.comparison.crossings import describe_crossings, join_words
from skiplight.experiments.comparison.curves import AXES, METRIC_TITLES, PERPLEXITY, Curve, compute_curves, list_metrics
from skiplight.experiments.comparison.leads import describe_leads
from skiplight.experiments.comparison.plan import Plan, View
from skiplight.experiments.comparison.results import TrialResult
from skiplight.experiments.comparison.results_table import (
    engine_of,
    format_mean,
    results_table,
    sizes_of,
    summaries_of,
    unit_of,
)
from skiplight.experiments.metrics import is_maximised

FEWEST_PAIRS = {True: 1_000, False: 30}
"""The fewest pairs or questions from which a claim is made: held-out pairs, and those of other sets."""

LEFT_OUT = 0.05
"""The share of a table's gradients, left out by shortened steps, above which the findings say so."""


def render_findings(plan: Plan, results: Sequence[TrialResult], unigram: float) -> str:
    """Return the text of findings.md.

    Args:
        plan: the plan of the comparison.
        results: the results of all runs.
        unigram: held-out perplexity of the unigram model.
    """
    parts = [f"# {', '.join(plan.variants)}", _describe_method(plan, results, unigram)]
    for view in plan.views:
        view_results = [result for result in results if result.run.view == view.name]
        parts.append(f"## View {view.name!r}: {view.title}")
        if view.fixed:
            parts.append("Fixed for all: " + ", ".join(f"`{one}`" for one in view.fixed) + ".")
        parts += [results_table(plan, view_results), f"![{view.title}]({view.name}.png)"]
        notes = [
            *_describe_engines(view_results),
            *_describe_left_out(view_results),
            *_compare_metrics(view_results, unigram),
            *_describe_edges(view, view_results),
            *_describe_diverged(view_results),
        ]
        parts.append("\n".join(f"- {line}" for line in notes))
    return "\n\n".join(part for part in parts if part) + "\n"


def _describe_method(plan: Plan, results: Sequence[TrialResult], unigram: float) -> str:
    pairs = math.comb(len(plan.variants), 2)
    text = (
        f"{plan.tokens:,} tokens per run, {plan.compare.seeds} seed(s); values are means ± standard deviations over"
        f" seeds. Perplexity is that of p(o|i) on held-out pairs, exact over the vocabulary; that of the unigram model"
        f" is {unigram:,.1f}." + _describe_correction(results)
    )
    if plan.config.evaluation.validation and plan.has_search:
        text += (
            f" Candidates were chosen by their validation perplexity, on {plan.config.evaluation.validation:.0%} of the"
            " held-out text, which the reported perplexities leave out."
        )
    if plan.compare.seeds > 1 and pairs:
        text += (
            " Differences are means of differences seed by seed, of the loss in nats where the metric is a perplexity,"
            f" with intervals of Student's t that hold with 95 % for all {pairs} pair(s) of variants of a view at once"
            " (Bonferroni). They cover what seeds change, not what another choice of test pairs would."
        )
    return text


def _describe_correction(results: Sequence[TrialResult]) -> str:
    corrected = [o.run.config for o in results if o.run.config.objective.name == "negative_sampling"]
    if not corrected:
        return ""
    exact = all(config.noise.exclude == "none" for config in corrected)
    return " That of negative sampling is of softmax(u·v + log P_n)" + (
        "." if exact else ", which is approximate where the target is excluded from the noise."
    )


def _has_comparable_perplexities(results: Sequence[TrialResult]) -> bool:
    """Return whether all runs have the same vocabulary, subsampling and window, so that perplexities are comparable."""
    settings = {
        (o.summary["vocabulary_size"], o.run.config.sampling.subsample, o.run.config.sampling.window)
        for o in results
        if o.summary is not None
    }
    return len(settings) <= 1


def _compare_metrics(results: Sequence[TrialResult], unigram: float) -> list[str]:
    """Return sentences on each metric: the best variant, its lead over the others, and where it passes them."""
    sentences, summaries = [], summaries_of(results)
    comparable = _has_comparable_perplexities(results)
    for metric in list_metrics(results):
        if metric == PERPLEXITY and not comparable:
            sentences.append(
                "Perplexities are not compared: vocabulary, subsampling or window differ between variants."
            )
            continue
        curves = compute_curves(results, metric)
        order = sorted(curves, key=lambda v: curves[v].mean[-1], reverse=is_maximised(metric))
        name, best = METRIC_TITLES.get(metric, metric), order[0]
        line = f"{name}: {best} ends best at {format_mean(curves[best], metric)}"
        sizes, enough = sizes_of(metric, summaries), FEWEST_PAIRS[metric == PERPLEXITY]
        if sizes and sizes[0] < enough:
            sentences.append(
                f"{line}, by {sizes[0]:,} {unit_of(metric)} only, which are too few for a claim ({enough:,} would do)."
            )
            continue
        sentences.append(f"{line}{describe_leads(curves, order, metric)}.")
        if metric == PERPLEXITY:
            sentences += _compare_with_unigram(curves, unigram)
            sentences += _describe_crossings(curves, best)
    return sentences


def _compare_with_unigram(curves: Mapping[str, Curve], unigram: float) -> list[str]:
    above = [variant for variant, curve in curves.items() if curve.mean[-1] >= unigram]
    if above:
        predicts = "predicts" if len(above) == 1 else "predict"
        return [f"At the end, {', '.join(above)} {predicts} no better than the unigram model ({unigram:,.1f})."]
    return [f"All predict better than the unigram model ({unigram:,.1f})."]


def _describe_crossings(curves: dict[str, Curve], best: str) -> list[str]:
    """Return a sentence for each axis on where the best variant passes the others."""
    units = {"pairs": "", "scores": "", "seconds": " s"}
    said = {axis: describe_crossings(curves, best, axis, unit, maximised=False) for axis, unit in units.items()}
    return [f"Against {AXES[axis]}, {best} {text}." for axis, text in said.items() if text]


def _describe_engines(results: Sequence[TrialResult]) -> list[str]:
    """Return a warning where seconds compare more than the objectives."""
    summaries, sentences = summaries_of(results), []
    engines = {variant: engine_of(runs) for variant, runs in summaries.items()}
    if len(set(engines.values())) > 1:
        by_engine = {name: [v for v in engines if engines[v] == name] for name in dict.fromkeys(engines.values())}
        said = "; ".join(f"{name} trains {join_words(variants)}" for name, variants in by_engine.items())
        sentences.append(f"Seconds compare engines as well as variants: {said}.")
    threads = sorted({summary["threads"] for runs in summaries.values() for summary in runs})
    if len(threads) > 1:
        sentences.append(
            f"Seconds are not comparable: runs had {join_words([str(number) for number in threads])} threads. Train"
            " the comparison with the same --workers from the beginning."
        )
    return sentences


def _describe_left_out(results: Sequence[TrialResult]) -> list[str]:
    """Return a sentence on the variants whose shortened steps leave out many gradients."""
    said = []
    for variant, runs in summaries_of(results).items():
        shares = {
            table: statistics.fmean(run["shortened"][table]["share"] for run in runs) for table in ("input", "output")
        }
        many = [f"{share:.0%} of the {table} gradients" for table, share in shares.items() if share > LEFT_OUT]
        if many:
            said.append(f"{variant} {join_words(many)}")
    if not said:
        return []
    return [
        f"Shortened steps left out: {'; '.join(said)}. So these runs are compared with a rule that bounds their steps,"
        " not by their objectives alone: smaller blocks or lower rates leave out less."
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
