"""The parts of a training, made from its options: the text, the data module and the module."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from skiplight.config.schema import Config
from skiplight.corpus.prepare import prepare
from skiplight.corpus.sources.registry import open_source
from skiplight.corpus.tokens import TokenText
from skiplight.corpus.vocabulary import Vocabulary
from skiplight.data.blocks import Cursor
from skiplight.data.datamodule import SkipGramDataModule
from skiplight.distributed.gradient_exchange import GradientExchange
from skiplight.distributed.in_place import InPlaceTables
from skiplight.distributed.rank import RankInfo
from skiplight.distributed.reconciliation import Reconciler, Sample
from skiplight.distributed.strategy import RankStrategy
from skiplight.engines import choose
from skiplight.engines.autograd import optimizer_class, takes_sparse
from skiplight.engines.base import Request
from skiplight.errors import ConfigError, RunError
from skiplight.evaluation.heldout import HeldoutResult, heldout_pairs, unigram
from skiplight.files import cache_folder
from skiplight.objectives import OBJECTIVES, make_objective
from skiplight.objectives.base import Objective, Tables
from skiplight.objectives.full_softmax import FullSoftmax
from skiplight.objectives.nce import NCE
from skiplight.objectives.sampled_softmax import SampledSoftmax
from skiplight.sampling.noise import NoiseDistribution
from skiplight.sampling.subsampling import keep_probabilities
from skiplight.sampling.windows import WindowSampler
from skiplight.training.module import SkipGramModule
from skiplight.training.signals import ignore_first_signal
from skiplight.training.stability import learning_rate_warning
from skiplight.vectors.word_vectors import WordVectors, vectors_folder

log = logging.getLogger(__name__)

TELL_SECONDS = 10

STEPS = 200
"""A run has at least so many steps of all ranks where `data.block_tokens=auto`, so that the learning rate falls
smoothly and machines exchange what they have learned often enough."""


class TrainingComponents(NamedTuple):
    """What a Trainer is given."""

    module: SkipGramModule
    data: SkipGramDataModule
    strategy: RankStrategy | None
    """How the ranks train together; None where there is one."""


def build_training(config: Config, run: Path, place: RankInfo, fresh: bool = True) -> TrainingComponents:
    """The parts of a training, made from its options; prepares the text first.

    Args:
        config: all options, checked.
        run: folder of the run, on which other ranks are started.
        place: this process among them.
        fresh: whether the tables begin here, rather than in a checkpoint.

    Raises:
        ConfigError: options contradict each other.
        DataError: the text cannot be read, or holds nothing to train on.
    """
    if config.data.streaming and config.data.workers > 1:
        raise ConfigError(f"`data.workers={config.data.workers}`: a stream is read by one worker, which has threads")
    _check_devices(config)
    threads = config.trainer.threads or (place.threads() if place.world > 1 else None)
    if threads:
        torch.set_num_threads(threads)
    objective_class = OBJECTIVES[config.objective.name]
    bias = objective_class.default_bias if config.model.bias == "auto" else config.model.bias
    _check_objective(config, objective_class)
    if config.model.bias == "auto" and bias != "none":
        log.info("model.bias=%s: as %s is given one", bias, config.objective.name)
    if config.noise.exclude == "auto" and objective_class.needs_noise and objective_class.default_exclude != "target":
        exclude = objective_class.default_exclude
        log.info("noise.exclude=%s: what the corrections of %s are exact for", exclude, config.objective.name)
    engine = choose(
        config.engine.name,
        Request(
            objective_class,
            optimizer_class(config.optim.name),
            bias=bias != "none",
            input=config.sampling.input,
            device=device_type(config.trainer.accelerator),
            precision=config.trainer.precision,
            dim=config.model.dim,
            negatives=config.noise.negatives,
            window=config.sampling.window,
        ),
    )
    sparse = takes_sparse(config.optim.name)

    if fresh and config.model.init_from is not None:
        _check_start(config.model.init_from)  # before a long text is prepared
    # Nobody else computes before the text is there.
    text = prepare_text(config, None if place.rank == 0 and not config.data.streaming else threads)
    counts = text.vocabulary.counts
    sampler = make_sampler(config, text, objective_class)
    objective = make_objective(config.objective.name, counts, sampler, config.objective.chunk)
    total = total_tokens(config, text)
    block_tokens = config.data.block_tokens
    if block_tokens == "auto":
        block_tokens = max(1, min(engine.block_tokens, total // (STEPS * place.world)))
    data = SkipGramDataModule(
        text,
        sampler,
        block_tokens=block_tokens,
        tokens=total,
        workers=config.data.workers,
        takes_blocks=engine.takes_blocks,
        init_worker=ignore_first_signal,
    )
    log.info(
        "%s tokens in steps of about %s%s",
        f"{total:,}",
        f"{round(data.tokens / len(data.blocks)):,}{f' on each of {place.world} ranks' if place.world > 1 else ''}",
        f", chosen for the {engine.name} engine" if config.data.block_tokens == "auto" else "",
    )
    keep = keep_probabilities(counts, config.sampling.subsample)
    # The ranks of a machine map the tables of its first one.
    takes_others = engine.strategy == InPlaceTables.name and engine.device == "cpu" and place.local_rank > 0
    tables = Tables(
        len(counts),
        config.model.dim,
        objective.output_rows(len(counts)),
        sparse=sparse,
        seed=config.seed,
        bias=None if bias == "none" else objective.unigram_bias(counts * keep),
        train_bias=bias == "learned",
        initialise=not takes_others,
    )
    told = learning_rate_warning(
        sampler,
        counts,
        objective,
        tables,
        optimizer=config.optim.name,
        lr=config.optim.lr,
        block_tokens=block_tokens,
        ranks=place.world,
        per_window=engine.takes_blocks,
    )
    if told:
        log.warning("%s", told)
    if fresh and config.model.init_from is not None and not takes_others:
        initialize_from(config.model.init_from, tables, text.vocabulary)
    module = SkipGramModule(
        tables,
        objective,
        optimizer=config.optim.name,
        lr=config.optim.lr,
        total_tokens=total,
        # Threads of all ranks that share these tables.
        engine=engine.maker(sampler, threads, workers=threads * place.local_world if threads else None),
    )
    if place.world == 1:
        return TrainingComponents(module, data, None)
    options: dict[str, Any] = {"run": run, "timeout": config.distributed.timeout}
    options["cluster_environment"] = place.environment
    if engine.strategy == InPlaceTables.name:

        def reconciler(replicas: int, device: torch.device) -> Reconciler:
            made = Reconciler(
                sampler,
                Sample.of(sampler, data.blocks(Cursor(), 0, 1, 0, 1)),
                dim=config.model.dim,
                replicas=replicas,
                step_tokens=block_tokens * place.world,
                bytes_per_token=config.distributed.bytes_per_token,
                device=device,
            )
            log.info(
                "%d replicas of the tables: a row is exchanged after about %s gradients, all rows every %s steps, which"
                " sends distributed.bytes_per_token=%g",
                replicas,
                f"{made.after:,.3g}",
                f"{made.full:,}",
                config.distributed.bytes_per_token,
            )
            return made

        return TrainingComponents(module, data, InPlaceTables(reconciler, **options))
    return TrainingComponents(module, data, GradientExchange(**options))


def _check_devices(config: Config) -> None:
    devices, there = config.trainer.devices, torch.cuda.device_count()
    if device_type(config.trainer.accelerator) == "cuda" and devices > there:
        raise ConfigError(f"`trainer.devices={devices}`: this machine has {there} GPUs, give no more")


def make_sampler(config: Config, text: TokenText, objective: type[Objective]) -> WindowSampler:
    """The windows that the options ask for; without negatives where the objective needs none."""
    counts = text.vocabulary.counts
    return WindowSampler(
        counts,
        seed=config.seed,
        window=config.sampling.window,
        subsample=config.sampling.subsample,
        exponent=config.noise.exponent,
        negatives=config.noise.negatives if objective.needs_noise else 0,
        shared=config.noise.shared,  # type: ignore[arg-type]
        exclude=noise_exclude(config, objective),  # type: ignore[arg-type]
        noise=NoiseDistribution.log_uniform(len(counts)) if config.objective.proposal == "log_uniform" else None,
        input=config.sampling.input,  # type: ignore[arg-type]
    )


def noise_exclude(config: Config, objective: type[Objective]) -> str:
    """Return what a negative may not be: `noise.exclude`, or for `auto` what the objective is exact with."""
    return objective.default_exclude if config.noise.exclude == "auto" else config.noise.exclude


def heldout_unigram(config: Config, text: TokenText) -> HeldoutResult:
    """How well the output words' own frequencies predict the held-out pairs of a run, whatever the input word."""
    sampler = make_sampler(config, text, FullSoftmax)
    data = SkipGramDataModule(text, sampler, block_tokens=1, tokens=1)
    pairs = heldout_pairs(data.heldout_blocks(), sampler, config.evaluation.heldout_pairs)
    counts = text.vocabulary.counts
    return unigram(pairs, counts * keep_probabilities(counts, config.sampling.subsample))


