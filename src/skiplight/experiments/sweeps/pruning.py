"""Stops trials that promise less than others, at their evaluations: by the median, or by successive halving.

A trial is held against what the others had after as many tokens. The decision is a function of what the journal holds
of the others and of the trial's own scores up to here, so that a trial that goes on from a checkpoint is judged again
as it was before.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning

from skiplight.config.schema import Config
from skiplight.errors import PrunedError
from skiplight.evaluation.suite import evaluation_metrics
from skiplight.experiments.folder import experiment_of
from skiplight.experiments.sweeps.study import Study
from skiplight.training.callbacks.evaluation import Evaluation
from skiplight.training.module import SkipGramModule
from skiplight.training.run_folder import RunFolder

if TYPE_CHECKING:
    import optuna

REDUCTION = 3
"""Successive halving lets about one trial in so many pass each rung; rungs are at 1, 3, 9, ... evaluations."""


def watching(run: Path) -> Callable[[Evaluation], lightning.Callback] | None:
    """What makes the callback for a run that is a trial of a study with a pruner; None for other runs."""
    found = experiment_of(RunFolder(run))
    if found is None or found[0].kind != "study":
        return None
    experiment, number = found
    study = Study.load(experiment.path)
    if study.config.study.pruner == "none":
        return None
    return lambda evaluation: Pruning(evaluation, study, number)


class Pruning(lightning.Callback):
    """Reports each evaluation to the study, and ends a trial that is not worth going on with.

    Args:
        evaluation: the callback that evaluates, called before this one.
        study: the study.
        number: the trial's.
    """

    def __init__(self, evaluation: Evaluation, study: Study, number: int) -> None:
        self.evaluation, self.study, self.number = evaluation, study, number
        self._seen = -1

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, SkipGramModule)
        # The process may have died between an evaluation and its consequence.
        if (done := self.evaluation.evaluated) >= 0:
            self._judge(done)

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        if self.evaluation.evaluated > self._seen:
            self._judge(self.evaluation.evaluated)

    def _judge(self, tokens: int) -> None:
        self._seen = tokens
        every = self.evaluation.every
        value = evaluation_metrics(self.evaluation.results).get(self.study.targets[0])
        if every is None or value is None:  # the set could not be evaluated, of which the evaluation warns
            return
        step = tokens // every * every
        own = self.study.trials[self.number]
        self.study.storage.set_trial_intermediate_value(own._trial_id, step, value)
        if prunes(self.study, self.number, step):
            raise PrunedError(f"pruned after {tokens:,} tokens, with {self.study.targets[0]} {value:.4g}")


def prunes(study: Study, number: int, step: int) -> bool:
    """Whether the trial is to be stopped, by its scores up to `step` and those of the others."""
    import optuna

    pruner = make_pruner(study.config)
    trials = study.trials
    own = trials[number]
    rungs = {name: value for name, value in own.system_attrs.items() if _rung_step(name, study.config) < step}
    # In memory, where the trial is as it was at this step: its scores from beyond, of before it died, are left out.
    sketch = optuna.create_study(direction=study.directions[0])
    sketch.add_trials([trial for trial in trials if trial.number != number])
    known = {at: value for at, value in own.intermediate_values.items() if at <= step}
    sketch.add_trial(_running(own, known, rungs))
    decision = pruner.prune(sketch, sketch.get_trials(deepcopy=False)[-1])
    for name, value in sketch.get_trials(deepcopy=False)[-1].system_attrs.items():
        if name not in rungs:  # the rungs that it has now come to, by which later ones are judged
            study.storage.set_trial_system_attr(own._trial_id, name, value)
    return decision


def make_pruner(config: Config) -> optuna.pruners.BasePruner:
    """Optuna's pruner for `study.pruner`."""
    import optuna

    if config.study.pruner == "median":
        return optuna.pruners.MedianPruner()
    assert config.evaluation.every is not None
    return optuna.pruners.SuccessiveHalvingPruner(config.evaluation.every, REDUCTION)


def _rung_step(name: str, config: Config) -> int:
    """The step at which a trial comes to the rung that Optuna notes under this name."""
    return (config.evaluation.every or 0) * REDUCTION ** int(name.removeprefix("completed_rung_"))


def _running(
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
