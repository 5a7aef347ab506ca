"""Build the components of a training from its options: the text, the data module, the module and the strategy."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from skiplight.config.schema import Config
from skiplight.corpus.tokens import TokenText
from skiplight.corpus.vocabulary import Vocabulary
from skiplight.data.blocks import Cursor
from skiplight.data.datamodule import SkipGramDataModule
from skiplight.data.heldout import heldout_pairs
from skiplight.distributed.curvature import Sample
from skiplight.distributed.gradient_exchange import GradientExchange
from skiplight.distributed.in_place import InPlaceTables
from skiplight.distributed.rank import RankInfo
from skiplight.distributed.reconciliation import Reconciler
from skiplight.distributed.strategy import RankStrategy
from skiplight.engines import choose
from skiplight.engines.autograd import optimizer_class, takes_sparse
from skiplight.engines.base import Request
from skiplight.errors import ConfigError
from skiplight.evaluation.heldout import HeldoutResult, unigram
from skiplight.objectives import make_objective
from skiplight.objectives.base import Objective, Tables
from skiplight.objectives.full_softmax import FullSoftmax
from skiplight.registry import NOISE, OBJECTIVES, own_options
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.noise import NoiseDistribution
from skiplight.sampling.subsampling import keep_probabilities
from skiplight.sampling.windows import WindowSampler
from skiplight.training.initialize import check_initial_vectors, initialize_from
from skiplight.training.module import SkipGramModule
from skiplight.training.signals import ignore_first_signal
from skiplight.training.stability import learning_rate_warning
from skiplight.training.text import prepare_text, total_tokens

log = logging.getLogger(__name__)

STEPS = 200
"""The least number of steps over all ranks with `data.block_tokens=auto`, for a smooth learning rate and frequent
exchanges between machines."""


class TrainingComponents(NamedTuple):
    """The components that a Trainer needs."""

    module: SkipGramModule
    data: SkipGramDataModule
    strategy: RankStrategy | None
    """The strategy of several ranks; None for one rank."""


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
    if config.data.streaming and config.data.workers > 1:
        raise ConfigError(f"`data.workers={config.data.workers}`: a stream is read by one worker, which has threads")
    devices, available = config.trainer.devices, torch.cuda.device_count()
    if device_type(config.trainer.accelerator) == "cuda" and devices > available:
        raise ConfigError(f"`trainer.devices={devices}`: this machine has {available} GPUs, give no more")
    world = rank_info.world
    threads = config.trainer.threads or (rank_info.threads() if world > 1 else None)
    if threads:
        torch.set_num_threads(threads)
    objective_class = OBJECTIVES[config.objective.name].target
    bias = objective_class.default_bias if config.model.bias == "auto" else config.model.bias
    _check_objective(config, objective_class)
    if config.model.bias == "auto" and bias != "none":
        log.info("model.bias=%s: the default of %s", bias, config.objective.name)
    if config.noise.exclude == "auto" and objective_class.needs_noise and objective_class.default_exclude != "target":
        exclude = objective_class.default_exclude
        log.info("noise.exclude=%s: the correction of %s is exact with it", exclude, config.objective.name)
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
    if fresh and config.model.init_from is not None:
        check_initial_vectors(config.model.init_from)  # before a long text is prepared
    # The first rank uses all cores, since the others wait for the text.
    text = prepare_text(config, None if rank_info.rank == 0 and not config.data.streaming else threads)
    counts = text.vocabulary.counts
    sampler = make_sampler(config, text, objective_class)
    objective = build_objective(config, counts, sampler)
    total = total_tokens(config, text)
    block_tokens = config.data.block_tokens
    if block_tokens == "auto":
        block_tokens = max(1, min(engine.block_tokens, total // (STEPS * world)))
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
        f"{round(data.tokens / len(data.blocks)):,}" + (f" on each of {world} ranks" if world > 1 else ""),
        f", chosen for the {engine.name} engine" if config.data.block_tokens == "auto" else "",
    )
    keep = keep_probabilities(counts, config.sampling.subsample)
    # The other ranks of a machine map the tables of its first one.
    takes_others = engine.strategy == InPlaceTables.name and engine.device == "cpu" and rank_info.local_rank > 0
    tables = Tables(
        len(counts),
        config.model.dim,
        objective.output_rows(len(counts)),
        sparse=takes_sparse(config.optim.name),
        seed=config.seed,
        bias=None if bias == "none" else objective.unigram_bias(counts * keep),
        train_bias=bias == "learned",
        initialise=not takes_others,
    )
    warning = learning_rate_warning(
        sampler,
        counts,
        objective,
        tables,
        optimizer=config.optim.name,
        lr=config.optim.lr,
        block_tokens=block_tokens,
        ranks=world,
        per_window=engine.takes_blocks,
    )
    if warning:
        log.warning("%s", warning)
    if fresh and config.model.init_from is not None and not takes_others:
        initialize_from(config.model.init_from, tables, text.vocabulary)
    module = SkipGramModule(
        tables,
        objective,
        optimizer=config.optim.name,
        lr=config.optim.lr,
        total_tokens=total,
        # `workers` counts the threads of all ranks that share these tables.
        engine=engine.maker(sampler, threads, workers=threads * rank_info.local_world if threads else None),
    )
    if world == 1:
        return TrainingComponents(module, data, None)
    options: dict[str, Any] = {
        "run": run, "timeout": config.distributed.timeout, "cluster_environment": rank_info.environment
    }  # fmt: skip
    if engine.strategy != InPlaceTables.name:
        return TrainingComponents(module, data, GradientExchange(**options))

    def make_reconciler(replicas: int, device: torch.device) -> Reconciler:
        reconciler = Reconciler(
            sampler,
            Sample.draw(sampler, data.blocks(Cursor(), 0, 1, 0, 1)),
            dim=config.model.dim,
            replicas=replicas,
            step_tokens=block_tokens * world,
            bytes_per_token=config.distributed.bytes_per_token,
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


def make_sampler(config: Config, text: TokenText, objective: type[Objective]) -> WindowSampler:
    """Return the sampler that the options define; without negatives if the objective needs none."""
    counts = text.vocabulary.counts
    return WindowSampler(
        counts,
        seed=config.seed,
        window=config.sampling.window,
        subsample=config.sampling.subsample,
        negatives=config.noise.negatives if objective.needs_noise else 0,
        shared=config.noise.shared,  # type: ignore[arg-type]
        exclude=noise_exclude(config, objective),  # type: ignore[arg-type]
        noise=make_noise(config, text.vocabulary) if objective.needs_noise else None,
        input=config.sampling.input,  # type: ignore[arg-type]
    )


def noise_exclude(config: Config, objective: type[Objective]) -> str:
    """Return `noise.exclude`, or for `auto` the default of the objective."""
    return objective.default_exclude if config.noise.exclude == "auto" else config.noise.exclude


def heldout_unigram(config: Config, text: TokenText) -> HeldoutResult:
    """Return how well the frequencies of output words alone predict the held-out pairs of a run."""
    sampler = make_sampler(config, text, FullSoftmax)
    data = SkipGramDataModule(text, sampler, block_tokens=1, tokens=1)
    pairs = heldout_pairs(data.heldout_blocks(), sampler, config.evaluation.heldout_pairs)
    counts = text.vocabulary.counts
    return unigram(pairs, counts * keep_probabilities(counts, config.sampling.subsample))


def _check_objective(config: Config, objective: type[Objective]) -> None:
    if config.noise.exclude == "window" and objective.corrects_noise:
        raise ConfigError(
            f"`noise.exclude=window` with `objective={config.objective.name}`: its correction of the scores requires"
            " noise that leaves out at most the target; give `noise.exclude=none` or `noise.exclude=target`"
        )


def make_noise(config: Config, vocabulary: Vocabulary) -> NoiseDistribution:
    """Return the noise distribution of a vocabulary.

    Raises:
        ConfigError: its function fails, or its weights are no distribution.
    """
    entry = NOISE[config.noise.name]
    options = own_options("noise", config.noise)
    if "words" in inspect.signature(entry.target).parameters:
        options["words"] = vocabulary.words
    try:
        weights = np.asarray(entry.target(vocabulary.counts.copy(), **options))
        if weights.shape != vocabulary.counts.shape:
            raise ValueError(f"its weights are of shape {weights.shape}, and there are {len(vocabulary):,} words")
        return NoiseDistribution(weights)
    except ConfigError:
        raise
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ConfigError(f"`noise={entry.name}` ({entry.source}): {kind}{error}") from error


def build_objective(config: Config, counts: np.ndarray, sampler: WindowSampler) -> Objective:
    """Return the objective of a run, which was tried on a few windows if a plug-in brings it.

    Raises:
        ConfigError: it cannot be made, or its loss is no scalar or has no gradient.
    """
    entry = OBJECTIVES[config.objective.name]
    where = f"`objective={entry.name}` ({entry.source})"
    if entry.target.corrects_noise and not sampler.noise.probabilities.all():
        raise ConfigError(f"`noise={config.noise.name}` has words of weight 0, and {where} needs log P_n of every word")
    try:
        objective = make_objective(entry.name, counts, sampler, **own_options("objective", config.objective))
        if not entry.is_built_in:
            _try_objective(objective, counts, sampler)
    except Exception as error:
        if entry.is_built_in:
            raise
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ConfigError(f"{where}: {kind}{error}") from error
    return objective


def _try_objective(objective: Objective, counts: np.ndarray, sampler: WindowSampler) -> None:
    """Compute the loss of a few windows and its gradient.

    Raises:
        ValueError: the loss is no finite scalar, or has no gradient.
    """
    rows = objective.output_rows(len(counts))
    tables = Tables(len(counts), 2, rows, sparse=False, bias=torch.zeros(rows))
    torch.nn.init.uniform_(tables.output.weight, generator=torch.Generator().manual_seed(0))
    # Subsampling may drop frequent words, so many words are offered.
    windows = sampler(TokenBlock.of([list(range(min(len(counts), 1000)))]))
    loss = objective.loss(tables, windows)
    if not isinstance(loss.sum, torch.Tensor) or loss.sum.ndim != 0:
        shape = tuple(loss.sum.shape) if isinstance(loss.sum, torch.Tensor) else type(loss.sum).__name__
        raise ValueError(f"its loss must be one number, the sum over pairs, not of shape {shape}")
    if not loss.sum.isfinite():
        raise ValueError(f"its loss of a few windows is {loss.sum.item()}")
    if not loss.sum.requires_grad:
        raise ValueError("its loss has no gradient: compute it from the scores by operations of torch")
    loss.sum.backward()
    if tables.output.weight.grad is None or not tables.output.weight.grad.isfinite().all():
        raise ValueError("the gradient of its loss is missing or not finite")


def device_type(accelerator: str) -> str:
    """Return the device type, cpu or cuda, for `trainer.accelerator`.

    Raises:
        ConfigError: there is no such device.
    """
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise ConfigError("`trainer.accelerator=cuda`: there is no GPU that torch can use; choose cpu or auto")
    return "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"
