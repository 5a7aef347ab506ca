"""From a config to a finished run folder, and from an unfinished one to its end.

    train(config, run_dir)   prepares the text, makes the folder, trains, evaluates, leaves vectors and summary
    resume(run_dir)          goes on from the newest checkpoint of a run that was stopped or killed

A folder is made only when the text is ready and no option contradicts another, so bad input leaves none behind.
"""

from __future__ import annotations

import logging
import math
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch

from skiplight.checkpoints import Checkpointing, FolderCheckpointIO, latest
from skiplight.compiled import cache_folder
from skiplight.config import Config
from skiplight.corpus.prepare import prepare
from skiplight.corpus.sources import open_source
from skiplight.corpus.store import TokenStore
from skiplight.corpus.stream import TokenStream
from skiplight.datamodule import SkipGramDataModule
from skiplight.engines import choose
from skiplight.engines.autograd import takes_sparse
from skiplight.errors import ConfigError, RunError
from skiplight.evaluation.suite import evaluate
from skiplight.module import SkipGramModule
from skiplight.objectives.base import Tables
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.progress import TokenProgress
from skiplight.runs import RunFolder
from skiplight.sampling.subsampling import keep_probabilities
from skiplight.sampling.windows import WindowSampler
from skiplight.signals import StopRequest
from skiplight.tracking import Tracking
from skiplight.vectors import WordVectors

log = logging.getLogger(__name__)

STEPS = 200
"""A run has at least so many steps where `data.block_tokens=auto`, so that the learning rate falls smoothly."""


def train(config: Config, run_dir: Path) -> dict[str, Any]:
    """Trains a new run and returns what its summary.json holds.

    Args:
        config: all options, checked.
        run_dir: the folder to make.

    Raises:
        ConfigError, DataError, RunError: the options or the text do not allow it; there is then no folder.
    """
    begin = time.perf_counter()
    run = RunFolder(run_dir)
    run.refuse_existing()
    module, data = assemble(config)
    run.create(config)
    return _fit(run, config, module, data, checkpoint=None, begin=begin)


def resume(run_dir: Path) -> dict[str, Any]:
    """Goes on with a run from its newest checkpoint, or from the beginning where it has none.

    Raises:
        RunError: there is no such run, it is finished, or its text or checkpoint is not what it was.
    """
    begin = time.perf_counter()
    run = RunFolder(run_dir)
    config = run.config()
    if run.summary.exists():
        raise RunError(f"{run_dir} is finished already: there is nothing to resume")
    module, data = assemble(config)
    run.clean()
    checkpoint = latest(run.checkpoints)
    log.info("going on from %s", checkpoint or "the beginning: the run has no checkpoint yet")
    return _fit(run, config, module, data, checkpoint=checkpoint, begin=begin)


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


def _fit(
    run: RunFolder,
    config: Config,
    module: SkipGramModule,
    data: SkipGramDataModule,
    *,
    checkpoint: Path | None,
    begin: float,
) -> dict[str, Any]:
    stop = StopRequest()
    tracking = Tracking(run.metrics)
    saving = Checkpointing(run.checkpoints, every=config.checkpoint.every, keep=config.checkpoint.keep, stop=stop)
    trainer = lightning.Trainer(
        accelerator=config.trainer.accelerator,
        devices=1,
        precision=config.trainer.precision,  # type: ignore[arg-type]
        max_epochs=math.ceil(module.total_tokens / data.tokens),
        callbacks=[tracking, TokenProgress(tracking), saving],
        plugins=[FolderCheckpointIO()],
        logger=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        default_root_dir=run.path,
    )
    with warnings.catch_warnings():
        # The first, second and last are answered by the data module, whose loader begins where its cursor stands.
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", ".*`IterableDataset` has `__len__` defined.*")
        warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")
        warnings.filterwarnings("ignore", ".*resuming from a checkpoint that ended before the epoch.*")
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    if stop.signal is not None:
        print(f"stopped; go on with: skiplight resume {run.path}", file=sys.stderr)
        raise SystemExit(128 + stop.signal)
    if trainer.state.status != "finished":
        raise RunError(f"training did not finish: {trainer.state.status}")
    return _finish(run, config, module, data, trainer, tracking, begin)


def _finish(
    run: RunFolder,
    config: Config,
    module: SkipGramModule,
    data: SkipGramDataModule,
    trainer: lightning.Trainer,
    tracking: Tracking,
    begin: float,
) -> dict[str, Any]:
    """Evaluates, and writes vectors and summary; the summary last, since it marks the run as finished."""
    text, seconds = data.text, tracking.seconds
    output = module.tables.output.weight.detach().cpu()
    vectors = WordVectors(text.vocabulary, module.tables.input.weight.detach().cpu(), output)
    vectors.save(run.vectors)

    clock = time.perf_counter()
    scores = evaluate(
        vectors,
        similarity=config.evaluation.similarity,
        analogy=config.evaluation.analogy,
        restrict_vocabulary=config.evaluation.restrict_vocabulary,
    )
    evaluating = time.perf_counter() - clock
    tracking.write(trainer, module, {f"evaluation/{name}": result.get("score") for name, result in scores.items()})

    counts = text.vocabulary.counts
    kept = float((counts * keep_probabilities(counts, config.sampling.subsample)).sum() / counts.sum())
    summary = {
        "engine": module.engine.name,
        "device": str(trainer.strategy.root_device),
        "vocabulary_size": len(text.vocabulary),
        "tokens": module.tokens,
        "epochs": module.tokens / data.tokens,
        "seconds": {
            **{part: round(text.seconds.get(part, 0.0), 3) for part in ("vocabulary", "encode")},
            "train": round(seconds, 3),
            "evaluate": round(evaluating, 3),
            "total": round(time.perf_counter() - begin, 3),
        },
        "words_per_second": round(module.tokens / seconds),
        # Tokens that subsampling keeps: the exact expectation over the vocabulary's counts.
        "effective_words_per_second": round(module.tokens * kept / seconds),
        "pairs_per_second": round(tracking.pairs / seconds),
        "loss": tracking.loss,
        "evaluation": scores,
    }
    run.write_summary(summary)
    return summary
