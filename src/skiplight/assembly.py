"""The parts of a training, made from its options: the text, the data module and the module."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from skiplight.compiled import cache_folder
from skiplight.config import Config
from skiplight.corpus.prepare import prepare
from skiplight.corpus.sources import open_source
from skiplight.corpus.store import TokenStore
from skiplight.corpus.stream import TokenStream
from skiplight.datamodule import SkipGramDataModule
from skiplight.engines import choose
from skiplight.engines.autograd import takes_sparse
from skiplight.errors import ConfigError
from skiplight.module import SkipGramModule
from skiplight.objectives.base import Tables
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.sampling.windows import WindowSampler

log = logging.getLogger(__name__)

STEPS = 200
"""A run has at least so many steps where `data.block_tokens=auto`, so that the learning rate falls smoothly."""


def assemble(config: Config) -> tuple[SkipGramModule, SkipGramDataModule]:
    """The two parts of a training, made from its options; prepares the text first.

    Raises:
        ConfigError: options contradict each other.
        DataError: the text cannot be read, or holds nothing to train on.
    """
    if config.trainer.devices * config.trainer.num_nodes > 1:
        raise ConfigError(
            "training on several devices is not supported yet: leave `trainer.devices` and `num_nodes` at 1"
        )
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    engine = choose(config.engine.name)
    sparse = takes_sparse(config.optim.name)

    text = prepare_text(config)
    sampler = WindowSampler(
        text.vocabulary.counts,
        seed=config.seed,
        window=config.sampling.window,
        subsample=config.sampling.subsample,
        exponent=config.noise.exponent,
        negatives=config.noise.negatives,
        shared=config.noise.shared,  # type: ignore[arg-type]
        exclude=config.noise.exclude,  # type: ignore[arg-type]
    )
    tokens = _tokens_of_epoch(config, text)
    total = config.trainer.max_tokens or tokens * config.trainer.max_epochs
    block_tokens = config.data.block_tokens
    if block_tokens == "auto":
        block_tokens = max(1, min(engine.block_tokens, total // STEPS))
        log.info(
            "data.block_tokens=%d, chosen for the %s engine and %s tokens",
            block_tokens,
            engine.name,
            f"{total:,}",
        )
    data = SkipGramDataModule(
        text,
        sampler,
        block_tokens=block_tokens,
        tokens=tokens,
        workers=config.data.workers,
        takes_blocks=engine.takes_blocks,
    )
    tables = Tables(len(text.vocabulary), config.model.dim, sparse=sparse, seed=config.seed)
    objective = NegativeSampling(sampler.noise.probabilities)
    module = SkipGramModule(
        tables, objective, optimizer=config.optim.name, lr=config.optim.lr, total_tokens=total, engine=engine
    )
    return module, data


def prepare_text(config: Config) -> TokenStore | TokenStream:
    """The token store or stream that `data.*` and `vocabulary.*` ask for."""
    options = config.data
    source = open_source(
        options.source,
        name=options.name,
        config=options.config,
        split=options.split,
        revision=options.revision,
        path=options.path,
        column=options.column,
        document=options.document,
        cache=cache_folder(),
    )
    return prepare(
        source,
        normalise=options.normalise,
        min_count=config.vocabulary.min_count,
        max_size=config.vocabulary.max_size,
        vocabulary=Path(config.vocabulary.path) if config.vocabulary.path else None,
        heldout=options.heldout,
        stores=Path(options.store) if options.store else cache_folder() / "stores",
        streaming=options.streaming,
    )


def _tokens_of_epoch(config: Config, text: TokenStore | TokenStream) -> int:
    tokens = text.tokens
    if config.data.tokens is not None and isinstance(text, TokenStream):
        tokens = config.data.tokens
    tokens = tokens or config.trainer.max_tokens
    if tokens is None:
        raise ConfigError(
            "the size of the stream is not known: give `data.tokens` (tokens of an epoch) or `trainer.max_tokens`"
        )
    return tokens
