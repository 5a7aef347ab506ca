"""What the findings say of the lead of the best variant over the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from skiplight.experiments.comparison.crossings import join_words
from skiplight.experiments.comparison.curves import Curve, is_logarithmic
from skiplight.experiments.comparison.differences import Difference, paired_differences
from skiplight.experiments.metrics import is_maximised


def describe_leads(curves: Mapping[str, Curve], order: Sequence[str], metric: str) -> str:
    """Return by how much the first variant leads each of the others, and which of them it cannot be told from.

    Args:
        curves: by variant.
        order: the variants, the best first.
        metric: the metric.
    """
    if len(order) < 2:
        return ""
    logarithmic = is_logarithmic(metric)
    finals = {v: {s: math.log(x) if logarithmic else x for s, x in curves[v].final.items()} for v in order}
    differences = paired_differences(finals)
    best, *others = order
    leads = {v: differences[best, v] for v in others if (best, v) in differences}
    if not is_maximised(metric):
        leads = {variant: -lead for variant, lead in leads.items()}
    if any(lead.low is None for lead in leads.values()):
        gaps = join_words([f"{variant} by {lead.mean:,.3f}" for variant, lead in leads.items()])
        return f", ahead of {gaps}{' nats' if logarithmic else ''} (one seed only, so this may be chance)"
    certain = [f"{variant} by {_interval(lead)}" for variant, lead in leads.items() if lead.is_certain]
    unclear = [f"{variant} ({_interval(lead)})" for variant, lead in leads.items() if not lead.is_certain]
    unit = " nats" if logarithmic else ""
    return (f", ahead of {join_words(certain)}{unit}" if certain else "") + (
        f"{';' if certain else ','} it cannot be told from {join_words(unclear)}" if unclear else ""
    )


def _interval(lead: Difference) -> str:
    return f"{lead.mean:,.3f} [{lead.low:,.3f}, {lead.high:,.3f}]"
