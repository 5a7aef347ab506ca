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

from skiplight.assembly import assemble
from skiplight.card import model_card
from skiplight.checkpoints import Checkpointing, FolderCheckpointIO, latest
from skiplight.config import Config
from skiplight.datamodule import SkipGramDataModule
from skiplight.errors import RunError
from skiplight.evaluation.callback import Evaluation
from skiplight.loggers import log_neighbors, log_summary, open_logger
from skiplight.module import SkipGramModule
from skiplight.progress import TokenProgress
from skiplight.runs import RunFolder
from skiplight.sampling.subsampling import keep_probabilities
from skiplight.signals import StopRequest
from skiplight.tracking import Tracking
from skiplight.vectors import WordVectors

log = logging.getLogger(__name__)


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


def _fit(
    run: RunFolder,
    config: Config,
    module: SkipGramModule,
    data: SkipGramDataModule,
    *,
    checkpoint: Path | None,
    begin: float,
) -> dict[str, Any]:
    stop, tracking = StopRequest(), Tracking(run.metrics)
    evaluation = Evaluation(
        data,
        tracking,
        every=config.evaluation.every,
        similarity=config.evaluation.similarity,
        analogy=config.evaluation.analogy,
        words=config.evaluation.words,
        restrict_vocabulary=config.evaluation.restrict_vocabulary,
        pairs=config.evaluation.heldout_pairs if config.data.heldout > 0 else 0,
    )
    saving = Checkpointing(run.checkpoints, every=config.checkpoint.every, keep=config.checkpoint.keep, stop=stop)
    with open_logger(config, run) as logger:
        trainer = lightning.Trainer(
            accelerator=config.trainer.accelerator,
            devices=1,
            precision=config.trainer.precision,  # type: ignore[arg-type]
            max_epochs=math.ceil(module.total_tokens / data.tokens),
            callbacks=[tracking, TokenProgress(tracking), evaluation, saving],
            plugins=[FolderCheckpointIO()],
            logger=logger or False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            default_root_dir=run.path,
        )
        with warnings.catch_warnings():
            # Metrics are written by tracking, not by Lightning's interval of steps.
            warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
            warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")
            # The data module answers these: its loader begins where its cursor stands, and needs no workers.
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            warnings.filterwarnings("ignore", ".*`IterableDataset` has `__len__` defined.*")
            warnings.filterwarnings("ignore", ".*resuming from a checkpoint that ended before the epoch.*")
            trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
        if stop.signal is not None:
            print(f"stopped; go on with: skiplight resume {run.path}", file=sys.stderr)
            raise SystemExit(128 + stop.signal)
        evaluation.run(trainer, module)
        summary = _summary(config, trainer, module, data, tracking, evaluation)
        vectors = WordVectors(
            data.text.vocabulary, module.tables.input.weight.detach(), module.tables.output.weight.detach()
        )
        vectors.save(run.vectors, model_card(config, data.text, summary))
        summary["seconds"]["total"] = round(time.perf_counter() - begin, 3)
        log_neighbors(logger, evaluation.neighbors, module.tokens)
        log_summary(logger, summary, run, config.logger.artifact)
    run.write_summary(summary)  # last, since it marks the run as finished
    return summary


def _summary(
    config: Config,
    trainer: lightning.Trainer,
    module: SkipGramModule,
    data: SkipGramDataModule,
    tracking: Tracking,
    evaluation: Evaluation,
) -> dict[str, Any]:
    """What summary.json holds, but for the total of seconds."""
    text, seconds = data.text, tracking.seconds
    counts = text.vocabulary.counts
    kept = float((counts * keep_probabilities(counts, config.sampling.subsample)).sum() / counts.sum())
    return {
        "engine": module.engine.name,
        "device": str(trainer.strategy.root_device),
        "vocabulary_size": len(text.vocabulary),
        "tokens": module.tokens,
        "epochs": module.tokens / data.tokens,
        "seconds": {
            # What preparing the text took when it was prepared, which may have been in another run.
            **{part: round(text.seconds.get(part, 0.0), 3) for part in ("vocabulary", "encode")},
            "train": round(seconds, 3),
            "evaluate": round(evaluation.seconds, 3),
        },
        "words_per_second": round(module.tokens / seconds),
        # Tokens that subsampling keeps: the exact expectation over the vocabulary's counts.
        "effective_words_per_second": round(module.tokens * kept / seconds),
        "pairs_per_second": round(tracking.pairs / seconds),
        "loss": tracking.loss,
        "evaluation": evaluation.results,
        "neighbors": evaluation.neighbors,
    }
