"""`SkipGramModule`: the two tables, an objective and the engine that moves them, as a LightningModule.

Optimisation is automatic, so that global_step, schedulers, checkpoints and loggers behave as Lightning's users expect.
If an engine has already moved the tables in `training_step`, the backward pass does nothing.

The learning rate follows the schedule over tokens, as long as the optimiser is the one that the class makes. Where
one's own `configure_optimizers` returns another, or a torch scheduler beside it, nothing here sets the rate.

With `accumulate_grad_batches=N` a step consists of N blocks: their losses, tokens and gradients add up to those of one
block of all their segments. All of them count as consumed at the optimiser's step, so no step is half consumed.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import lightning
import numpy as np
import torch
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision
from lightning.pytorch.strategies import SingleDeviceStrategy, Strategy
from torch import Tensor

from skiplight.config.schema import Config
from skiplight.config.validate import from_mapping, run_options
from skiplight.corpus.vocabulary import Vocabulary
from skiplight.data.datamodule import SkipGramDataModule
from skiplight.data.from_config import output_bias, total_tokens
from skiplight.data.heldout import HeldoutPairs
from skiplight.distributed import by_name
from skiplight.distributed.strategy import evaluating_ranks, final_tables
from skiplight.engines.autograd import AutogradEngine
from skiplight.engines.base import Engine, GradientCounts, Request, StepResult
from skiplight.engines.optimizers import changed_args, keeps_sparse, make_optimizer, optimizer_args, takes_sparse
from skiplight.errors import ConfigError, DivergedError, EvaluationError, RunError
from skiplight.evaluation.default_sets import choose_similarity
from skiplight.evaluation.heldout import HeldoutLoss
from skiplight.evaluation.suite import EvaluationSuite, evaluation_metrics
from skiplight.objectives.base import Objective, Tables
from skiplight.process import usable_cores
from skiplight.sampling.batches import TokenBlock, Windows
from skiplight.sampling.subsampling import keep_probabilities
from skiplight.sampling.windows import WindowSampler
from skiplight.training.checkpoints import FolderCheckpointIO
from skiplight.training.initialize import initialize_from
from skiplight.training.objective import build_objective
from skiplight.training.schedules import Schedule, factor_of, largest_factor, linear, make_schedule
from skiplight.training.stability import learning_rate_warning
from skiplight.vectors.word_vectors import WordVectors

log = logging.getLogger(__name__)

by_name.register()

COPYING = (DoublePrecision.convert_input, HalfPrecision.convert_input)
"""What Lightning does to batches at precisions 64-true, 16-true and bf16-true; it cannot copy ours."""


def learning_rate(lr: float, tokens: int, total: int, schedule: Schedule = linear) -> float:
    """Return the learning rate after `tokens` of `total`.

    >>> learning_rate(0.1, 50, 100)
    0.05
    """
    return lr * factor_of(schedule, min(tokens / total, 1.0))


class SkipGramModule(lightning.LightningModule):
    """Train two tables with an objective.

    Args:
        tables: the input and output vectors.
        objective: the scoring rule.
        optimizer: name of a class of torch.optim.
        args: its further arguments.
        lr: learning rate, which the schedule multiplies.
        schedule: from the share of the run's tokens to a factor of the learning rate.
        total_tokens: tokens of the whole run.
        engine: a callable that makes the engine: its class, or the result of `Engine.maker`.
        sampler: makes the windows, for noise that changes during the training.

    Attributes:
        tokens: tokens consumed so far, over all ranks.
        loss_sum, pairs: float64 [] and integer, loss and pairs of this process in complete steps since `take_loss`.
        evaluation: what the validation evaluates besides the held-out loss; `add` adds to it.
        vocabulary: the words of the tables, for `evaluation`.
        is_tracked: whether a `Tracking` callback logs the progress; else the module does, as any LightningModule.
    """

    def __init__(
        self,
        tables: Tables,
        objective: Objective,
        *,
        optimizer: str = "sgd",
        args: Mapping[str, Any] | None = None,
        lr: float = 0.025,
        schedule: Schedule = linear,
        total_tokens: int,
        engine: Callable[[Objective, Tables, torch.optim.Optimizer], Engine] = AutogradEngine,
        sampler: WindowSampler | None = None,
    ) -> None:
        super().__init__()
        self.tables, self.objective = tables, objective
        self.optimizer, self.args = optimizer, dict(args or {})
        self.lr, self.schedule, self.total_tokens = lr, schedule, total_tokens
        self._scheduled: torch.optim.Optimizer | None = None  # the optimiser that the schedule is for
        self.make_engine, self.sampler = engine, sampler
        self.tokens = 0
        self.loss_sum = torch.zeros((), dtype=torch.float64)
        self.pairs: Tensor | int = 0
        self._engine: Engine | None = None
        self.gradient_counts: GradientCounts = {}  # summed over the backward passes of a step
        self._batch: TokenBlock | Windows | None = None
        self._waiting: list[tuple[TokenBlock, StepResult]] = []  # blocks of the current, incomplete step
        self._batch_tokens = 0
        self._shortening: dict[str, Any] | None = None  # from a checkpoint, until the engine exists
        self._next_check = 0.0  # time of the next check of the tables
        self.is_tracked = False
        self._interval = _Interval()
        self._heldout = HeldoutLoss()
        self.evaluation = EvaluationSuite()
        self.vocabulary: Vocabulary | None = None

    @classmethod
    def from_config(
        cls,
        config: Config,
        data: SkipGramDataModule,
        *,
        world: int = 1,
        initialise: bool = True,
        fresh: bool = True,
        threads: int | None = None,
        workers: int | None = None,
    ) -> Self:
        """Return the module of a run on the text of `data`.

        Args:
            config: all options, as `skiplight.compose` returns them.
            data: made by `SkipGramDataModule.from_config` of the same options.
            world: how many ranks train.
            initialise: whether to initialise the tables; False leaves their memory untouched, to be replaced later.
            fresh: whether to begin with the vectors of `model.init_from`; False if a checkpoint is to be read.
            threads: of the CPU engine; default: `trainer.threads`, else all cores, or this rank's share of them.
            workers: threads of all ranks that share these tables; default: those of all ranks.

        Raises:
            ConfigError: options contradict each other, or a plug-in is wrong.
            ValueError: `data` was not made from options.
        """
        threads = threads or config.trainer.threads
        if world > 1:
            threads = threads or max(1, len(usable_cores()) // world)
            workers = workers or threads * world
        if data.engine is None:
            raise ValueError("the data module was not made by SkipGramDataModule.from_config: it knows no engine")
        counts = data.text.vocabulary.counts
        objective = build_objective(config, counts, data.sampler)
        bias, optimizer = output_bias(config), config.optim.name
        args, total = optimizer_args(optimizer, config.optim.args), total_tokens(config, data.text)
        schedule = make_schedule(config.optim.schedule, total)
        if takes_sparse(optimizer) and not takes_sparse(optimizer, args):
            log.info("dense gradients: %s with %s moves every row in every step", optimizer, ", ".join(args))
        kept = counts * keep_probabilities(counts, config.sampling.subsample)
        tables = Tables(
            len(counts),
            config.model.dim,
            objective.output_rows(len(counts)),
            sparse=takes_sparse(optimizer, args),
            seed=config.seed,
            bias=None if bias == "none" else objective.unigram_bias(kept),
            train_bias=bias == "learned",
            initialise=initialise,
        )
        warning = learning_rate_warning(
            data.sampler,
            counts,
            objective,
            tables,
            optimizer=optimizer,
            lr=config.optim.lr * largest_factor(schedule),
            block_tokens=data.block_tokens,
            ranks=world,
            per_window=data.engine.takes_blocks,
        )
        if warning:
            log.warning("%s", warning)
        if fresh and initialise and config.model.init_from is not None:
            initialize_from(config.model.init_from, tables, data.text.vocabulary)
        module = cls(
            tables,
            objective,
            optimizer=optimizer,
            args=args,
            lr=config.optim.lr,
            schedule=schedule,
            total_tokens=total,
            engine=data.engine.maker(data.sampler, threads, workers=workers),
            sampler=data.sampler,
        )
        options = config.evaluation
        module.vocabulary = data.text.vocabulary
        module.evaluation = EvaluationSuite.of(
            choose_similarity(
                options.similarity,
                data.text.vocabulary,
                "`evaluation.similarity=[wordsim353,simlex999]` evaluates both",
            ),
            options.analogy,
            options.restrict_vocabulary,
            options.hit_rate,
            options.metrics,
        )
        module.save_hyperparameters(run_options(config))
        return module

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path,
        map_location: str | torch.device = "cpu",
        *,
        data: SkipGramDataModule | None = None,
    ) -> Self:
        """Return the module of a checkpoint that one's own Trainer has saved, with its tables.

        Args:
            checkpoint_path: a file that Lightning's ModelCheckpoint or `trainer.save_checkpoint` has written, or a
                folder in the `checkpoints/` of a run.
            map_location: the device of the tables.
            data: the text; default: that of the options in the checkpoint, which is prepared if need be.

        Raises:
            RunError: the file is no checkpoint, or has no options, or does not fit the text.
        """
        if Path(checkpoint_path).is_dir():
            checkpoint = FolderCheckpointIO().load_checkpoint(checkpoint_path, map_location)
        else:
            try:
                checkpoint = torch.load(checkpoint_path, map_location=map_location, weights_only=True)
            except FileNotFoundError:
                raise
            except Exception as error:  # of many kinds, by what the file is instead
                raise RunError(f"{checkpoint_path} is no checkpoint of Lightning, or a damaged one") from error
        if not checkpoint.get("hyper_parameters"):
            raise RunError(f"{checkpoint_path} has no options: only modules of `SkipGramModule.from_config` save them")
        config = from_mapping(dict(checkpoint["hyper_parameters"]))
        module = cls.from_config(config, data or SkipGramDataModule.from_config(config), fresh=False)
        module.on_load_checkpoint(checkpoint)
        module.load_state_dict(checkpoint["state_dict"])
        return module.to(map_location)

    @property
    def batch_tokens(self) -> int:
        """The tokens of the current step, or else of the last one, over all ranks."""
        return self._waiting_tokens() if self._waiting else self._batch_tokens

    def _waiting_tokens(self) -> int:
        return sum(block.tokens for block, _ in self._waiting)

    @property
    def is_accumulating(self) -> bool:
        """Whether the current step is incomplete; tables and counters are still those before it."""
        return bool(self._waiting)

    @property
    def strategy_name(self) -> str:
        """The name of the strategy by which several devices train with this module's engine."""
        engine: Any = getattr(self.make_engine, "func", self.make_engine)  # a class, or what `Engine.maker` makes of it
        return str(engine.strategy)

    @property
    def engine(self) -> Engine:
        """The engine, which is made for the optimiser when training begins."""
        if self._engine is None:
            raise RuntimeError("the engine is made when training begins")
        return self._engine

    def configure_optimizers(self) -> Any:
        """Return the optimiser of the options, whose learning rate the schedule sets.

        A subclass may return all that Lightning takes. A torch scheduler beside an optimiser, this one or another, sets
        the rate instead of the schedule.
        """
        self._scheduled = make_optimizer(self.optimizer, self.tables.parameters(), self.lr, self.args)
        self._use_optimizer(self._scheduled)
        return self._scheduled

    def _use_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Make the engine for an optimiser, which may be one's own."""
        if self.tables.sparse and not keeps_sparse(type(optimizer), changed_args(optimizer)):
            log.info("dense gradients: %s takes no sparse ones, or not with its arguments", type(optimizer).__name__)
            self.tables.make_dense()
        self._engine = self.make_engine(self.objective, self.tables, optimizer)
        if self._shortening is not None:
            self._engine.shortening.load_state_dict(self._shortening)
        if self._trainer is not None:
            self._refuse_trainer(self._trainer)

    def _refuse_trainer(self, trainer: lightning.Trainer) -> None:
        """Raise a `ConfigError` for arguments of the Trainer that the engine does not support."""
        optimizer = self.engine.optimizer
        request = Request(
            type(self.objective),
            type(optimizer),
            arguments=changed_args(optimizer),
            device=self.device.type,
            precision=str(trainer.precision),
            strategy=_name_of(trainer.strategy),
            ranks=trainer.world_size,
            machines=trainer.num_nodes,
            clipping=bool(trainer.gradient_clip_val),
            accumulate=trainer.accumulate_grad_batches,
            deterministic=torch.are_deterministic_algorithms_enabled(),
            threads=getattr(self.engine, "workers", None),
            anomaly=bool(getattr(trainer, "_detect_anomaly", False)),
        )
        problems = self.engine.unsupported(request)
        if self.engine.takes_blocks and len({float(group["lr"]) for group in optimizer.param_groups}) > 1:
            problems.append("parameter groups with different learning rates")
        if overfit := getattr(trainer, "overfit_batches", 0):
            raise ConfigError(
                f"`overfit_batches={overfit}`: Lightning would read a data set in its order, and blocks"
                " are a stream: give `limit_train_batches`, or use `skiplight train trainer.overfit_batches=...`"
            )
        if is_copied := type(trainer.precision_plugin).convert_input in COPYING:
            problems = [f"precision {trainer.precision}"]
        if problems:
            able = self.engine.name != AutogradEngine.name and not (is_copied or AutogradEngine.unsupported(request))
            raise ConfigError(
                f"`engine={self.engine.name}` cannot do {', '.join(problems)}, which the Trainer asks for: "
                + ("`engine=autograd` can" if able else "make the Trainer without it")
            )

    @property
    def follows_schedule(self) -> bool:
        """Whether the schedule sets the learning rate, not a torch scheduler or an optimiser of one's own."""
        if self._engine is not None and self._engine.optimizer is not self._scheduled:
            return False
        return self._trainer is None or not self._trainer.lr_scheduler_configs

    def lr_at(self, tokens: int) -> float:
        """Return the learning rate after `tokens` tokens of the run, or the current one without `follows_schedule`."""
        if not self.follows_schedule:
            return float(self.engine.optimizer.param_groups[0]["lr"])
        return learning_rate(self.lr, tokens, self.total_tokens, self.schedule)

    def on_fit_start(self) -> None:
        optimizer = self.optimizers(use_pl_optimizer=False)
        if isinstance(optimizer, list):
            raise ConfigError(f"`configure_optimizers` returns {len(optimizer)} optimisers: the tables take one")
        if not optimizer.param_groups:
            raise ConfigError("`configure_optimizers` returns no optimiser: the tables take one")
        if self._engine is None or self._engine.optimizer is not optimizer:
            self._use_optimizer(optimizer)
        self.follow_noise()

    def follow_noise(self) -> None:
        """Enter the stage that noise which changes during the training has after the tokens consumed so far."""
        if self.sampler is not None and self.sampler.annealed is not None:
            self.enter_noise_stage(self.sampler.annealed.stage(self.tokens, self.total_tokens))

    def enter_noise_stage(self, stage: int) -> None:
        """Draw negatives from the distribution of a stage, and correct scores by it."""
        if self.sampler is not None and self.sampler.enter_stage(stage):
            self.objective.set_noise(self.sampler.noise.probabilities)
            if self._engine is not None:
                self._engine.change_noise()

    def on_train_start(self) -> None:
        self._interval = _Interval(self.tokens)
        self.loss_sum = self.loss_sum.to(self.device)
        self._waiting.clear()
        if self.tokens >= self.total_tokens:
            self.trainer.should_stop = True  # a run that was stopped after its last step

    def on_train_epoch_start(self) -> None:
        if self.trainer.accumulate_grad_batches > 1:  # a callback may have changed it
            self._refuse_trainer(self.trainer)

    def on_train_batch_start(self, batch: TokenBlock | Windows, batch_idx: int) -> None:
        block = _block_of(batch)
        after = getattr(block, "after", None)
        if self.trainer.accumulate_grad_batches > 1 and after is not None and after.epoch > block.epoch:
            # Lightning makes a step of the remaining batches at the end of an epoch, but its count restarts in a run
            # that continues after a callback has stopped it.
            self.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True

    def training_step(self, batch: TokenBlock | Windows, batch_idx: int) -> Tensor:
        self._batch = batch
        if not self._waiting:
            self.gradient_counts = {}
        # The learning rate covers the blocks of the step so far; at its last block, all its tokens.
        after = self.tokens + self._waiting_tokens() + _block_of(batch).tokens
        self.engine.sets_rate = self.follows_schedule
        result = self.engine.step(batch, self.lr_at(self.tokens), self.lr_at(after))
        self._waiting.append((_block_of(batch), StepResult(result.loss_sum, result.pairs)))
        loss = result.loss if result.loss is not None else torch.as_tensor(result.loss_sum)
        batches = 1 if self._trainer is None else self._trainer.accumulate_grad_batches
        # Lightning divides by the number of batches, as for mean losses; this loss is a sum over pairs.
        return loss * batches if batches > 1 else loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        if loss.requires_grad:
            super().backward(loss, *args, **kwargs)
        assert self._batch is not None
        counts = self.engine.gradient_counts(self._batch)
        for table, summed in self.gradient_counts.items():
            counts[table] += summed
        self.gradient_counts = counts

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        self.engine.prepare_step(self.gradient_counts)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        # The tables have moved, so a state that is saved from now on counts the blocks as consumed.
        self._batch_tokens = self._waiting_tokens()
        self.tokens += self._batch_tokens
        for _, result in self._waiting:
            self.loss_sum += result.loss_sum
            self.pairs += result.pairs
            if not self.is_tracked:
                self._interval.add(result)
        last, _ = self._waiting[-1]
        self._waiting.clear()
        self.follow_noise()
        if self._datamodule is not None:
            self._datamodule.consumed(last)

    @property
    def _datamodule(self) -> Any:
        """The data module that keeps its position in the text; None if the blocks come from another loader."""
        datamodule = getattr(self.trainer, "datamodule", None)
        return datamodule if hasattr(datamodule, "consumed") else None

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        if self.loss_sum.device.type == "cpu":
            begin = time.monotonic()
            self.check_finite()
            if begin >= self._next_check:  # at most 1% of the time
                self.check_tables_finite()
                self._next_check = begin + 100 * (time.monotonic() - begin)
        if self.tokens >= self.total_tokens:
            self.trainer.should_stop = True
        every = getattr(self.trainer, "log_every_n_steps", 0)
        if not (self.is_tracked or self._waiting) and every and self.trainer.global_step % every == 0:
            self._log_progress()

    def _log_progress(self) -> None:
        """Log the loss per pair over all ranks, the learning rate and the speed since the last time."""
        loss, pairs = self._sum_over_ranks(self._interval.loss, self._interval.pairs)
        if pairs:
            speed = (self.tokens - self._interval.tokens) / max(time.perf_counter() - self._interval.begin, 1e-9)
            metrics = {"train/loss": loss / pairs, "lr": self.lr_at(self.tokens), "words_per_second": speed}
            self.log_dict(metrics | {"tokens": float(self.tokens)}, batch_size=1)
        self._interval = _Interval(self.tokens)

    def validation_step(self, batch: HeldoutPairs, batch_idx: int) -> None:
        rank, world, group = evaluating_ranks(self.trainer)
        if group is None:  # not a strategy of skiplight: every rank has all pairs and all of the tables
            rank, world = self.trainer.global_rank, self.trainer.world_size
        with final_tables(self.trainer, self.tables) as tables:
            if rank is not None:  # the metric adds up the shares of all ranks
                self._heldout.update(self.objective, tables, batch, rank=rank, world=world)

    def on_validation_epoch_end(self) -> None:
        try:
            result = self._heldout.result()
        except EvaluationError as error:
            raise self.divergence_error(str(error)) from None
        finally:
            self._heldout.reset()
        metrics = result.metrics()
        self.log_dict(metrics, prog_bar=True, batch_size=1)
        if len(self.evaluation):
            self._evaluate()

    def _evaluate(self) -> None:
        """Log the results of `evaluation` as `evaluation/NAME`."""
        if self.vocabulary is None:
            raise ValueError("to evaluate vectors the module needs their words: set its `vocabulary`")
        ranks = evaluating_ranks(self.trainer)
        with final_tables(self.trainer, self.tables) as tables:
            results = self.evaluation(WordVectors(self.vocabulary, tables.input.weight), ranks)
        if self.trainer.is_global_zero:
            self.evaluation.warn(results)
        self.log_dict(evaluation_metrics(results), batch_size=1)

    def on_train_epoch_end(self) -> None:
        if not self.is_tracked:
            self._log_progress()
        if self.trainer.should_stop:
            return
        # Lightning makes a step of the remaining blocks at the announced end of an epoch; a stream may end earlier.
        if self._waiting:
            log.warning(
                "the epoch ended %d of `accumulate_grad_batches=%d` blocks into a step: they are left out",
                len(self._waiting),
                self.trainer.accumulate_grad_batches,
            )
            self._waiting.clear()
        if self._datamodule is not None:
            self._datamodule.end_epoch()

    def check_finite(self) -> None:
        """Check the loss, at every step on the CPU; on other devices, to avoid waiting for them, before every save.

        Raises:
            DivergedError: the loss is not finite.
        """
        if not math.isfinite(float(self.loss_sum)):
            raise self.divergence_error(f"the loss is {float(self.loss_sum)}")

    def check_tables_finite(self) -> None:
        """Check the tables before every save, since a step with a finite loss may leave tables that are not finite.

        Raises:
            DivergedError: a number in the tables is not finite.
        """
        for table in self.tables.parameters():
            if not all(math.isfinite(float(end)) for end in table.detach().aminmax()):
                raise self.divergence_error("vectors are not finite")

    def divergence_error(self, problem: str) -> DivergedError:
        """Return an error that states `problem`, the position in the text, and the options to lower."""
        ranks = ""
        if self._trainer is not None and self._trainer.world_size > 1:
            ranks = ", or train on fewer ranks (`trainer.devices`, `trainer.num_nodes`)"
        block = _block_of(self._batch) if self._batch is not None else TokenBlock.of([])
        return DivergedError(
            f"{problem} at block {block.index}, epoch {block.epoch} ({self.tokens:,} tokens);"
            f" `optim.lr={self.lr}` is too high with {self.optimizer} and steps of {self.batch_tokens:,} tokens;"
            f" lower `optim.lr` or `data.block_tokens`{ranks}"
        )

    def take_loss(self) -> tuple[float, int]:
        """Return the summed loss and the number of pairs over all ranks since the last call, and reset both.

        All ranks must call this at the same tokens.
        """
        self.check_finite()
        loss, pairs = self._over_ranks()
        self.loss_sum.zero_()
        self.pairs = 0
        return loss, pairs

    def _over_ranks(self) -> tuple[float, int]:
        return self._sum_over_ranks(self.loss_sum, self.pairs)

    def _sum_over_ranks(self, loss_sum: Tensor | float, pair_sum: Tensor | int) -> tuple[float, int]:
        both = torch.tensor([float(loss_sum), int(pair_sum)], dtype=torch.float64)
        if self._trainer is not None:
            both = self._trainer.strategy.reduce(both, reduce_op="sum")
        loss, pairs = both.tolist()
        return loss, int(pairs)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.check_finite()
        self.check_tables_finite()
        loss, pairs = self._over_ranks()
        world = 1 if self._trainer is None else self._trainer.world_size
        checkpoint["skiplight"] = {"tokens": self.tokens, "loss_sum": loss, "pairs": pairs, "world_size": world}
        checkpoint["skiplight"]["noise"] = self._noise_statistics()
        checkpoint["skiplight"]["shortening"] = self.engine.shortening.state_dict() if self._engine else None
        if self._waiting and "loops" in checkpoint:
            # A user's callback saves between the batches of a step, so the saved state is the one before the step.
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            for counts in (progress["current"], progress["total"]):
                counts.update({name: count - len(self._waiting) for name, count in counts.items()})

    def _noise_statistics(self) -> list[float] | None:
        """Return the entropy of the noise at the beginning and its mean id, by which another is noticed; None without.

        A checksum would differ between processors, whose powers and logarithms are not the same to the last bit.
        """
        if self.sampler is None or not self.sampler.negatives:
            return None
        annealed = self.sampler.annealed
        probabilities = self.sampler.noise.probabilities if annealed is None else annealed.probabilities(0)
        drawn = probabilities[probabilities > 0]
        return [float(-drawn @ np.log(drawn)), float(probabilities @ np.arange(len(probabilities)))]

    def _count_steps_anew(self, checkpoint: dict[str, Any], trainer: lightning.Trainer) -> None:
        """Set Lightning's count of steps in the epoch for another number of ranks."""
        datamodule = self._datamodule
        if datamodule is None:
            log.warning(
                "the checkpoint is of another number of ranks, and the loader keeps no position in the text: the"
                " epoch continues after the steps Lightning counted; train with a SkipGramDataModule to resume exactly"
            )
            return
        index = checkpoint[type(datamodule).__qualname__]["cursor"]["index"]
        current = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
        ended = index == 0 and current["processed"] > 0
        steps = datamodule.steps if ended else index // trainer.world_size
        # Each count is shifted, since `completed` is one less than the others between two steps.
        current.update({name: count + steps - current["processed"] for name, count in current.items()})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name, table in self.state_dict().items():
            saved = checkpoint["state_dict"].get(name)
            if saved is None or saved.shape != table.shape:
                shape = "missing" if saved is None else f"{list(saved.shape)}"
                raise RunError(
                    f"{name} is {list(table.shape)} by the run's config and text, but in the checkpoint {shape}:"
                    " restore the config.yaml that the run began with"
                )
        state = checkpoint["skiplight"]
        saved, found = state.get("noise"), self._noise_statistics()  # older checkpoints have none
        if saved and found and not np.allclose(saved, found, rtol=1e-6):
            raise RunError(
                "the noise distribution is not that of the checkpoint: put back the file of weights, or the plug-in,"
                " that the run began with"
            )
        self.tokens = state["tokens"]
        self._shortening = state.get("shortening")  # older checkpoints have none
        if self._trainer is not None and self._trainer.world_size != state.get("world_size", 1):
            self._count_steps_anew(checkpoint, self._trainer)
        if self._trainer is None or self._trainer.is_global_zero:  # the checkpoint holds the sum over all ranks
            self.pairs = state["pairs"]
            self.loss_sum.fill_(state["loss_sum"])
        self.follow_noise()


class _Interval:
    """Loss and pairs of this process since `begin`, when `tokens` were consumed."""

    def __init__(self, tokens: int = 0) -> None:
        self.tokens, self.begin = tokens, time.perf_counter()
        self.loss: Tensor | float = 0.0
        self.pairs: Tensor | int = 0

    def add(self, result: StepResult) -> None:
        self.loss += result.loss_sum
        self.pairs += result.pairs


def _name_of(strategy: Strategy) -> str:
    """Return the name of a strategy for an engine's `unsupported`."""
    if isinstance(strategy, SingleDeviceStrategy):
        return "single"
    return getattr(strategy, "name", type(strategy).__name__)


def _block_of(batch: TokenBlock | Windows) -> TokenBlock:
    return batch.block if isinstance(batch, Windows) else batch