def _check_objective(config: Config, objective: type[Objective]) -> None:
    if config.objective.proposal != "noise" and objective not in (NCE, SampledSoftmax):
        raise ConfigError(
            f"`objective.proposal={config.objective.proposal}` is for nce and sampled_softmax:"
            f" leave it at noise with {config.objective.name}"
        )
    if config.noise.exclude == "window" and objective in (NCE, SampledSoftmax):
        raise ConfigError(
            f"`noise.exclude=window` with `objective={config.objective.name}`: its correction of the scores holds where"
            " the noise leaves out the target at most; give `noise.exclude=none` or `noise.exclude=target`"
        )
    if config.objective.chunk is not None and objective is not FullSoftmax:
        raise ConfigError(f"`objective.chunk` is for full_softmax: leave it out with {config.objective.name}")


def device_type(accelerator: str) -> str:
    """The type of device that `trainer.accelerator` stands for.

    Raises:
        ConfigError: there is no such device here.
    """
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise ConfigError("`trainer.accelerator=cuda`: there is no GPU here that torch can use; choose cpu or auto")
    return "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"


def _check_start(run: str) -> None:
    try:
        vectors_folder(run)
    except RunError as error:
        raise ConfigError(f"`model.init_from={run}`: {error}") from None


def initialize_from(run: str, tables: Tables, vocabulary: Vocabulary) -> None:
    """Copies the vectors of another run into the rows of the words that it knows; other words keep their fresh rows.

    The noise distribution and subsampling follow the counts of `vocabulary`, not of that run: where the same word is
    now rarer or more frequent, so are its draws as noise, and the optimum of its scores moves accordingly.

    Raises:
        ConfigError: the run's vectors are of another length, or it knows none of the words.
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
        raise ConfigError(f"`model.init_from={run}` knows none of the {len(vocabulary):,} words of this text")
    with torch.no_grad():
        tables.input.weight[known] = vectors.input[rows[known]]
        if vectors.output is not None and len(tables.output.weight) == len(vocabulary):
            tables.output.weight[known] = vectors.output[rows[known]]
    log.info(
        "%s of %s words start from %s, the others afresh; noise and subsampling follow this vocabulary's counts",
        f"{int(known.sum()):,}",
        f"{len(vocabulary):,}",
        run,
    )


def prepare_text(config: Config, threads: int | None = None) -> TokenText:
    """The token store or stream that `data.*` and `vocabulary.*` ask for.

    Args:
        config: all options, checked.
        threads: that read and encode; default: as `trainer.threads` says.
    """
    options = config.data
    source = open_source(
        options.source,
        name=options.name,
        config=options.config,
        split=options.split,
        revision=options.revision,
        path=options.path if isinstance(options.path, list) or options.path is None else str(options.path),
        column=options.column,
        document=options.document,
        max_bytes=options.max_bytes,
        cache=cache_folder(),
    )
    return prepare(
        source,
        normalise=options.normalise,
        min_count=config.vocabulary.min_count,
        max_size=config.vocabulary.max_size,
        vocabulary=Path(config.vocabulary.path) if config.vocabulary.path else None,
        grow=config.vocabulary.grow,
        heldout=options.heldout,
        stores=Path(options.store) if options.store else cache_folder() / "stores",
        streaming=options.streaming,
        threads=threads or config.trainer.threads,
        progress=ProgressLog(),
    )


class ProgressLog:
    """Says now and then how far the preparation of a long text has come."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def __call__(self, stage: str, words: int) -> None:
        if time.monotonic() - self.last >= TELL_SECONDS:
            self.last = time.monotonic()
            log.info("%s: %s words", {"vocabulary": "read and counted", "encode": "encoded"}[stage], f"{words:,}")


def total_tokens(config: Config, text: TokenText) -> int:
    """How many tokens the run consumes."""
    if config.trainer.max_tokens is not None:
        return config.trainer.max_tokens
    tokens = (config.data.tokens if config.data.streaming else None) or text.tokens
    if tokens is None:
        raise ConfigError(
            "the size of the stream is not known: give `data.tokens` (tokens of an epoch) or `trainer.max_tokens`"
        )
    return tokens * config.trainer.max_epochs
