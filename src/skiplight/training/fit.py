"""From a config to a finished run folder, and from an unfinished one to its end.

    train(config, run_dir)   prepares the text, makes the folder, trains, evaluates, leaves vectors and summary
    resume(run_dir)          goes on from the newest checkpoint of a run that was stopped or killed

A folder is made only when the text is ready and no option contradicts another, so bad input leaves none behind.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.loggers import Logger

from skiplight.config.schema import Config
from skiplight.config.validate import check_not_of_script, run_options
from skiplight.distributed.launcher import GRACE, RankLauncher
from skiplight.distributed.rank import RankInfo
from skiplight.distributed.strategy import RankStrategy, lost_connection
from skiplight.errors import ConfigError, DataError, PausedError, RankError, RunError, Stopped, command
from skiplight.sampling.subsampling import keep_probabilities
from skiplight.training.build import TrainingComponents, build_training
from skiplight.training.callbacks.divergence import DivergenceCheck
from skiplight.training.callbacks.epoch_evaluation import EpochEvaluation
from skiplight.training.callbacks.evaluation import Evaluation
from skiplight.training.callbacks.progress import TokenProgress
from skiplight.training.callbacks.rank_consistency import RankConsistencyCheck
from skiplight.training.callbacks.tracking import Tracking
from skiplight.training.checkpoints import Checkpointing, list_checkpoints, verify_checkpoint
from skiplight.training.extend import extend_run
from skiplight.training.loggers import check_logger, log_summary, open_loggers
from skiplight.training.run_folder import RunFolder
from skiplight.training.schedules import trunk_tokens
from skiplight.training.signals import StopRequest
from skiplight.training.stability import shortened_warning, untrained_warning
from skiplight.training.targets import make_callbacks, monitors_evaluation
from skiplight.training.trainer import (
    averages_tables,
    check_callbacks,
    check_monitors,
    early_end,
    make_trainer,
    naming_misuse,
    quiet_lightning,
    restored_determinism,
)
from skiplight.vectors.model_card import model_card
from skiplight.vectors.word_vectors import WordVectors

log = logging.getLogger(__name__)

Show = Callable[[RunFolder, Config, dict[str, Any], WordVectors, Sequence[Logger]], None]
"""Shows a run that has just ended, while its loggers are still open: `report.run.show_finished_run` makes its page."""

Watch = Callable[[Evaluation, StopRequest], lightning.Callback]
"""Makes a callback that follows the evaluations of a trial, and ends it by an exception or pauses it."""


def train(
    config: Config,
    run_dir: Path,
    *,
    verify: bool = False,
    show: Show | None = None,
    callbacks: Sequence[lightning.Callback] = (),
) -> dict[str, Any]:
    """Trains a new run and returns what its summary.json holds; on other ranks than the first, nothing.

    Where torchrun or Slurm has started the ranks, and may start them again, a run of the same options goes on.

    Args:
        config: all options, checked.
        run_dir: the folder to make.
        verify: compare the checksums of the whole store first, not only of what is read, when it is read.
        show: called with the finished run.
        callbacks: further callbacks.

    Raises:
        ConfigError, DataError, RunError: the options or the text do not allow it; there is then no folder.
    """
    begin = time.perf_counter()
    run = RunFolder(run_dir)
    place = RankInfo.detect(config.trainer.devices, config.trainer.num_nodes)
    if place.rank > 0:
        run.wait()
    if place.started and run.path.exists():
        if run_options(run.config()) != run_options(config):
            raise ConfigError(f"`run_dir={run_dir}` is a run of other options: choose another")
        return resume(run_dir, verify=verify, show=show, callbacks=callbacks)
    if place.rank > 0:
        return resume(run_dir, verify=verify, callbacks=callbacks)
    run.refuse_existing()
    if place.world > 1 and not place.started:
        check_not_of_script(config)
    check_logger(config)
    _make_callbacks(config, run, callbacks)  # what is wrong with them is said before a long text is prepared
    parts = build_training(config, run.path, place)
    if verify:
        parts.data.verify()
    run.create(config)
    with run.locked(), run.keeping_errors(place.rank):
        run.describe(config.seed)
        return _Training(run, config, parts, place, show=show, callbacks=callbacks).run(checkpoint=None, begin=begin)


def resume(
    run_dir: Path,
    watch: Watch | None = None,
    patience: float = 0,
    *,
    verify: bool = False,
    devices: int | None = None,
    num_nodes: int | None = None,
    max_epochs: int | None = None,
    show: Show | None = None,
    callbacks: Sequence[lightning.Callback] = (),
) -> dict[str, Any]:
    """Goes on with a run from its newest checkpoint, or from the beginning where it has none.

    Args:
        run_dir: the run's folder.
        watch: makes a callback that follows the evaluations, and may end the run by an exception, or pause it.
        patience: seconds to wait for another process that trains in the folder to end.
        verify: compare the checksums of the text's store and of every checkpoint first, not only of what is read.
        devices, num_nodes: on so many from now on, rather than on as many as before.
        max_epochs: number of epochs that a finished run is to have; it goes on from before its learning rate fell.
        show: called with the finished run.
        callbacks: further callbacks.

    Raises:
        RunError: there is no such run, it is finished or being trained, or its text or checkpoint is not what it was.
        Stopped: a signal asked it to stop.
    """
    begin = time.perf_counter()
    run = RunFolder(run_dir)
    if max_epochs is not None and RankInfo.detect(1, 1).rank == 0:
        with run.locked(patience):
            if run.summary.exists():
                extend_run(run, max_epochs)
            elif run.config().trainer.max_epochs != max_epochs:
                raise RunError(f"{run_dir} is not finished: go on with `{command('resume', run_dir)}`, then extend it")
    config = run.config()
    before = config.trainer.devices, config.trainer.num_nodes
    config.trainer.devices, config.trainer.num_nodes = devices or before[0], num_nodes or before[1]
    place = RankInfo.detect(config.trainer.devices, config.trainer.num_nodes)
    if place.rank > 0:
        logging.getLogger("skiplight").setLevel(logging.WARNING)  # the first rank says it for all
    with contextlib.ExitStack() as stack:
        if place.rank == 0:
            stack.enter_context(run.locked(patience))
        if run.summary.exists():
            raise RunError(f"{run_dir} is finished already: there is nothing to resume")
        stack.enter_context(run.keeping_errors(place.rank))
        if place.rank == 0:
            run.clean()
            run.describe(config.seed)
            if (config.trainer.devices, config.trainer.num_nodes) != before:
                run.rewrite(config)
        found = list_checkpoints(run.checkpoints)
        checkpoint = found[-1] if found else None
        parts = build_training(config, run.path, place, fresh=checkpoint is None)
        if verify:
            parts.data.verify()
            for path in found:
                verify_checkpoint(path)
        if place.rank == 0:
            log.info("going on from %s", checkpoint or "the beginning: the run has no checkpoint yet")
        return _Training(run, config, parts, place, watch, show, callbacks).run(checkpoint=checkpoint, begin=begin)


def _make_callbacks(
    config: Config, run: RunFolder, further: Sequence[lightning.Callback] = ()
) -> list[lightning.Callback]:
    """Return the callbacks of the option `callbacks`, and those of a program, checked."""
    if not isinstance(further, list | tuple) or not all(isinstance(one, lightning.Callback) for one in further):
        raise TypeError(f"callbacks={further!r}: give a list of instances of lightning.Callback")
    made = make_callbacks(config.callbacks, checkpoints=run.checkpoints, has_logger=bool(config.logger))
    made += further
    check_callbacks(made, config)
    check_monitors(made)
    return made


class _Training:
    """A training in its folder."""

    def __init__(
        self,
        run: RunFolder,
        config: Config,
        parts: TrainingComponents,
        place: RankInfo,
        watch: Watch | None = None,
        show: Show | None = None,
        callbacks: Sequence[lightning.Callback] = (),
    ) -> None:
        self.show, self.callbacks = show, _make_callbacks(config, run, callbacks)
        self.folder, self.config, self.place = run, config, place
        self.module, self.data, self.strategy = parts
        data = self.data
        self.stop, self.divergence = StopRequest(saves=True), DivergenceCheck(data.sampler)
        self.tracking = Tracking(run.metrics, self.divergence, shares=bool(self.callbacks))
        self.data.repeats_blocks = bool(config.trainer.overfit_batches)
        evaluation = config.evaluation
        kind = EpochEvaluation if any(map(monitors_evaluation, self.callbacks)) else Evaluation
        self.evaluation = kind(
            data,
            self.tracking,
            every=evaluation.every,
            words=evaluation.words,
            interrupted=lambda: self.stop.is_requested,
        )
        if isinstance(self.evaluation, EpochEvaluation):
            self.evaluation.changes_tables = any(map(averages_tables, self.callbacks))
        # Behind the evaluation, which it follows, and before the checkpoint, so that none is of a run it has ended.
        self.watching = [watch(self.evaluation, self.stop)] if watch else []

    def run(self, checkpoint: Path | None, begin: float) -> dict[str, Any]:
        """Trains from a checkpoint, or the beginning, to the end; the first rank returns what summary.json holds."""
        folder, module, data = self.folder, self.module, self.data
        first = self.place.rank == 0
        logged = first and not self.config.trainer.fast_dev_run  # which logs nothing, as Lightning's users expect
        opened: contextlib.AbstractContextManager[list[Logger]]
        opened = open_loggers(self.config, folder) if logged else contextlib.nullcontext([])
        with self.stop.installed(), quiet_lightning(), restored_determinism(), opened as loggers:
            with naming_misuse(self.callbacks):
                trainer = self._trainer(loggers)
            self._fit(trainer, checkpoint)
            if not first:
                return {}
            early = early_end(trainer, module, self.config.trainer)
            if module.tokens == 0:
                raise ConfigError(f"{early} ended the training before its first step: there is nothing to evaluate")
            if self.tracking.pairs == 0:
                raise DataError(f"not one of {module.tokens:,} tokens had a neighbour: {self._why_no_pairs()}")
            summary = self._summary(str(trainer.strategy.root_device))
            if early:
                summary["ended_early"] = early
                log.info(
                    "%s ended the training after %s of %s tokens: it is evaluated there, at a learning rate of %.2g",
                    early, f"{module.tokens:,}", f"{module.total_tokens:,}", module.lr_at(module.tokens),
                )  # fmt: skip
            if told := shortened_warning(summary["shortened"], per_window=module.engine.takes_blocks):
                log.warning("%s", told)
            untrained = min(blank.mean for blank in self.divergence.blanks)
            if told := untrained_warning(summary["loss"], untrained, self._share_kept):
                log.warning("%s", told)
            inputs, outputs = module.tables.input.weight.detach(), module.tables.output.weight.detach()
            per_word = len(outputs) == len(inputs)  # a tree's inner nodes are no words
            card = model_card(self.config, data.text, summary)
            vectors = WordVectors(data.text.vocabulary, inputs, outputs if per_word else None)
            vectors.save(folder.vectors, card)
            summary["seconds"]["total"] = round(time.perf_counter() - begin, 3)
            if self.show is not None:
                self.show(folder, self.config, summary, vectors, loggers)
            artifact = bool(self.config.logger.get("wandb", {}).get("artifact"))
            log_summary(loggers, summary, folder, artifact)
        folder.write_summary(summary)  # last, since it marks the run as finished
        return summary

    def _trainer(self, loggers: Sequence[Logger]) -> lightning.Trainer:
        options, schedule = self.config.checkpoint, self.config.optim.schedule
        saving = Checkpointing(
            self.folder.checkpoints,
            every=options.every,
            keep=options.keep,
            stop=self.stop,
            trunk=trunk_tokens(schedule, self.module.total_tokens) if schedule.name == "wsd" else 0,
            healthy=lambda: not self.divergence.is_above,
        )
        first = [self.divergence, self.tracking]
        has_bar = self.place.rank == 0 and self.config.trainer.enable_progress_bar
        shown = [TokenProgress(self.tracking)] if has_bar else []
        roll_call = [RankConsistencyCheck(self.folder, self.data.text.fingerprint)] if self.strategy is not None else []
        averaging = [callback for callback in self.callbacks if averages_tables(callback)]
        others = [callback for callback in self.callbacks if callback not in averaging]
        # Averaged tables are what is evaluated, so those callbacks come first.
        callbacks = [*roll_call, *first, *shown, *averaging, self.evaluation, *self.watching, *others, saving]
        return make_trainer(self.config, self.folder.path, callbacks=callbacks, loggers=loggers, strategy=self.strategy)

    def _fit(self, trainer: lightning.Trainer, checkpoint: Path | None) -> None:
        with warnings.catch_warnings():
            # Metrics are written by tracking, not by Lightning's interval of steps.
            warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
            warnings.filterwarnings("ignore", ".*Checkpoint directory .* exists and is not empty.*")
            warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")
            # The data module answers these: its loader begins where its cursor stands, and needs no workers.
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            warnings.filterwarnings("ignore", ".*`IterableDataset` has `__len__` defined.*")
            warnings.filterwarnings("ignore", ".*resuming from a checkpoint that ended before the epoch.*")
            # torch's own Adagrad squares a sparse gradient into a sparse tensor whose indices are known to be good.
            warnings.filterwarnings("ignore", "Sparse invariant checks are implicitly disabled.*")
            with _with_other_ranks(self.strategy), naming_misuse(self.callbacks), _refusing(checkpoint, trainer):
                trainer.fit(self.module, self.data, ckpt_path=checkpoint, weights_only=True)
        if self.stop.signal is not None:
            raise Stopped(f"stopped; go on with: {command('resume', self.folder.path)}", self.stop.signal)
        if self.stop.pause is not None:
            raise PausedError(self.stop.pause)

    def _summary(self, device: str) -> dict[str, Any]:
        """What summary.json holds, but for the total of seconds."""
        module, data, tracking = self.module, self.data, self.tracking
        text, seconds = data.text, tracking.seconds
        return {
            "engine": module.engine.name,
            "device": device,
            "threads": module.engine.threads,
            "vocabulary_size": len(text.vocabulary),
            "tokens": module.tokens,
            # Complete passes only, where the size of the text is not known.
            "epochs": module.tokens / text.tokens if text.tokens else data.cursor.epoch,
            "seconds": {
                # What preparing the text took when it was prepared, which may have been in another run.
                **{part: round(text.seconds.get(part, 0.0), 3) for part in ("vocabulary", "encode")},
                "train": round(seconds, 3),
                "evaluate": round(self.evaluation.seconds, 3),
            },
            "words_per_second": round(module.tokens / seconds),
            # Tokens that subsampling keeps: the exact expectation over the vocabulary's counts.
            "effective_words_per_second": round(module.tokens * self._share_kept / seconds),
            "pairs_per_second": round(tracking.pairs / seconds),
            "scores_per_pair": module.objective.scores_per_pair(data.sampler),
            "loss": tracking.epoch_loss,
            # By table: the share of the gradients that shortened steps left out, and the most rows shortened in a step.
            "shortened": module.engine.shortening.shares(),
            "evaluation": self.evaluation.results,
            "neighbors": self.evaluation.neighbors,
        } | self._exchanged()

    @functools.cached_property
    def _share_kept(self) -> float:
        """The share of the tokens that subsampling keeps."""
        counts = self.data.text.vocabulary.counts
        return float((counts * keep_probabilities(counts, self.config.sampling.subsample)).sum() / counts.sum())

    def _why_no_pairs(self) -> str:
        if self._share_kept < 0.5:
            return (
                f"`sampling.subsample={self.config.sampling.subsample:g}` drops {1 - self._share_kept:.1%} of"
                " them; give 0, which keeps all, or a higher value"
            )
        return (
            "documents of one word do not train; give documents of several (`data.document`), and for sequences what"
            " separates their items (`data.separator`)"
        )

    def _exchanged(self) -> dict[str, Any]:
        """What a machine (or GPU) sent to the others since it was last started; nothing where there is one rank."""
        if self.strategy is None:
            return {}
        return {
            "distributed": {
                "ranks": self.place.world,
                "strategy": self.strategy.name,
                "replicas": self.strategy.replicas,
                "bytes_sent": self.strategy.machine_bytes_sent,
            }
        }


@contextlib.contextmanager
def _refusing(checkpoint: Path | None, trainer: lightning.Trainer) -> Iterator[None]:
    """Name the checkpoint in an error that comes before the training from it begins.

    Raises:
        RunError: the checkpoint's state does not fit.
    """
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        begun = any(saving.has_begun for saving in trainer.callbacks if isinstance(saving, Checkpointing))  # type: ignore[attr-defined]
        if checkpoint is None or begun:
            raise
        raise RunError(
            f"{checkpoint} does not fit its run ({type(error).__name__}: {error}): delete it to go on from the"
            " checkpoint before it"
        ) from error


@contextlib.contextmanager
def _with_other_ranks(strategy: RankStrategy | None) -> Iterator[None]:
    """Ends the ranks that this process has started when its own training has ended; leaves the environment as it was.

    Raises:
        RankError: another rank has died, or cannot be reached.
    """
    if strategy is None:
        yield
        return
    launcher = strategy.launcher if isinstance(strategy.launcher, RankLauncher) else None
    before = dict(os.environ)
    try:
        yield
    except RuntimeError as error:  # gloo and NCCL raise no class of their own for a lost connection
        dead = launcher.dead(GRACE) if launcher else None
        if dead is None and not lost_connection(error):
            raise
        what = dead or "the connection to another rank is lost"
        raise RankError(
            f"{what}; when the cause is found, go on with: {command('resume', strategy.run or 'RUN')}"
        ) from error
    else:
        if launcher:
            launcher.end(patience=60)
    finally:
        if launcher:
            launcher.end(patience=0)
        for name in os.environ.keys() - before:
            del os.environ[name]  # torch and Lightning have set where the ranks meet: the next training is another
        os.environ.update(before)
