"""The plan of a comparison: variants, each trained in one or several views, from several seeds.

A *variant* is what is compared: a label and its overrides. A *view* is a way to train all variants: overrides that are
the same for all, and a search over candidates (learning rates, optimisers, engines), of which each variant keeps the
best. Runs are named by their options, so that views share the runs that they have in common.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from skiplight.config.compose import choose_groups, compose
from skiplight.config.schema import CompareConfig, Config
from skiplight.errors import ConfigError
from skiplight.experiments.folder import fixed_options
from skiplight.registry import OBJECTIVES

VALIDATION = 0.5
"""The share of the held-out text on which candidates are chosen where `evaluation.validation` gives none."""

DEFAULT_VIEWS = {"same": {"title": "the same engine and optimiser", "fixed": ["engine=autograd"]}}
"""The default of `compare.views`."""


def objective_variants() -> dict[str, list[str]]:
    """Return a variant for every registered objective, the default of `compare.variants`."""
    return {name.replace("_", " "): [f"objective={name}"] for name in OBJECTIVES}


@dataclasses.dataclass(frozen=True)
class View:
    """A way to train all variants.

    Attributes:
        name: name in file names.
        title: title in headings and plots.
        fixed: overrides for all variants.
        candidates: by variant, the candidates of its search, each a list of overrides.
    """

    name: str
    title: str
    fixed: tuple[str, ...]
    candidates: dict[str, list[list[str]]]


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """A run of a comparison.

    Attributes:
        view, variant: the names of both.
        chosen: the overrides of the candidate.
        seed: the seed.
        config: all options.
    """

    view: str
    variant: str
    chosen: tuple[str, ...]
    seed: int
    config: Config

    @property
    def name(self) -> str:
        """The name of its folder: the variant and a digest of the options that decide the results."""
        options = json.dumps(fixed_options(self.config), sort_keys=True)
        digest = hashlib.sha256(options.encode()).hexdigest()
        plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in self.variant)
        return f"{plain}-{digest[:10]}"


class Plan:
    """The runs of a comparison, composed from the command line's overrides and `compare.*`.

    Args:
        overrides: the overrides of the command line, for all runs.
        tokens: tokens of a full run.

    Raises:
        ConfigError: a variant, view or candidate is malformed, or has a wrong override.
    """

    def __init__(self, overrides: Sequence[str], tokens: int) -> None:
        # The overrides of views and variants follow these, so that they have the last word.
        self.overrides = [o for o in overrides if not o.startswith(("compare.", "run_dir="))]
        self.config = compose(overrides)
        self.compare: CompareConfig = self.config.compare
        self.tokens = tokens
        self._composed: dict[tuple[str, ...], PlannedRun] = {}
        self.variants = _parse_variants(
            objective_variants() if self.compare.variants is None else self.compare.variants
        )
        views = DEFAULT_VIEWS if self.compare.views is None else self.compare.views
        self.views = [_parse_view(name, view, self.variants) for name, view in _check_mapping("views", views).items()]
        if self.has_search and self.config.evaluation.validation == 0:
            self.overrides.append(f"evaluation.validation={VALIDATION}")
            self.config.evaluation.validation = VALIDATION
        for view in self.views:  # composed now, so that errors come before the first training
            for variant in self.variants:
                for candidate in view.candidates[variant]:
                    self.full_run(view, variant, candidate, 0)

    def configs(self) -> list[Config]:
        """Return the options of the runs planned so far, which are of every variant, view and candidate."""
        return [run.config for run in self._composed.values()]

    @property
    def has_search(self) -> bool:
        """Whether any variant has candidates to choose from."""
        return any(len(candidates) > 1 for view in self.views for candidates in view.candidates.values())

    def full_run(self, view: View, variant: str, chosen: Sequence[str], number: int) -> PlannedRun:
        """Return a full run of a variant, with `compare.points` evaluations.

        Args:
            view: the view.
            variant: label of the variant.
            chosen: overrides of the candidate.
            number: number of the seed, from 0.
        """
        every = max(1, -(-self.tokens // self.compare.points))
        return self._plan_run(view, variant, chosen, number, [f"evaluation.every={every}"])

    def search_run(self, view: View, variant: str, candidate: Sequence[str]) -> PlannedRun:
        """Return the run that tries a candidate: with the first seed, of `compare.search` of the tokens.

        A shorter run is evaluated on the held-out text only.
        """
        if self.compare.search == 1:
            return self.full_run(view, variant, candidate, 0)
        tokens = max(1, round(self.tokens * self.compare.search))
        short = [f"trainer.max_tokens={tokens}", "logger=none", "evaluation.similarity=[]", "evaluation.analogy=[]"]
        return self._plan_run(view, variant, candidate, 0, [*short, "evaluation.words=[]"])

    def _plan_run(
        self, view: View, variant: str, chosen: Sequence[str], number: int, more: Sequence[str]
    ) -> PlannedRun:
        seed = self.config.seed + number
        given = self.overrides
        if "logger=none" in more:
            given = [override for override in given if not override.lstrip("+~").startswith("logger.")]
        overrides = [*given, *view.fixed, *self.variants[variant], *chosen, *more, f"seed={seed}"]
        key = view.name, variant, *overrides
        if key not in self._composed:
            try:
                config = compose(_last_of_each(overrides))
            except ConfigError as error:
                raise ConfigError(f"`compare.variants` {variant!r} in view {view.name!r}: {error}") from None
            config = dataclasses.replace(config, run_dir=None)
            self._composed[key] = PlannedRun(view.name, variant, tuple(chosen), seed, config)
        return self._composed[key]


def _last_of_each(overrides: Sequence[str]) -> list[str]:
    """Return the last override of each option, since Hydra accepts a group only once."""
    return list({override.partition("=")[0]: override for override in choose_groups(overrides)}.values())


def _parse_variants(variants: Any) -> dict[str, list[str]]:
    found = {
        str(label): _check_overrides("variants", label, o) for label, o in _check_mapping("variants", variants).items()
    }
    if len({PlannedRun("", label, (), 0, Config()).name for label in found}) < len(found):
        raise ConfigError(
            "`compare.variants` has labels that differ in punctuation only, which name the same folders: rename one"
        )
    return found


def _parse_view(name: str, view: Any, variants: dict[str, list[str]]) -> View:
    view = _check_mapping(f"views.{name}", view)
    unknown = set(view) - {"title", "fixed", "search"}
    if unknown:
        raise ConfigError(
            f"`compare.views.{name}` has {', '.join(sorted(unknown))}: it may have title, fixed and search"
        )
    search = view.get("search") or [[]]
    by_variant = search if isinstance(search, dict) else {"others": search}
    unknown_variants = set(by_variant) - set(variants) - {"others"}
    if unknown_variants:
        raise ConfigError(
            f"`compare.views.{name}.search` is for {', '.join(map(repr, sorted(unknown_variants)))}, but there is no"
            f" such variant: give {', '.join(map(repr, variants))} or others"
        )
    where = f"views.{name}.search"
    candidates = {
        variant: [_check_overrides(where, variant, one) for one in _check_list(where, by_variant.get(variant, others))]
        or [[]]
        for others in [by_variant.get("others", [[]])]
        for variant in variants
    }
    fixed = tuple(_check_overrides(f"views.{name}", "fixed", view.get("fixed", [])))
    return View(str(name), str(view.get("title", name)), fixed, candidates)


def _check_mapping(what: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise ConfigError(f"`compare.{what}` must be a mapping with at least one entry, not {value!r}")
    return value


def _check_list(what: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ConfigError(f"`compare.{what}` must be a list of lists of overrides, not {value!r}")
    return value


def _check_overrides(what: str, label: Any, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ConfigError(
            f"`compare.{what}`, {label!r}: give a list of overrides such as [optim.lr=0.05], not {value!r}"
        )
    return value
