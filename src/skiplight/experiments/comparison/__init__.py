"""`skiplight compare`: the same model on the same text under several objectives, and how each converges.

RUN/comparison.json   what is compared; a comparison goes on only as what it began as
    runs/             a folder for each run, named by its options, so that a run that is there is not repeated
    trials.csv        a row for each run
    levels.json       values that the figures draw a line at, with their names
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

from skiplight.config.compose import compose, quote_value
from skiplight.config.validate import run_options
from skiplight.errors import ConfigError, RunError
from skiplight.experiments.comparison.findings import findings, write_trials
from skiplight.experiments.comparison.plan import Plan
from skiplight.experiments.comparison.plots import draw
from skiplight.experiments.comparison.runs import FILE, FINDINGS, LEVELS, ComparisonRuns, TrialResult
from skiplight.files import replacing, writing
from skiplight.training.build import heldout_unigram
from skiplight.training.loggers import check_logger
from skiplight.training.text import prepare_text, total_tokens

log = logging.getLogger(__name__)


def compare(overrides: Sequence[str], folder: Path) -> list[TrialResult]:
    """Trains what `compare.*` says, or what is left of it, and writes down what came out.

    Args:
        overrides: of Hydra, for all runs.
        folder: of the comparison; one that is there already is gone on with.

    Raises:
        ConfigError: an option is wrong; there is then no folder.
        RunError: the folder is something else, or a comparison of something else.
        Stopped: a signal asked to stop; the same command goes on.
    """
    config = compose(overrides)
    if config.data.heldout == 0 or config.evaluation.heldout_pairs == 0:
        raise ConfigError(
            "a comparison judges by held-out text: give `data.heldout` and `evaluation.heldout_pairs` above 0"
        )
    check_logger(config)
    text = prepare_text(config)
    plan = Plan([*_grouped(config.logger.group, folder), *overrides], total_tokens(config, text))
    _open(folder, plan)
    outcomes = ComparisonRuns(folder).all(plan)
    unigram = heldout_unigram(plan.config, text).perplexity
    with writing(folder):
        write_trials(outcomes, folder)
        levels = {"heldout/perplexity": (unigram, "unigram model")} if math.isfinite(unigram) else {}
        with replacing(folder / LEVELS) as temporary:
            temporary.write_text(json.dumps(levels, indent=2) + "\n", encoding="utf-8")
        for view in plan.views:
            of_view = [outcome for outcome in outcomes if outcome.run.view == view.name]
            if any(outcome.summary is not None and not outcome.search for outcome in of_view):
                draw(of_view, view.title, folder / f"{view.name}.png", levels)
        with replacing(folder / FINDINGS) as temporary:
            temporary.write_text(findings(plan, outcomes, unigram), encoding="utf-8")
    return outcomes


def _grouped(group: str | None, folder: Path) -> list[str]:
    """Runs of a comparison are one group in W&B, called like its folder."""
    return [] if group else [f"logger.group={quote_value(folder.name)}"]


def _open(folder: Path, plan: Plan) -> None:
    """Makes the folder, or checks that it is of this comparison."""
    about = {"run": run_options(plan.config) | {"run_dir": None}, "compare": vars(plan.compare)}
    wanted = json.dumps(about, indent=2, sort_keys=True) + "\n"
    file = folder / FILE
    if file.exists():
        if json.loads(file.read_text(encoding="utf-8")) != json.loads(wanted):
            raise RunError(
                f"`run_dir={folder}` is a comparison with other options ({file} has them): repeat them, or choose"
                " another folder"
            )
        log.info("going on with %s", folder)
        return
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"`run_dir={folder}` exists already and is no comparison: choose another folder")
    with writing(folder):
        (folder / "runs").mkdir(parents=True)
        with replacing(file) as temporary:
            temporary.write_text(wanted, encoding="utf-8")
