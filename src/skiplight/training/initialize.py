"""Vectors of another run as the initial values of the tables (`model.init_from`)."""

from __future__ import annotations

import logging

import numpy as np
import torch

from skiplight.corpus.vocabulary import Vocabulary
from skiplight.errors import ConfigError, RunError
from skiplight.objectives.base import Tables
from skiplight.vectors.word_vectors import WordVectors, vectors_folder

log = logging.getLogger(__name__)


def check_initial_vectors(run: str) -> None:
    """Raise a `ConfigError` if `model.init_from` names no run with vectors; `initialize_from` reads them later."""
    try:
        vectors_folder(run)
    except RunError as error:
        raise ConfigError(f"`model.init_from={run}`: {error}") from None


def initialize_from(run: str, tables: Tables, vocabulary: Vocabulary) -> None:
    """Copy the vectors of another run into the rows of common words; other words keep their initial rows.

    The noise distribution and subsampling follow the counts of `vocabulary`, not those of the other run: a word that is
    now rarer is drawn less as noise, which moves the optimum of its scores.

    Raises:
        ConfigError: the vectors have another dimension, are not finite, or belong to none of the words.
        RunError: there is no such run, or it has no vectors.
    """
    vectors = WordVectors.load(run)
    dim = tables.input.weight.shape[1]
    if vectors.dim != dim:
        raise ConfigError(
            f"`model.init_from={run}` has vectors of {vectors.dim} numbers: give `model.dim={vectors.dim}`"
        )
    if not all(table.isfinite().all() for table in (vectors.input, vectors.output) if table is not None):
        raise ConfigError(f"`model.init_from={run}` has vectors that are not finite: its training had diverged")
    rows = torch.from_numpy(vectors.vocabulary.encode(vocabulary.array).astype(np.int64))
    known = rows >= 0
    if not known.any():
        raise ConfigError(f"`model.init_from={run}` has none of the {len(vocabulary):,} words of this text")
    with torch.no_grad():
        tables.input.weight[known] = vectors.input[rows[known]]
        if vectors.output is not None and len(tables.output.weight) == len(vocabulary):
            tables.output.weight[known] = vectors.output[rows[known]]
    log.info(
        "%s of %s words start from %s, the others from random vectors; noise and subsampling follow the new counts",
        f"{int(known.sum()):,}",
        f"{len(vocabulary):,}",
        run,
    )
