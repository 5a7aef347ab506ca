"""Build the components of a training from its options: the data module, the module and the strategy."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import torch

from skiplight.config.schema import Config
from skiplight.corpus.tokens import Cursor, TokenText
from skiplight.data.datamodule import SkipGramDataModule
from skiplight.data.from_config import device_type, make_sampler
from skiplight.data.heldout import heldout_pairs
from skiplight.distributed.curvature import Sample
from skiplight.distributed.gradient_exchange import GradientExchange
from skiplight.distributed.in_place import InPlaceTables
from skiplight.distributed.rank import RankInfo
from skiplight.distributed.reconciliation import Reconciler
from skiplight.distributed.strategy import RankStrategy
from skiplight.errors import ConfigError
from skiplight.evaluation.heldout import HeldoutResult, unigram
from skiplight.evaluation.sets import named_sets
from skiplight.evaluation.suite import read_sets
from skiplight.objectives.full_softmax import FullSoftmax
from skiplight.sampling.subsampling import keep_probabilities
from skiplight.training.initialize import check_initial_vectors
from skiplight.training.module import SkipGramModule
from skiplight.training.schedules import factor_of
from skiplight.training.signals import ignore_first_signal

log = logging.getLogger(__name__)


class TrainingComponents(NamedTuple):
    """The components that a Trainer needs."""

    module: SkipGramModule
    data: SkipGramDataModule
    strategy: RankStrategy | None
    """The strategy of several ranks; None for one rank."""


def read_evaluations(config: Config) -> None:
    """Read the files of the evaluations, so that what is wrong with them is said before anything is trained.

    Raises:
        ConfigError: names the option and the file.
    """
    sets = config.evaluation
    read_sets(named_sets(sets.similarity), sets.analogy, sets.hit_rate)


def build_training(config: Config, run: Path, rank_info: RankInfo, fresh: bool = True) -> TrainingComponents:
    """Prepare the text, and build the components of a training.

    Args:
        config: all options, checked.
        run: folder of the run, from which other ranks are started.
        rank_info: this process among the ranks.
        fresh: whether the tables are initialised here instead of read from a checkpoint.

    Raises:
        ConfigError: options contradict each other.
        DataError: the text cannot be read, or holds nothing to train on.
    """
    devices, available = config.trainer.devices, torch.cuda.device_count()
    if device_type(config.trainer.accelerator) == "cuda" and devices > available:
        raise ConfigError(f"`trainer.devices={devices}`: this machine has {available} GPUs, give no more")
    world = rank_info.world
    threads = config.trainer.threads or (rank_info.threads() if world > 1 else None)
    if threads:
        torch.set_num_threads(threads)
    if fresh and config.model.init_from is not None:
        check_initial_vectors(config.model.init_from, config.model.dim)  # before a long text is prepared
    if fresh and rank_info.rank == 0:
        read_evaluations(config)
    data = SkipGramDataModule.from_config(
        config,
        world=world,
        # A rank that starts the others uses all cores until then; those that a launcher started share the work.
        threads=None if not (rank_info.started or rank_info.local_rank or config.data.streaming) else threads,
        init_worker=ignore_first_signal,
    )
    engine, sampler = data.engine, data.sampler
    assert engine is not None
    # The other ranks of a machine map the tables of its first one.
    takes_others = engine.strategy == InPlaceTables.name and engine.device == "cpu" and rank_info.local_rank > 0
    module = SkipGramModule.from_config(
        config,
        data,
        world=world,
        initialise=not takes_others,
        fresh=fresh,
        threads=threads,
        # Threads of all ranks that share these tables.
        workers=threads * rank_info.local_world if threads else None,
    )
    if world == 1:
        return TrainingComponents(module, data, None)
    options: dict[str, Any] = {
        "run": run, "timeout": config.distributed.timeout, "cluster_environment": rank_info.environment
    }  # fmt: skip
    if engine.strategy != InPlaceTables.name:
        return TrainingComponents(module, data, GradientExchange(**options))

    replicas = config.trainer.num_nodes if engine.device == "cpu" else world
    if sampler.annealed is not None and replicas > 1:
        raise ConfigError(
            f"`noise={config.noise.name}` changes during the training, and {replicas} replicas of the tables are"
            " reconciled for one distribution: give `engine=autograd`, or train on one machine's CPU or one GPU"
        )

    def make_reconciler(replicas: int, device: torch.device) -> Reconciler:
        reconciler = Reconciler(
            sampler,
            Sample.draw(sampler, data.blocks(Cursor(), 0, 1, 0, 1)),
            dim=config.model.dim,
            replicas=replicas,
            step_tokens=data.block_tokens * world,
            bytes_per_token=config.distributed.bytes_per_token,
            lr_shares=[factor_of(module.schedule, (part + 0.5) / 20) for part in reversed(range(20))],
            device=device,
        )
        log.info(
            "%d replicas of the tables: a row is exchanged after about %.3g gradients, all rows every %d steps, which"
            " sends distributed.bytes_per_token=%g",
            replicas,
            reconciler.after,
            reconciler.full,
            config.distributed.bytes_per_token,
        )
        return reconciler

    return TrainingComponents(module, data, InPlaceTables(make_reconciler, **options))


def heldout_unigram(config: Config, text: TokenText) -> HeldoutResult:
    """Return how well the frequencies of output words alone predict the held-out pairs of a run."""
    sampler = make_sampler(config, text, FullSoftmax)
    data = SkipGramDataModule(text, sampler, block_tokens=1, tokens=1)
    evaluation = config.evaluation
    pairs = heldout_pairs(data.heldout_blocks(), sampler, evaluation.heldout_pairs, evaluation.validation)
    counts = text.vocabulary.counts
    return unigram(pairs, counts * keep_probabilities(counts, config.sampling.subsample))
