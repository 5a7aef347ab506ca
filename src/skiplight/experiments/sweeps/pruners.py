"""Optuna's pruners by name, with the warm-up of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skiplight.config.schema import Config
from skiplight.errors import ConfigError
from skiplight.experiments.sweeps.promotion import REDUCTION_FACTOR

if TYPE_CHECKING:
    import optuna

PRUNERS = ("median", "percentile", "wilcoxon", "halving")
"""Values of `study.pruner` with which trials are killed; with those of `PROMOTING` they pause."""

PERCENTILE = 25.0
"""Default of `study.pruner=percentile`: a trial is kept if it is in the best quarter."""


def make_pruner(config: Config) -> optuna.pruners.BasePruner:
    """Return Optuna's pruner for `study.pruner`.

    Rungs of `halving` are at 1, 3, 9, ... evaluations, or with a warm-up of w evaluations at so many times w + 1.

    Raises:
        ConfigError: it does not have an argument of `study.pruner_args`.
    """
    import optuna

    name, given = config.study.pruner, config.study.pruner_args or {}
    # The step of an evaluation is its number times `evaluation.every`, and Optuna prunes from the first one above.
    first = (config.evaluation.every or 0) * config.study.warmup + 1
    shared = {"n_startup_trials": 0, "n_warmup_steps": first}
    known: dict[str, tuple[type, dict[str, Any]]] = {
        "median": (optuna.pruners.MedianPruner, shared),
        "percentile": (optuna.pruners.PercentilePruner, {"percentile": PERCENTILE} | shared),
        "wilcoxon": (optuna.pruners.WilcoxonPruner, {"n_startup_steps": max(2, config.study.warmup + 1)}),
        "halving": (
            optuna.pruners.SuccessiveHalvingPruner,
            {"min_resource": first_rung_step(config), "reduction_factor": REDUCTION_FACTOR},
        ),
    }
    kind, arguments = known[name]
    if name == "halving" and given:
        raise ConfigError(f"`study.pruner_args={given}`: halving takes none; `study.warmup` moves its rungs")
    try:
        return kind(**(arguments | given))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"`study.pruner_args={given}`: {error}; give arguments of Optuna's {kind.__name__}") from None


def first_rung_step(config: Config) -> int:
    """Return the step, in tokens, of the first rung of `halving`."""
    return (config.evaluation.every or 0) * (config.study.warmup + 1)


def rung_step(name: str, config: Config) -> int:
    """Return the step, in tokens, of the rung that Optuna stores by this name."""
    return first_rung_step(config) * REDUCTION_FACTOR ** int(name.removeprefix("completed_rung_"))
