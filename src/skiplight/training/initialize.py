"""Vectors of another run, or of another tool, as the initial values of the tables (`model.init_from`)."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch

from skiplight.corpus.vocabulary import Vocabulary
from skiplight.errors import ConfigError, DataError, RunError
from skiplight.objectives.base import Tables
from skiplight.vectors.vector_files import read_layout
from skiplight.vectors.word_vectors import WordVectors, is_vector_file, vectors_folder

log = logging.getLogger(__name__)


def check_initial_vectors(run: str, dim: int) -> None:
    """Check what can be checked of `model.init_from` before a long text is prepared; `initialize_from` reads it later.

    Raises:
        ConfigError: it is neither a run with vectors nor a file of vectors, or a file of another dimension than `dim`.
    """
    try:
        if is_vector_file(run):
            _check_dim(run, read_layout(Path(run)).dim, dim)
        else:
            vectors_folder(run)
    except (DataError, RunError) as error:
        raise ConfigError(f"`model.init_from={run}`: {error}") from None


def _check_dim(run: str, found: int, dim: int) -> None:
    if found != dim:
        raise ConfigError(f"`model.init_from={run}` has vectors of {found} numbers: give `model.dim={found}`")


def initialize_from(run: str, tables: Tables, vocabulary: Vocabulary) -> None:
    """Copy the vectors of another run or tool into the rows of common words; other words keep their initial rows.

    The noise distribution and subsampling follow the counts of `vocabulary`, not those of the other run: a word that is
    now rarer is drawn less as noise, which moves the optimum of its scores.

    Raises:
        ConfigError: the vectors have another dimension, are not finite, or belong to none of the words.
        RunError: there is no such run, or it has no vectors.
    """
    vectors = WordVectors.load(run)
    _check_dim(run, vectors.dim, tables.input.weight.shape[1])
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
    if vectors.output is None:
        log.info("%s has no output vectors: they start as they do in a run without `model.init_from`", run)
    log.info(
        "%s of %s words start from %s, the others from random vectors; noise and subsampling follow the new counts",
        f"{int(known.sum()):,}",
        f"{len(vocabulary):,}",
        run,
    )
