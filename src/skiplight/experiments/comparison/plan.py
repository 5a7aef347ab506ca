"""What a comparison consists of: variants, each trained in one or several views, from several seeds.

A *variant* is what is compared: a label and the overrides that make it. A *view* is a way to train all variants: what
it fixes for all, and the candidates (of a learning rate, an optimiser, an engine) that each variant is tried with
before it keeps the best. Runs are named by their options, so that views share those that they have in common.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from skiplight.config.compose import choose_groups, compose
from skiplight.config.schema import CompareConfig, Config
from skiplight.config.validate import run_options
from skiplight.errors import ConfigError
from skiplight.experiments.folder import flat_options, is_free
from skiplight.registry import OBJECTIVES

ONE_VIEW = {"same": {"title": "the same engine and optimiser", "fixed": ["engine=autograd"]}}
"""What is compared, and how, where `compare.variants` and `compare.views` say nothing."""


def objective_variants() -> dict[str, list[str]]:
    """Return a variant for every registered objective, what `compare.variants` is by default."""
    return {name.replace("_", " "): [f"objective={name}"] for name in OBJECTIVES}


@dataclasses.dataclass(frozen=True)
class View:
    """A way to train all variants.

    Attributes:
        name, title: what files and headings call it.
        fixed: overrides for all variants.
        candidates: by variant, the lists of overrides to choose from.
    """

    name: str
    title: str
    fixed: tuple[str, ...]
    candidates: dict[str, list[list[str]]]


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """A run of a comparison.

    Attributes:
        view, variant: what it belongs to.
        chosen: the overrides that the search found, or tries.
        seed: its seed.
        config: all its options.
    """

    view: str
    variant: str
    chosen: tuple[str, ...]
    seed: int
    config: Config

    @property
    def name(self) -> str:
        """The variant and a digest of the options that decide its results: equal for equal runs."""
        flat = {name: value for name, value in flat_options(run_options(self.config)).items() if not is_free(name)}
        digest = hashlib.sha256(json.dumps(flat, sort_keys=True).encode()).hexdigest()
        plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in self.variant)
        return f"{plain}-{digest[:10]}"


class Plan:
    """The runs of a comparison, composed from the command line's overrides and `compare.*`.

    Args:
        overrides: what the command line says, for all runs.
        tokens: tokens of a whole run.

    Raises:
        ConfigError: a variant, view or candidate has an override that there is not, or is malformed.
    """

    def __init__(self, overrides: Sequence[str], tokens: int) -> None:
        # Groups that a variant chooses are chosen after those of the command line; its values come last of all.
        self.overrides = [o for o in overrides if not o.startswith(("compare.", "run_dir="))]
        self.config = compose(overrides)
        self.compare: CompareConfig = self.config.compare
        self.tokens = tokens
        self._composed: dict[tuple[str, ...], PlannedRun] = {}
        self.variants = _variants(objective_variants() if self.compare.variants is None else self.compare.variants)
        views = ONE_VIEW if self.compare.views is None else self.compare.views
        self.views = [_view(name, view, self.variants) for name, view in _mapping("views", views).items()]
        for view in self.views:  # whatever is wrong is found before anything is trained
            for variant in self.variants:
                for candidate in view.candidates[variant]:
                    self.run(view, variant, candidate, 0)

    def run(self, view: View, variant: str, chosen: Sequence[str], number: int) -> PlannedRun:
        """The run of a variant with the seed of that number, evaluated at all points."""
        every = max(1, -(-self.tokens // self.compare.points))
        return self._planned(view, variant, chosen, number, [f"evaluation.every={every}"])

    def trial(self, view: View, variant: str, candidate: Sequence[str]) -> PlannedRun:
        """What tries a candidate: the first seed's run, or a shorter one, judged on the held-out text alone."""
        if self.compare.search == 1:
            return self.run(view, variant, candidate, 0)
        tokens = max(1, round(self.tokens * self.compare.search))
        short = [f"trainer.max_tokens={tokens}", "logger=none", "evaluation.similarity=[]", "evaluation.analogy=[]"]
        return self._planned(view, variant, candidate, 0, [*short, "evaluation.words=[]"])

    def _planned(self, view: View, variant: str, chosen: Sequence[str], number: int, more: Sequence[str]) -> PlannedRun:
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
    """Of several overrides of the same option the last, since Hydra takes a group only once."""
    return list({override.partition("=")[0]: override for override in choose_groups(overrides)}.values())


def _variants(variants: Any) -> dict[str, list[str]]:
    found = {str(label): _overrides("variants", label, o) for label, o in _mapping("variants", variants).items()}
    if len({PlannedRun("", label, (), 0, Config()).name for label in found}) < len(found):
        raise ConfigError("`compare.variants` has labels that differ in punctuation only: rename one")
    return found


def _view(name: str, view: Any, variants: dict[str, list[str]]) -> View:
    view = _mapping(f"views.{name}", view)
    unknown = set(view) - {"title", "fixed", "search"}
    if unknown:
        raise ConfigError(f"`compare.views.{name}` has {', '.join(sorted(unknown))}: it may have title, fixed, search")
    search = view.get("search") or [[]]
    by_variant = search if isinstance(search, dict) else {"others": search}
    strangers = set(by_variant) - set(variants) - {"others"}
    if strangers:
        raise ConfigError(
            f"`compare.views.{name}.search` has no variant {', '.join(map(repr, sorted(strangers)))} to be for:"
            f" give {', '.join(map(repr, variants))} or others"
        )
    where = f"views.{name}.search"
    candidates = {
        variant: [_overrides(where, variant, one) for one in _list(where, by_variant.get(variant, others))] or [[]]
        for others in [by_variant.get("others", [[]])]
        for variant in variants
    }
    fixed = tuple(_overrides(f"views.{name}", "fixed", view.get("fixed", [])))
    return View(str(name), str(view.get("title", name)), fixed, candidates)


def _mapping(what: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise ConfigError(f"`compare.{what}` must be a mapping with at least one entry, not {value!r}")
    return value


def _list(what: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ConfigError(f"`compare.{what}` must be a list of lists of overrides, not {value!r}")
    return value


def _overrides(what: str, label: Any, value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ConfigError(
            f"`compare.{what}`, {label!r}: give a list of overrides such as [optim.lr=0.05], not {value!r}"
        )
    return value
