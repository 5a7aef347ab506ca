"""The page of a run: how it trained, how good the vectors are, its noise distribution, and a map of its words."""

from __future__ import annotations

import contextlib
import json
import logging
import shlex
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from skiplight.config.schema import Config
from skiplight.errors import EvaluationError, RunError
from skiplight.evaluation.sets import set_name
from skiplight.evaluation.similarity import judged_pairs
from skiplight.report.frequencies import word_frequencies
from skiplight.report.html import render_page, write_page
from skiplight.report.settings import list_settings
from skiplight.report.words import map_words
from skiplight.training.loggers import log_pictures
from skiplight.training.run_folder import RunFolder
from skiplight.vectors.word_vectors import WordVectors

log = logging.getLogger(__name__)

STUDY, MULTIRUN, COMPARISON = "study.yaml", "multirun.yaml", "comparison.json"
"""What tells that a folder has many runs: the studies', Hydra's, the comparisons'."""


def write_run_page(folder: Path) -> Path:
    """Makes the page of a finished run from its folder, with t-SNE, which takes some seconds.

    Raises:
        RunError: there is no run, it is not finished, or it is damaged.
        UnwritableError: the folder cannot be written to.
    """
    run = RunFolder(folder)
    config, summary, vectors = run.config(), run.read_summary(), WordVectors.load(folder)
    if not vectors.input.isfinite().all():
        raise RunError(f"{run.vectors} has vectors that are not finite: the training had diverged")
    write_page(run.report, render_page("run", page_title(run), run_data(run, config, summary, vectors, tsne=True)))
    return run.report


def show_finished_run(
    run: RunFolder, config: Config, summary: dict[str, Any], vectors: WordVectors, logger: Logger | None
) -> None:
    """Makes the page of a run whose training has just ended, and logs its pictures; what goes wrong is only told.

    Without t-SNE, since a short training should not be followed by a longer wait; and not for the runs of a study, a
    multirun or a comparison, which may be hundreds: `skiplight report RUN` makes theirs.
    """
    if one_of_many(run.path):
        return
    try:
        data = run_data(run, config, summary, vectors, tsne=False)
        write_page(run.report, render_page("run", data["name"], data))
        log_pictures(logger, data, run.report, summary["tokens"])
    except Exception as error:  # a picture is no reason to lose a training
        reason = f"{type(error).__name__}: {error}"
        log.warning("the page is left out, `skiplight report %s` tries again; %s", shlex.quote(str(run.path)), reason)


def one_of_many(folder: Path) -> bool:
    """Whether a run belongs to a study, a multirun or a comparison."""
    parent = folder.resolve().parent
    return any(mark.exists() for mark in (parent / STUDY, parent / MULTIRUN, parent.parent / COMPARISON))


def page_title(run: RunFolder) -> str:
    """What the page of a run is called."""
    return run.path.resolve().name


def run_data(
    run: RunFolder, config: Config, summary: dict[str, Any], vectors: WordVectors, *, tsne: bool
) -> dict[str, Any]:
    """What the page of a run shows; see the scripts for each part."""
    similarity = {set_name(source): similarity_rows(vectors, source) for source in config.evaluation.similarity}
    environment = {}
    with contextlib.suppress(OSError, ValueError):
        environment = json.loads(run.environment.read_text(encoding="utf-8"))
    return {
        "kind": "run",
        "name": page_title(run),
        "summary": summary,
        "environment": environment,
        "settings": list_settings(config),
        "words": config.evaluation.words,
        "metrics": read_metric_lines(run.metrics),
        "similarity": {name: found for name, found in similarity.items() if found},
        "frequencies": word_frequencies(vectors.vocabulary, config),
        "map": map_words(vectors, tsne=tsne),
    }


def similarity_rows(vectors: WordVectors, source: str) -> list[list[Any]] | None:
    """The pairs of a similarity set: first word, second word, judgement, cosine, how much nearer than people rank it.

    None where the set cannot be scored, as summary.json then says.
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


def read_metric_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl that can be read; one that a killed process left is not."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            about = json.loads(line)
            if isinstance(about, dict):
                found.append(about)
    return found
