"""From the options of a run to its text, its noise distribution, its sampler, and the engine that they are for."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import time
from pathlib import Path

import numpy as np
import torch

from skiplight.config.schema import Config
from skiplight.corpus.prepare import prepare
from skiplight.corpus.sources.registry import open_source
from skiplight.corpus.tokens import TokenText
from skiplight.corpus.vocabulary import Vocabulary
from skiplight.engines import choose
from skiplight.engines.base import Engine, Request
from skiplight.engines.optimizers import changed_args_of, optimizer_args, optimizer_class
from skiplight.errors import ConfigError
from skiplight.files import STORES, cache_folder
from skiplight.objectives.base import Objective
from skiplight.registry import NOISE, OBJECTIVES, own_options
from skiplight.sampling.noise import STAGES, AnnealedNoise, NoiseDistribution
from skiplight.sampling.windows import WindowSampler

log = logging.getLogger(__name__)

LOG_SECONDS = 10

STEPS = 200
"""The least number of steps over all ranks with `data.block_tokens=auto`, for a smooth learning rate and frequent
exchanges between machines."""


def prepare_text(config: Config, threads: int | None = None) -> TokenText:
    """Return the token store or stream that `data.*` and `vocabulary.*` define.

    `threads` read and encode the text; the default is `trainer.threads`.
    """
    options = config.data
    own = own_options("data", options)
    source = open_source(options.source, document=options.document, cache=cache_folder(), **own)
    return prepare(
        source,
        normalise=options.normalise,
        min_count=config.vocabulary.min_count,
        max_size=config.vocabulary.max_size,
        vocabulary=Path(config.vocabulary.path) if config.vocabulary.path else None,
        grow=config.vocabulary.grow,
        heldout=options.heldout,
        stores=Path(options.store) if options.store else cache_folder() / STORES,
        streaming=options.streaming,
        threads=threads or config.trainer.threads,
        progress=ProgressLog(),
    )


class ProgressLog:
    """Log the progress of preparing a long text, every `LOG_SECONDS`."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def __call__(self, stage: str, words: int) -> None:
        if time.monotonic() - self.last >= LOG_SECONDS:
            self.last = time.monotonic()
            log.info("%s: %s words", {"vocabulary": "read and counted", "encode": "encoded"}[stage], f"{words:,}")


def total_tokens(config: Config, text: TokenText) -> int:
    """Return the number of tokens that the run consumes.

    Raises:
        ConfigError: the size of the stream is unknown.
    """
    if config.trainer.max_tokens is not None:
        return config.trainer.max_tokens
    tokens = (config.data.tokens if config.data.streaming else None) or text.tokens
    if tokens is None:
        raise ConfigError(
            "the size of the stream is not known: give `data.tokens` (tokens of an epoch) or `trainer.max_tokens`"
        )
    return tokens * config.trainer.max_epochs


def is_plain(config: Config) -> bool:
    """Return whether a run is negative sampling in its usual form: window negatives, context inputs, SGD, no bias."""
    usual_model = config.objective.name == "negative_sampling" and output_bias(config) == "none"
    usual_windows = config.noise.shared == "window" and config.sampling.input == "context"
    return usual_model and usual_windows and config.optim.name == "sgd"


def choose_engine(config: Config, world: int = 1) -> type[Engine]:
    """Return the engine of a run on `world` ranks; the log names it and the choices that depend on its objective.

    Raises:
        ConfigError: options contradict each other, or no engine supports them.
    """
    objective = OBJECTIVES[config.objective.name].target
    _check_objective(config, objective)
    bias = output_bias(config)
    if config.model.bias == "auto" and bias != "none":
        log.info("model.bias=%s: the default of %s", bias, config.objective.name)
    if config.noise.exclude == "auto" and objective.needs_noise and objective.default_exclude != "target":
        exclude = objective.default_exclude
        log.info("noise.exclude=%s: the correction of %s is exact with it", exclude, config.objective.name)
    options = config.trainer
    device = device_type(options.accelerator)
    if options.precision == "16-mixed" and device == "cpu":
        raise ConfigError("`trainer.precision=16-mixed`: torch scales such gradients on GPUs only; give bf16-mixed")
    args = optimizer_args(config.optim.name, config.optim.args)
    request = Request(
        objective,
        optimizer_class(config.optim.name),
        arguments=changed_args_of(config.optim.name, args),
        bias=bias != "none",
        input=config.sampling.input,
        device=device,
        precision=options.precision,
        clipping=options.gradient_clip_val is not None,
        accumulate=options.accumulate_grad_batches,
        ranks=world,
        machines=options.num_nodes,
        dim=config.model.dim,
        negatives=config.noise.negatives,
        window=config.sampling.window,
        deterministic=options.deterministic is True,
        threads=options.threads,
        anomaly=options.detect_anomaly,
    )
    engine = choose(config.engine.name, request)
    if options.devices * options.num_nodes > 1:
        problems = engine.unsupported(dataclasses.replace(request, strategy=engine.strategy))
        if problems:
            raise ConfigError(f"`engine={engine.name}` cannot do {', '.join(problems)}: leave it out")
    return engine


def output_bias(config: Config) -> str:
    """Return `model.bias`, or for `auto` the default of the objective."""
    return OBJECTIVES[config.objective.name].target.default_bias if config.model.bias == "auto" else config.model.bias


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


def make_noise(config: Config, vocabulary: Vocabulary) -> NoiseDistribution | AnnealedNoise:
    """Return the noise distribution of a vocabulary, after the weights of all stages of one that changes were tried.

    Raises:
        ConfigError: its function fails, or its weights are no distribution.
    """
    entry = NOISE[config.noise.name]
    options = own_options("noise", config.noise)
    parameters = inspect.signature(entry.target).parameters
    if "words" in parameters:
        options["words"] = vocabulary.words

    def weights(**given: float) -> np.ndarray:
        found = np.asarray(entry.target(vocabulary.counts.copy(), **options, **given))
        if found.shape != vocabulary.counts.shape:
            raise ValueError(f"its weights are of shape {found.shape}, and there are {len(vocabulary):,} words")
        if np.iscomplexobj(found):
            raise ValueError("its weights are complex numbers")
        return found

    try:
        if "progress" not in parameters:
            return NoiseDistribution(weights())
        annealed = AnnealedNoise(lambda progress: weights(progress=progress))
        for stage in range(STAGES):
            annealed.probabilities(stage)
        return annealed
    except ConfigError:
        raise
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ConfigError(f"`noise={entry.name}` ({entry.plugin}): {kind}{error}") from error


def _check_objective(config: Config, objective: type[Objective]) -> None:
    if config.noise.exclude == "window" and objective.corrects_noise:
        raise ConfigError(
            f"`noise.exclude=window` with `objective={config.objective.name}`: its correction of the scores requires"
            " noise that leaves out at most the target; give `noise.exclude=none` or `noise.exclude=target`"
        )


def device_type(accelerator: str) -> str:
    """Return the device type, cpu or cuda, for `trainer.accelerator`.

    Raises:
        ConfigError: there is no such device.
    """
    if accelerator in ("cuda", "gpu") and not torch.cuda.is_available():
        raise ConfigError(
            f"`trainer.accelerator={accelerator}`: there is no GPU that torch can use; choose cpu or auto"
        )
    return "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"
