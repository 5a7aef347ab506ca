"""The points of a study: the values of the swept options that it tries, each trained with `study.seeds` seeds.

A point has a trial per seed. What Optuna's samplers see, and what is promoted, is the point, with the mean of its
trials. The journal has the trials; a user attribute of each names the point, that is the number of its first trial.

A trial that trains to a rung and waits there (`skiplight.experiments.sweeps.promotion`) is RUNNING in the journal,
since Optuna never continues a trial that has ended. Its attribute `rung` is the rung that it may train to, and
`rung_<k>` its score at rung k, which is written when it has saved its state there. A trial that trains one of the best
points again has the number of that point as `confirms`; it belongs to no point, and samplers do not see it.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

POINT, SEED, RUNG, CONFIRMS = "point", "seed", "rung", "confirms"
"""Names of user attributes of a trial in the journal."""

STUDY_STATE = "study_state"
"""Name of the system attribute with what a sampler has kept in the study when it suggested a trial."""


CONFIRMING_SEEDS = 3
"""The least number of fresh seeds with which each of the best points is trained again."""


def score_key(rung: int) -> str:
    """Return the name of the user attribute with the score at a rung."""
    return f"{RUNG}_{rung}"


def is_paused(trial: optuna.trial.FrozenTrial) -> bool:
    """Return whether a trial waits at the rung that it was allowed to train to."""
    rung = trial.user_attrs.get(RUNG)
    return rung is not None and not trial.state.is_finished() and score_key(rung) in trial.user_attrs


@dataclasses.dataclass(frozen=True)
class Point:
    """Values of the swept options.

    Attributes:
        number: number of its first trial.
        trials: its trials, one per seed.
        seeds: number of trials that it is to have.
    """

    number: int
    trials: list[optuna.trial.FrozenTrial]
    seeds: int

    @property
    def params(self) -> dict[str, Any]:
        """The values of the swept options."""
        return self.trials[0].params

    @property
    def rung(self) -> int:
        """The rung that its trials may train to."""
        return max(trial.user_attrs.get(RUNG, 0) for trial in self.trials)

    def has(self, state: str) -> bool:
        """Return whether a trial has a state of Optuna's: RUNNING, COMPLETE, PRUNED or FAIL."""
        return any(trial.state.name == state for trial in self.trials)

    @property
    def is_out(self) -> bool:
        """Whether a trial has failed or was pruned, so that the point has no mean."""
        return self.has("FAIL") or self.has("PRUNED")

    @property
    def is_paused(self) -> bool:
        """Whether all trials wait at their rungs."""
        return all(is_paused(trial) for trial in self.trials)

    @property
    def value(self) -> float:
        """The mean of the first metric, of a point that is complete."""
        return statistics.fmean(trial.values[0] for trial in self.trials)

    @property
    def is_complete(self) -> bool:
        """Whether all trials have trained to the end."""
        return len(self.trials) == self.seeds and all(trial.state.name == "COMPLETE" for trial in self.trials)

    def score_at(self, rung: int) -> float | None:
        """Return the mean of the trials' scores at a rung, or None if a trial has not come to it."""
        key = score_key(rung)
        scores = [trial.user_attrs[key] for trial in self.trials if key in trial.user_attrs]
        return statistics.fmean(scores) if len(scores) == self.seeds else None

    def as_trial(self, distributions: dict[str, BaseDistribution]) -> optuna.trial.FrozenTrial:
        """Return the point as one trial for a sampler: a point that waits at a rung is as one pruned there.

        Optuna's TPE orders pruned trials by their last step, here the rung, and then by their score there.
        """
        from optuna.trial import TrialState, create_trial

        values, steps, state, kept = None, {}, TrialState.RUNNING, self.trials[0].system_attrs
        reached = {rung: score for rung in range(self.rung + 1) if (score := self.score_at(rung)) is not None}
        if self.is_complete:
            columns = zip(*(trial.values for trial in self.trials), strict=True)
            state, values = TrialState.COMPLETE, [statistics.fmean(column) for column in columns]
        elif self.has("FAIL"):
            state = TrialState.FAIL
        elif self.has("PRUNED"):
            state = TrialState.PRUNED
            steps = next(trial for trial in self.trials if trial.state == state).intermediate_values
        elif self.is_paused and self.rung in reached:
            state, steps = TrialState.PRUNED, reached
        return create_trial(
            state=state,
            params=self.params,
            distributions={name: distributions[name] for name in self.params},
            values=values,
            intermediate_values=steps,
            system_attrs={name: value for name, value in kept.items() if name != STUDY_STATE},
        )


def group_points(trials: Sequence[optuna.trial.FrozenTrial], seeds: int) -> list[Point]:
    """Return the points of a study, in the order in which they were begun."""
    points: dict[int, Point] = {}
    for trial in trials:
        if CONFIRMS in trial.user_attrs:
            continue
        number = trial.user_attrs.get(POINT, trial.number)
        points.setdefault(number, Point(number, [], seeds)).trials.append(trial)
    return list(points.values())
