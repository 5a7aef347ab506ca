"""The callback of a trial: it pauses the trial at its rung, or prunes it at its evaluations.

Rungs are those of `skiplight.experiments.sweeps.promotion`. Pruning is by the median of the other trials or by
successive halving: a trial is compared with the scores of the others after the same number of tokens. The decision is a
function of the others' scores in the journal and of the trial's own scores so far, so it is the same after a resume
from a checkpoint.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning

from skiplight.config.schema import Config
from skiplight.errors import PausedError, PrunedError
from skiplight.evaluation.suite import evaluation_metrics
from skiplight.experiments.folder import find_experiment
from skiplight.experiments.sweeps.points import CONFIRMS, RUNG
from skiplight.experiments.sweeps.promotion import PROMOTING, rung_share
from skiplight.experiments.sweeps.pruners import make_pruner, rung_step
from skiplight.experiments.sweeps.study import Study
from skiplight.training.callbacks.evaluation import Evaluation
from skiplight.training.fork import can_fork
from skiplight.training.module import SkipGramModule
from skiplight.training.run_folder import RunFolder
from skiplight.training.signals import StopRequest

if TYPE_CHECKING:
    import optuna

    from skiplight.training.fit import Watch


def trial_callback_factory(run: Path) -> Watch | None:
    """Return a function that makes the callback of a run, or None if the run is no trial that is pruned or paused."""
    found = find_experiment(RunFolder(run))
    if found is None or found[0].kind != "study":
        return None
    experiment, number = found
    study = Study.load(experiment.path)
    options, about = study.config.study, study.trials[number].user_attrs
    if CONFIRMS in about:
        return None
    if options.pruner in PROMOTING:
        share = rung_share(about[RUNG], options.rungs)
        config = RunFolder(run).config()
        return (lambda evaluation, stop: RungCallback(evaluation, stop, share, config)) if share < 1 else None
    if options.pruner == "none":
        return None
    return lambda evaluation, stop: PruningCallback(evaluation, study, number)


class PruningCallback(lightning.Callback):
    """Report each evaluation of a trial to its study, and raise `PrunedError` if the trial is to be pruned.

    Args:
        evaluation: the callback that evaluates, which is called before this one.
        study: the study.
        number: number of the trial.
    """

    def __init__(self, evaluation: Evaluation, study: Study, number: int) -> None:
        self.evaluation, self.study, self.number = evaluation, study, number
        self._last_tokens = -1

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, SkipGramModule)
        # The process may have been killed between an evaluation and its report.
        if (done := self.evaluation.evaluated) >= 0:
            self._report(done)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        if self.evaluation.evaluated > self._last_tokens:
            self._report(self.evaluation.evaluated)

    def _report(self, tokens: int) -> None:
        self._last_tokens = tokens
        every = self.evaluation.every
        value = evaluation_metrics(self.evaluation.results).get(self.study.targets[0])
        if every is None or value is None:  # the evaluation failed, and has logged why
            return
        step = tokens // every * every
        trial = self.study.trials[self.number]
        self.study.storage.set_trial_intermediate_value(trial._trial_id, step, value)
        if should_prune(self.study, self.number, step):
            raise PrunedError(f"pruned after {tokens:,} tokens, with {self.study.targets[0]} {value:.4g}")


class RungCallback(lightning.Callback):
    """Pause a trial at its rung, after an evaluation if it is not scored by a fork (`sweeps.forks`).

    Args:
        evaluation: the callback that evaluates, which is called before this one.
        stop: makes the training save its state and end.
        share: share of the run's tokens at which the rung is.
        config: options of the run.
    """

    def __init__(self, evaluation: Evaluation, stop: StopRequest, share: float, config: Config) -> None:
        self.evaluation, self.stop, self.share, self.config = evaluation, stop, share, config
        self._tokens = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, SkipGramModule)
        self._tokens = math.ceil(self.share * pl_module.total_tokens)
        forks = can_fork(self.config, pl_module.tokens, pl_module.total_tokens)
        done = pl_module.tokens if forks else self.evaluation.evaluated
        if self._tokens <= done < pl_module.total_tokens:
            # The process was killed after it had saved its state at the rung.
            raise PausedError(self._message(done))

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        assert isinstance(pl_module, SkipGramModule)
        if self.stop.pause is not None or not self._tokens <= pl_module.tokens < pl_module.total_tokens:
            return
        forks = can_fork(self.config, pl_module.tokens, pl_module.total_tokens)
        if not forks and self.evaluation.evaluated != pl_module.tokens:
            self.evaluation.run(trainer, pl_module)
        self.stop.pause = self._message(pl_module.tokens)

    def _message(self, tokens: int) -> str:
        return f"paused after {tokens:,} tokens"


def should_prune(study: Study, number: int, step: int) -> bool:
    """Return whether to prune a trial, by its scores up to a step and those of the other trials.

    Args:
        study: the study.
        number: number of the trial.
        step: step of the trial's last evaluation, in tokens.
    """
    import optuna

    pruner = make_pruner(study.config)
    trials = study.trials
    trial = trials[number]
    rungs = {name: value for name, value in trial.system_attrs.items() if rung_step(name, study.config) < step}
    # A copy in memory with the trial as it was at this step: without later scores, from before it was killed.
    in_memory = optuna.create_study(direction=study.directions[0])
    others = [other for other in trials if other.number != number and CONFIRMS not in other.user_attrs]
    in_memory.add_trials(others)
    known = {at: value for at, value in trial.intermediate_values.items() if at <= step}
    in_memory.add_trial(_running_trial(trial, known, rungs))
    decision = pruner.prune(in_memory, in_memory.get_trials(deepcopy=False)[-1])
    if sum(other.state.name == "COMPLETE" for other in others) < study.config.study.warmup_trials:
        decision = False
    for name, value in in_memory.get_trials(deepcopy=False)[-1].system_attrs.items():
        if name not in rungs:  # rungs that the trial has just reached, with which later trials are compared
            study.storage.set_trial_system_attr(trial._trial_id, name, value)
    return decision


def _running_trial(
    trial: optuna.trial.FrozenTrial, values: dict[int, float], rungs: dict[str, Any]
) -> optuna.trial.FrozenTrial:
    from optuna.trial import TrialState, create_trial

    return create_trial(
        state=TrialState.RUNNING,
        params=trial.params,
        distributions=trial.distributions,
        intermediate_values=values,
        system_attrs=rungs,
    )
