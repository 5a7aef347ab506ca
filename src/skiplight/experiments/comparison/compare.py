"""`skiplight compare`: train the runs of a comparison, and write the results.

RUN/comparison.yaml   the options, which must be the same when the comparison is continued
    runs/             a folder per run, named by its options, so that no run is trained twice
    trials.csv        a row per run
    levels.json       reference levels of the plots, with their names
    findings.md       a table, and sentences on the differences, with their uncertainty
    <view>.png        every metric against pairs seen and against seconds
    report.html       all of it as one page
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from pathlib import Path

from skiplight.config.compose import compose
from skiplight.config.unread import check_read
from skiplight.config.validate import run_options
from skiplight.data.from_config import prepare_text, total_tokens
from skiplight.errors import ConfigError
from skiplight.experiments.comparison.findings import render_findings
from skiplight.experiments.comparison.plan import Plan
from skiplight.experiments.comparison.plots import plot_curves
from skiplight.experiments.comparison.queue import Comparison
from skiplight.experiments.comparison.results import comparison_table
from skiplight.experiments.executor import execute_trials
from skiplight.experiments.resources import claim_resources
from skiplight.experiments.run_server import run_server
from skiplight.experiments.trials import TrialTable
from skiplight.files import replacing, writing
from skiplight.training.build import heldout_unigram, read_evaluations
from skiplight.training.loggers import check_logger

log = logging.getLogger(__name__)

FINDINGS, LEVELS = "findings.md", "levels.json"


def compare(
    overrides: Sequence[str], folder: Path, *, workers: int = 1, devices_per_trial: int | None = None
) -> TrialTable:
    """Train the runs of `compare.*`, or those that are left, write the results, and return the table of runs.

    Args:
        overrides: Hydra overrides for all runs.
        folder: folder of the comparison; an existing comparison is continued.
        workers: number of runs that are trained at once by this command.
        devices_per_trial: GPUs per run; default: `trainer.devices`.

    Raises:
        ConfigError: an option is wrong, or the comparison began with other options.
        EvaluationError: there is too little held-out text.
        RunError: the folder is not a comparison, or a run failed without having diverged.
        Stopped: a signal requested a stop; the same command continues the comparison.
    """
    config = compose(overrides)
    if config.data.heldout == 0 or config.evaluation.heldout_pairs == 0:
        raise ConfigError(
            "a comparison ranks by held-out perplexity: give `data.heldout` and `evaluation.heldout_pairs` above 0"
        )
    check_logger(config)
    read_evaluations(config)
    run_server()
    resources = claim_resources(config.trainer, workers, devices_per_trial)
    text = prepare_text(config)
    plan = Plan([f"trainer.devices={config.trainer.devices}", *overrides], total_tokens(config, text))
    check_read(overrides, plan.configs(), "compare")
    unigram = heldout_unigram(plan.config, text).perplexity
    comparison = Comparison(folder, plan, workers)
    if comparison.experiment.create_or_check(
        {"compare": vars(plan.compare)}, run=run_options(plan.config) | {"run_dir": None}
    ):
        log.info("%s: other variants, views or seeds than before; the runs of the same options are taken over", folder)
    if plan.has_search:
        log.info(
            "candidates are chosen on evaluation.validation=%g of the held-out text, which the results leave out",
            plan.config.evaluation.validation,
        )
    if workers > 1:
        log.info(
            "%d runs are trained at once and share the machine, so each takes more seconds than it would alone", workers
        )
    execute_trials(comparison, resources)
    results = comparison.results()
    table = comparison_table(folder, results)
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
