"""`skiplight compare`: trains the runs of a comparison, and writes down what came out.

RUN/comparison.yaml   what is compared; a comparison goes on only as what it began as
    runs/             a folder for each run, named by its options, so that a run that is there is not repeated
    trials.csv        a row for each run
    levels.json       values that the plots draw a line at, with their names
    findings.md       a table and what the numbers say, with their uncertainty
    <view>.png        every measure against pairs seen and against seconds
    report.html       all of it as one page
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path

from skiplight.config.compose import compose
from skiplight.config.validate import run_options
from skiplight.data.from_config import prepare_text, total_tokens
from skiplight.errors import ConfigError
from skiplight.experiments.comparison.findings import render_findings
from skiplight.experiments.comparison.plan import Plan
from skiplight.experiments.comparison.plots import plot_curves
from skiplight.experiments.comparison.queue import Comparison, comparison_table
from skiplight.experiments.executor import execute_trials
from skiplight.experiments.resources import claim_resources
from skiplight.experiments.trials import TrialTable
from skiplight.files import replacing, writing
from skiplight.training.build import heldout_unigram
from skiplight.training.loggers import check_logger

log = logging.getLogger(__name__)

FINDINGS, LEVELS = "findings.md", "levels.json"


def compare(
    overrides: Sequence[str], folder: Path, *, workers: int = 1, devices_per_trial: int | None = None
) -> TrialTable:
    """Train what `compare.*` says, or what is left of it, and write down what came out.

    Args:
        overrides: of Hydra, for all runs.
        folder: of the comparison; one that is there already is gone on with.
        workers: how many runs are trained at once, here.
        devices_per_trial: GPUs for each; default: `trainer.devices`.

    Raises:
        ConfigError: an option is wrong, or the comparison began with others.
        RunError: the folder is something else, or a run failed for another reason than that it diverged.
        Stopped: a signal asked to stop; the same command goes on.
    """
    config = compose(overrides)
    if config.data.heldout == 0 or config.evaluation.heldout_pairs == 0:
        raise ConfigError(
            "a comparison judges by held-out text: give `data.heldout` and `evaluation.heldout_pairs` above 0"
        )
    check_logger(config)
    resources = claim_resources(config.trainer, workers, devices_per_trial)
    text = prepare_text(config)
    plan = Plan([f"trainer.devices={config.trainer.devices}", *overrides], total_tokens(config, text))
    comparison = Comparison(folder, plan)
    comparison.experiment.create_or_check(run=run_options(config) | {"run_dir": None}, compare=vars(config.compare))
    if workers > 1:
        log.info("%d runs at once: their seconds are those of runs that share the machine", workers)
    execute_trials(comparison, resources)
    results = comparison.results()
    table = comparison_table(folder, results)
    unigram = heldout_unigram(plan.config, text).perplexity
    with comparison.experiment.locked(), writing(folder):
        table.write_csv()
        levels = {"heldout/perplexity": (unigram, "unigram model")} if math.isfinite(unigram) else {}
        with replacing(folder / LEVELS) as temporary:
            temporary.write_text(json.dumps(levels, indent=2) + "\n", encoding="utf-8")
        for view in plan.views:
            view_results = [result for result in results if result.run.view == view.name]
            if any(result.summary is not None and not result.search for result in view_results):
                plot_curves(view_results, view.title, folder / f"{view.name}.png", levels)
        with replacing(folder / FINDINGS) as temporary:
            temporary.write_text(render_findings(plan, results, unigram), encoding="utf-8")
    return table
