"""The page of a run: its training, evaluations and noise distribution, and a map of its words."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from skiplight.config.schema import Config
from skiplight.errors import EvaluationError, RunError, command
from skiplight.evaluation.sets import named_sets, set_name
from skiplight.evaluation.similarity import judged_pairs
from skiplight.files import read_json
from skiplight.report.frequencies import word_frequencies
from skiplight.report.html import render_page, write_page
from skiplight.report.settings import list_settings
from skiplight.report.words import map_words
from skiplight.training.loggers import log_pictures
from skiplight.training.run_folder import RunFolder
from skiplight.vectors.word_vectors import WordVectors

log = logging.getLogger(__name__)


def write_run_page(folder: Path) -> Path:
    """Write the page of a finished run, including t-SNE and the neighbours of all words, which take some seconds.

    Raises:
        RunError: there is no run, or it is not finished or damaged.
        UnwritableError: the folder cannot be written to.
    """
    run = RunFolder(folder)
    config, summary, vectors = run.config(), run.read_summary(), WordVectors.load(folder)
    if not vectors.input.isfinite().all():
        raise RunError(f"{run.vectors} has vectors that are not finite: the training had diverged")
    data = run_data(run, config, summary, vectors, thorough=True)
    write_page(run.report, render_page("run", data["name"], data))
    return run.report


def write_trial_page(run: RunFolder, name: str, state: str, error: str = "") -> None:
    """Write the page of a trial, without the map: of one that is not finished, the curves and the settings only.

    A page that is newer than what it shows is left as it is: it may have a map.

    Args:
        run: the run of the trial.
        name: title of the page.
        state: state of the trial.
        error: why the trial failed; empty otherwise.

    Raises:
        RunError: the run is damaged.
        UnwritableError: the folder cannot be written to.
    """
    shown = run.summary if run.summary.exists() else run.metrics
    if not run.config_file.exists() or _is_newer(run.report, shown):
        return
    config = run.config()
    if run.summary.exists():
        data = run_data(run, config, run.read_summary(), WordVectors.load(run.path), thorough=False, mapped=False)
    else:
        data = {"kind": "run", "summary": None, "settings": list_settings(config), "metrics": run.read_metrics()}
    write_page(run.report, render_page("run", name, data | {"name": name, "state": state, "error": error}))


def _is_newer(page: Path, shown: Path) -> bool:
    return page.exists() and (not shown.exists() or page.stat().st_mtime > shown.stat().st_mtime)


def show_finished_run(
    run: RunFolder, config: Config, summary: dict[str, Any], vectors: WordVectors, loggers: Sequence[Logger]
) -> None:
    """Write the page of a run whose training has just ended, and log its plots; a failure is only logged.

    It omits what may take longer than a short training, and does nothing for the possibly hundreds of runs of a
    study, a multirun or a comparison. `skiplight report RUN` writes the full page of any run.
    """
    if run.trial_info is not None:
        return
    try:
        data = run_data(run, config, summary, vectors, thorough=False)
        write_page(run.report, render_page("run", data["name"], data))
    except Exception as error:  # a page is no reason to lose a training
        reason = f"{type(error).__name__}: {error}"
        log.warning("the page was not written, `%s` tries again; %s", command("report", run.path), reason)
        return
    try:
        log_pictures(loggers, data, run.report, summary["tokens"])
    except Exception as error:
        log.warning("the page is not in W&B: %s: %s", type(error).__name__, error)


def run_data(
    run: RunFolder,
    config: Config,
    summary: dict[str, Any],
    vectors: WordVectors,
    *,
    thorough: bool,
    mapped: bool = True,
) -> dict[str, Any]:
    """Return the data of a run's page, with or without a map and what takes some seconds; the scripts describe it."""
    sources = [each for each in named_sets(config.evaluation.similarity) if set_name(each) in summary["evaluation"]]
    similarity = {set_name(source): similarity_rows(vectors, source) for source in sources}
    environment = {}
    with contextlib.suppress(OSError, ValueError):
        environment = read_json(run.environment)
    return {
        "kind": "run",
        "name": run.path.resolve().name,
        "summary": summary,
        "environment": environment,
        "settings": list_settings(config),
        "words": config.evaluation.words,
        "metrics": run.read_metrics(),
        "similarity": {name: found for name, found in similarity.items() if found},
        "frequencies": word_frequencies(vectors.vocabulary, config),
        "map": map_words(vectors, thorough=thorough) if mapped else None,
    }


def similarity_rows(vectors: WordVectors, source: str) -> list[list[Any]] | None:
    """Return the pairs of a similarity set: words, judgement, cosine, and how much nearer than people rank them.

    Returns None if the set cannot be scored, which summary.json then records.
    """
    try:
        judged = judged_pairs(vectors, source)
    except EvaluationError:
        return None
    named = vectors.vocabulary.words
    columns = zip(
        judged.first, judged.second, judged.judgements.tolist(), judged.cosines.tolist(),
        judged.disagreement().tolist(), strict=True,
    )  # fmt: skip
    return [[named[a], named[b], people, round(cosine, 4), round(d, 4)] for a, b, people, cosine, d in columns]
