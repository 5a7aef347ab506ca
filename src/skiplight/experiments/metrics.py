"""The metrics of a finished run by name, and those that a study can optimise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from skiplight.config.schema import Config, StudyConfig
from skiplight.errors import ConfigError
from skiplight.evaluation.sets import named_sets, set_name
from skiplight.evaluation.suite import HELDOUT, HIT_RATE_KEYS, MEANS, evaluation_metrics
from skiplight.registry import EVALUATIONS

RUN_METRICS = ("loss", "words_per_second", "effective_words_per_second", "pairs_per_second")
TIMED_PHASES = ("train", "evaluate", "total")

HELDOUT_PARTS = ("heldout/", "validation/")
"""How the metrics of held-out text begin: those of the part that is reported, and of the one that only chooses."""


def read_metrics(summary: dict[str, Any]) -> dict[str, float]:
    """Return the metrics in summary.json: evaluation/SET, heldout/loss, validation/loss, loss, seconds/train, ..."""
    found = evaluation_metrics(summary["evaluation"])
    found |= {name: summary[name] for name in RUN_METRICS}
    return found | {f"seconds/{part}": summary["seconds"][part] for part in TIMED_PHASES}


def available_metrics(config: Config) -> list[str]:
    """Return the names of the metrics that a run with these options has, evaluations first."""
    evaluation = config.evaluation
    sets = [*named_sets(evaluation.similarity), *evaluation.analogy, *evaluation.hit_rate]
    names = [f"evaluation/{set_name(source)}" for source in sets]
    names += [f"evaluation/{set_name(source)}/{key}" for source in evaluation.hit_rate for key in HIT_RATE_KEYS]
    if evaluation.heldout_pairs and config.data.heldout > 0:
        parts = ("heldout", "validation") if evaluation.validation else ("heldout",)
        names += [f"{part}/{name}" for part in parts for name in MEANS]
    names += [f"evaluation/{name}" for name in evaluation.metrics or {}]
    return [*names, *RUN_METRICS, *(f"seconds/{part}" for part in TIMED_PHASES)]


def incomparable_options(swept: Iterable[str]) -> list[str]:
    """Return the swept options that change the held-out pairs, so that perplexities cannot be compared."""
    return [name for name in swept if name.startswith(("vocabulary.", "data.", "sampling."))]


def evaluation_of(metric: str) -> str:
    """Return the key in `summary["evaluation"]` of a metric's result."""
    group, _, rest = metric.partition("/")
    return rest.partition("/")[0] if group == "evaluation" else HELDOUT if group == "validation" else group


def is_available(metric: str, config: Config) -> bool:
    """Return whether a run with these options has a metric; `evaluation/NAME/KEY` of any key that a plug-in returns."""
    return metric in available_metrics(config) or (
        metric.startswith("evaluation/") and evaluation_of(metric) in (config.evaluation.metrics or {})
    )


def is_maximised(metric: str) -> bool:
    """Return whether a higher value of a metric is better; a torchmetrics metric of a plug-in knows it."""
    name = evaluation_of(metric)
    if name in EVALUATIONS and getattr(EVALUATIONS[name].target, "higher_is_better", None) is False:
        return False
    return metric.startswith("evaluation/") or metric.endswith("_per_second")


Direction = Literal["maximize", "minimize"]


def study_targets(config: Config) -> tuple[list[str], list[Direction]]:
    """Return the one or two metrics that a study optimises, and the direction of each.

    Raises:
        ConfigError: a run with these options does not have a metric, or trials cannot be compared or pruned by it.
    """
    study = config.study
    metrics = study.metric if isinstance(study.metric, list) else [study.metric]
    if not 1 <= len(metrics) <= 2 or len(set(metrics)) < len(metrics):
        raise ConfigError(f"`study.metric={study.metric}` must be the name of a metric, or a list of two names")
    names = available_metrics(config)
    for metric in metrics:
        if not is_available(metric, config):
            raise ConfigError(f"`study.metric={metric}` is not a metric of these runs: they have {', '.join(names)}")
        if metric.startswith(HELDOUT_PARTS) and (over := incomparable_options(study.space or {})):
            raise ConfigError(
                f"`study.metric={metric}` cannot be compared over different {', '.join(over)}: give an evaluation/SET"
            )
    if study.seeds > 1 and "seed" in (study.space or {}):
        raise ConfigError(f"`study.seeds={study.seeds}` trains every point with so many seeds: leave out `seed`")
    if study.confirm and (len(metrics) > 1 or "seed" in (study.space or {})):
        remedy = "give one metric" if len(metrics) > 1 else "give `study.seeds` in place of a swept `seed`"
        raise ConfigError(f"`study.confirm={study.confirm}` trains the best points again with fresh seeds: {remedy}")
    _check_pruner(config, metrics)
    return metrics, _directions(study, metrics)


def _directions(study: StudyConfig, metrics: list[str]) -> list[Direction]:
    if study.direction is None:
        return ["maximize" if is_maximised(metric) else "minimize" for metric in metrics]
    given = study.direction if isinstance(study.direction, list) else [study.direction]
    if len(given) != len(metrics) or not set(given) <= {"maximize", "minimize"}:
        raise ConfigError(f"`study.direction={study.direction}` must be maximize or minimize for each metric")
    return given


def _check_pruner(config: Config, metrics: list[str]) -> None:
    pruner = config.study.pruner
    if pruner == "none":
        return
    if len(metrics) > 1:
        raise ConfigError(
            f"`study.pruner={pruner}`: with two metrics no trial is pruned, since one that is worse by the first may"
            " be better by the second; give `study.pruner=none`, or one metric"
        )
    if not metrics[0].startswith(("evaluation/", *HELDOUT_PARTS)):
        raise ConfigError(f"`study.pruner={pruner}` needs a metric of the evaluation, which {metrics[0]} is not")
    if config.evaluation.every is None and pruner not in ("asha", "hyperband"):
        raise ConfigError(
            f"`study.pruner={pruner}` compares trials at evaluations during training: give `evaluation.every=TOKENS`"
        )
