"""Prune poor trials at their evaluations, by the median of the other trials or by successive halving.

A trial is compared with the scores of the others after the same number of tokens. The decision is a function of the
others' scores in the journal and of the trial's own scores so far, so it is the same after a resume from a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning

from skiplight.config.schema import Config
from skiplight.errors import PrunedError
from skiplight.evaluation.suite import evaluation_metrics
from skiplight.experiments.folder import find_experiment
from skiplight.experiments.sweeps.study import Study
from skiplight.training.callbacks.evaluation import Evaluation
from skiplight.training.module import SkipGramModule
from skiplight.training.run_folder import RunFolder

if TYPE_CHECKING:
    import optuna

REDUCTION_FACTOR = 3
"""Successive halving promotes about one trial in this many at each rung; rungs are at 1, 3, 9, ... evaluations."""


def pruning_callback_factory(run: Path) -> Callable[[Evaluation], lightning.Callback] | None:
    """Return a function that makes the pruning callback of a run, or None if the run is not a trial to be pruned."""
    found = find_experiment(RunFolder(run))
    if found is None or found[0].kind != "study":
        return None
    experiment, number = found
    study = Study.load(experiment.path)
    if study.config.study.pruner == "none":
        return None
    return lambda evaluation: PruningCallback(evaluation, study, number)


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
    rungs = {name: value for name, value in trial.system_attrs.items() if _rung_step(name, study.config) < step}
    # A copy in memory with the trial as it was at this step: without later scores, from before it was killed.
    in_memory = optuna.create_study(direction=study.directions[0])
    in_memory.add_trials([other for other in trials if other.number != number])
    known = {at: value for at, value in trial.intermediate_values.items() if at <= step}
    in_memory.add_trial(_running_trial(trial, known, rungs))
    decision = pruner.prune(in_memory, in_memory.get_trials(deepcopy=False)[-1])
    for name, value in in_memory.get_trials(deepcopy=False)[-1].system_attrs.items():
        if name not in rungs:  # rungs that the trial has just reached, with which later trials are compared
            study.storage.set_trial_system_attr(trial._trial_id, name, value)
    return decision


def make_pruner(config: Config) -> optuna.pruners.BasePruner:
    """Return Optuna's pruner for `study.pruner`."""
    import optuna

    if config.study.pruner == "median":
        return optuna.pruners.MedianPruner()
    assert config.evaluation.every is not None
    return optuna.pruners.SuccessiveHalvingPruner(config.evaluation.every, REDUCTION_FACTOR)


def _rung_step(name: str, config: Config) -> int:
    """Return the step, in tokens, of the rung that Optuna stores by this name."""
    return (config.evaluation.every or 0) * REDUCTION_FACTOR ** int(name.removeprefix("completed_rung_"))


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
