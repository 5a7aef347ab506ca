"""Refuses options of a command that its runs do not read, since whoever gives one expects it to matter.

Options of names that are not chosen, such as `data.path` with `data=vital`, are not even in the schema of the run; here
are options that are, and that others make idle. Presets may have idle options, which an override leaves behind.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from skiplight.config.compose import choose_groups
from skiplight.config.flags import split_flags
from skiplight.config.schema import EXPERIMENT_GROUPS, Config
from skiplight.config.validate import get_option
from skiplight.errors import ConfigError
from skiplight.registry import OBJECTIVES

Get = Callable[[str], Any]
"""Returns the value of an option by its dotted name."""

DECIDING = ("vocabulary.path", "vocabulary.grow", "data.streaming")
"""Options that decide whether others are read, besides the names of the objective and the source."""

_VERBS = {"study": "sweep", "compare": "compare"}

_PROMOTING = ("asha", "hyperband")


def why_unread(option: str, get: Get) -> str | None:
    """Return why a run does not read an option, with the remedy; None if it does.

    >>> why_unread("noise.negatives", {"objective.name": "full_softmax"}.__getitem__)
    '`objective=full_softmax` draws no noise: leave it out, or choose an objective that does'
    """
    if option == "noise" or option.startswith("noise."):
        name = get("objective.name")
        if name in OBJECTIVES and not getattr(OBJECTIVES[name].target, "needs_noise", True):
            return f"`objective={name}` draws no noise: leave it out, or choose an objective that does"
    if option in ("vocabulary.min_count", "vocabulary.max_size") and (path := get("vocabulary.path")) is not None:
        if not get("vocabulary.grow"):
            return f"the words of `vocabulary.path={path}` are taken unchanged: leave out either"
        if option == "vocabulary.max_size":
            return "`vocabulary.grow` keeps all words: leave out either"
    if option == "data.tokens" and not get("data.streaming"):
        return "the tokens of a text that is stored are counted: leave it out, or give `data.streaming=true`"
    given = option == "data.normalise" and get(option) != "none"
    if given and (name := get("data.source")) in ("sequences", "synthetic_sessions"):
        return f"`data={name}` takes items as they are: leave it out, or give `data=files` for text"
    if option.startswith("study."):
        return _why_not_by_pruner(option, get("study.pruner"))
    return None


def _why_not_by_pruner(option: str, pruner: str) -> str | None:
    early = pruner in ("median", "percentile", "wilcoxon", "halving")
    readers = {
        "study.rungs": (pruner in _PROMOTING, "asha or hyperband"),
        "study.warmup": (early, "median, percentile, wilcoxon or halving"),
        "study.warmup_trials": (early, "median, percentile, wilcoxon or halving"),
        "study.pruner_args": (early, "median, percentile or wilcoxon"),
    }
    is_read, pruners = readers.get(option, (True, ""))
    return None if is_read else f"`study.pruner={pruner}` has no use for it: leave it out, or give {pruners}"


def check_read(overrides: Sequence[str], runs: Iterable[Get | Config], verb: str) -> None:
    """Check that each option which is given is read by one of the runs at least.

    Args:
        overrides: as on the command line.
        runs: the options of each run.
        verb: the verb of the command, `train`, `compare` or `sweep`.

    Raises:
        ConfigError: for the first option that is not.
    """
    gets = [functools.partial(get_option, run) if isinstance(run, Config) else run for run in runs]
    parser = OverridesParser.create()
    for override in choose_groups(split_flags(overrides)[1]):
        parsed = parser.parse_override(override)
        option = parsed.key_or_group.replace("/", ".")
        group = option.partition(".")[0]
        if parsed.is_delete() or group == "hydra" or parsed.value() is None:
            continue
        if group in EXPERIMENT_GROUPS and _VERBS[group] != verb and "." in option:
            raise ConfigError(f"`{option}` is an option of `skiplight {_VERBS[group]}` only: leave it out")
        reasons = [why_unread(option, get) for get in gets]
        if reasons and None not in reasons:
            raise ConfigError(f"`{override}` is not read: {reasons[0]}")
