"""The comparisons that conf/ carries are composed whole: every variant, view and candidate."""

from __future__ import annotations

import pytest

from skiplight.experiments.comparison.plan import Plan
from skiplight.registry import OBJECTIVES

SETTINGS = [
    "softmax_vs_ns",
    pytest.param("softmax_vs_ns_files", marks=pytest.mark.slow),
    pytest.param("softmax_vs_ns_text8", marks=pytest.mark.slow),
    pytest.param("noise_words", marks=pytest.mark.slow),
    "sharing",
]


@pytest.mark.parametrize("experiment", SETTINGS)
def test_a_preset_is_a_plan(experiment: str) -> None:
    plan = Plan([f"experiment={experiment}"], tokens=1_000_000)
    runs = [
        plan.full_run(view, variant, view.candidates[variant][0], 0) for view in plan.views for variant in plan.variants
    ]
    for view in plan.views:
        names = [run.name for run in runs if run.view == view.name]
        assert len(set(names)) == len(names)
    if experiment.startswith("softmax"):
        assert {run.config.objective.name for run in runs} == set(OBJECTIVES)
        assert {run.config.optim.name for run in runs if run.view == "same"} <= {"sgd"}
    if experiment in ("softmax_vs_ns", "softmax_vs_ns_files"):
        slow = {"full_softmax", "in_batch_softmax"}
        assert {run.config.objective.name for run in runs if run.config.engine.name == "autograd"} == slow
    if experiment == "noise_words":
        sampled = [run.config for run in runs if run.config.objective.name != "full_softmax"]
        assert {config.engine.name for config in sampled} == {"fused"}
        assert [config.noise.negatives for config in sampled] == [1, 5, 25, 100, 256] * len(plan.views)
        full = {run.name for run in runs if run.config.objective.name == "full_softmax"}
        assert len(full) == 1  # what all views have in common is trained once
