"""Registries: the names that a user can choose, what each stands for, and its own options.

What the package brings is registered by the same lines as what a plug-in brings. A plug-in is a module that registers
something when it is imported: an installed one, by an entry point of the group `skiplight.plugins`, or one that the
option `plugins` names, a module or a Python file. Processes that this one starts import the same plug-ins.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import functools
import hashlib
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import inspect
import json
import os
import sys
import types
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from skiplight.errors import ConfigError

BUILT_IN = (
    "skiplight.corpus.sources.built_in",
    "skiplight.corpus.text.normalise",
    "skiplight.sampling.noise",
    "skiplight.objectives",
    "skiplight.evaluation.suite",
    "skiplight.training.schedules",
)
"""Modules of the package that register something."""

ENTRY_POINTS = "skiplight.plugins"

VARIABLE = "SKIPLIGHT_PLUGINS"
"""Environment variable with the plug-ins that were named, as JSON, for the processes that this one starts."""

_LOADED: dict[str, str] = {}
"""Modules of the plug-ins that were named, by what users call them."""

_AMBIGUOUS: set[str] = set()
"""Names that several files have in common, of which none can be told by it."""

T = TypeVar("T", bound=Callable[..., Any])


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: Sequence[str] | None = None,
) -> Any:
    """Return a dataclass field for an option, with `low` <= value <= `high`, `above` < value, or one of `choices`."""
    metadata = {"help": help, "low": low, "high": high, "above": above, "choices": choices}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: copy.deepcopy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Entry(Generic[T]):
    """What a name stands for.

    Attributes:
        name: the name.
        target: the function or class.
        options: a dataclass of its own options, which are given to `target` by name.
        source: the module that registered it.
    """

    name: str
    target: T
    options: type
    source: str

    @property
    def is_built_in(self) -> bool:
        """Whether the package brings it."""
        return self.source.startswith("skiplight.")

    @property
    def plugin(self) -> str:
        """What users call the module that registered it."""
        return {module: name for name, module in plugin_modules().items()}.get(self.source, self.source)

    @property
    def identity(self) -> str:
        """What determines its results besides its options: its name, and the code of a plug-in's module."""
        return self.name if self.is_built_in else self.name + inspect.getsource(sys.modules[self.source])


class Registry(Generic[T]):
    """The names of one kind.

    Args:
        group: the group of options that chooses one, as in `noise=uniform`, with a dot if within another group; or
            the option, for names without options.
        key: the option of the group that has the name; None for names without options.
        given: the names of keyword arguments that `target` gets besides its own options.
        base: the class that every `target` is derived from, `module.Class`; None for functions.
    """

    def __init__(
        self, group: str, key: str | None = "name", given: Sequence[str] = (), base: str | None = None
    ) -> None:
        self.group, self.key, self.given, self.base = group, key, given, base
        self._entries: dict[str, Entry[T]] = {}

    def register(self, name: str, *, options: type | None = None) -> Callable[[T], T]:
        """Return a decorator that registers a function or class.

        Args:
            name: how users choose it: letters, digits and underscores.
            options: a dataclass of its own options, with fields by `option`; default: its keyword-only arguments, which
                need a default and a type.

        Raises:
            ConfigError: the name is taken by another, or is no name; an argument has no default or no type; the target
                is not of the registry's base.
        """

        def add(target: T) -> T:
            if not isinstance(name, str) or not name.isidentifier():
                raise ConfigError(f"`{self.group}={name}` cannot be registered: give a name of letters, digits and _")
            source = target.__module__.replace("__mp_main__", "__main__")  # a script in another process
            where = f"`{self.group}={name}` of {source}"
            is_plugin = not source.startswith("skiplight.")
            before = self._entries.get(name)
            if before is not None and (before.source, before.target.__qualname__) != (source, target.__qualname__):
                raise ConfigError(
                    f"`{self.group}={name}` is registered by {before.source} and again by {source}: rename one"
                )
            own = self._options_of(name, target) if options is None else options
            if is_plugin:
                self._check_base(where, target)
                _check_options(where, own)
            if self.key is None and dataclasses.fields(own):
                raise ConfigError(f"{where} has options, which none here can have")
            self._entries[name] = Entry(name, target, own, source)
            return target

        return add

    def __getitem__(self, name: str) -> Entry[T]:
        """Return what a name stands for.

        Raises:
            ConfigError: nothing is registered by this name.
        """
        if name not in self._entries:
            near = difflib.get_close_matches(str(name), list(self._entries), n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ConfigError(
                f"`{self.group}={name}` is not registered: it must be one of {', '.join(self._entries)}{hint}, or the"
                " name of a plug-in, which `plugins=[MODULE]` or `plugins=[FILE.py]` loads"
            )
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def _check_base(self, where: str, target: T) -> None:
        if self.base is None:
            return
        module, _, name = self.base.rpartition(".")
        # A class that is derived from the base has imported its module already.
        if not (isinstance(target, type) and issubclass(target, getattr(importlib.import_module(module), name))):
            raise ConfigError(f"{where} must be a class derived from {self.base}")

    def _options_of(self, name: str, target: T) -> type:
        where = f"`{self.group}={name}` of {target.__module__}"
        own = [
            parameter
            for parameter in inspect.signature(target).parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in self.given
        ]
        try:
            function = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
            hints = typing.get_type_hints(function) if own else {}
        except NameError as error:
            raise ConfigError(f"{where}: the types of its options are not known when it is imported: {error}") from None
        fields = []
        for parameter in own:
            if parameter.default is parameter.empty or parameter.name not in hints:
                raise ConfigError(
                    f"{where}: the option `{parameter.name}` needs a type and a default, as in"
                    f" `{parameter.name}: float = 1.0`"
                )
            field = option(parameter.default, f"option of {self.group}={name}")
            fields.append((parameter.name, hints[parameter.name], field))
        return dataclasses.make_dataclass(f"{name}_options", fields)


def _check_options(where: str, options: Any) -> None:
    """Check a dataclass of options; fields that were not made by `option` get no limits.

    Raises:
        ConfigError: it is no dataclass, or a field has no default, or a type that no config can have.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not (isinstance(options, type) and dataclasses.is_dataclass(options)):
        raise ConfigError(f"{where}: `options` must be a dataclass, with fields by `skiplight.registry.option`")
    for field in dataclasses.fields(options):
        if field.default is field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{where}: the option `{field.name}` needs a default")
        none: Any = option(None, "")
        field.metadata = types.MappingProxyType({**none.metadata, **field.metadata})
    try:
        OmegaConf.structured(options)
    except (OmegaConfBaseException, ValueError) as error:
        raise ConfigError(
            f"{where}: no config can have its option `{getattr(error, 'full_key', None) or ''}`:"
            f" {str(error).splitlines()[0]}; give it a default of its type, which is bool, int, float, str, or a list"
            " or dict of these"
        ) from None


NOISE: Registry[Callable[..., Any]] = Registry("noise", given=["words", "progress"])
"""Noise distributions: functions from counts, int64 [V], to weights, [V]. An argument `words` gets the words of the
vocabulary, and `progress` the share of the run for a distribution that changes during a training."""

OBJECTIVES: Registry[Any] = Registry("objective", base="skiplight.objectives.base.Objective")
"""Objectives: subclasses of `skiplight.objectives.base.Objective`."""

SCHEDULES: Registry[Callable[..., Any]] = Registry("optim.schedule", given=["total"])
"""Learning-rate schedules: functions from the share of the run to a factor of `optim.lr`, or classes whose instances
are such functions; an argument `total` gets the tokens of the run."""

SOURCES: Registry[Callable[..., Any]] = Registry("data", key="source", given=["cache", "unit"])
"""Sources of text: functions that return texts; see `skiplight.corpus.sources.registry`."""

NORMALISERS: Registry[Callable[..., Any]] = Registry("data.normalise", key=None)
"""Normalisers: functions from texts to texts whose tokens white space separates; see
`skiplight.corpus.text.normalise`."""

EVALUATIONS: Registry[Callable[..., Any]] = Registry("evaluation.metrics")
"""Evaluations: functions of vectors, or what makes a torchmetrics metric; see `skiplight.evaluation.suite`."""

REGISTRIES: dict[str, Registry] = {registry.group: registry for registry in (SOURCES, NOISE, OBJECTIVES, SCHEDULES)}
"""Those that choose the options of a group, by the group."""

NAMES: dict[str, Registry] = {registry.group: registry for registry in (NORMALISERS,)}
"""Those of an option that is no more than a name, by the option."""

CALLBACKS: Registry[Any] = Registry("callbacks", base="lightning.pytorch.Callback")
"""Callbacks: classes derived from `lightning.Callback`."""

LOGGERS: Registry[Any] = Registry("logger", base="lightning.pytorch.loggers.Logger")
"""Loggers: classes derived from `lightning.pytorch.loggers.Logger`."""

TARGETS: dict[str, Registry] = {registry.group: registry for registry in (CALLBACKS, LOGGERS)}
"""Those whose names stand for a `_target_`, of which several can be chosen, by the group."""


def has_registered(module: str) -> bool:
    """Return whether a module has registered something."""
    registries = [*REGISTRIES.values(), *NAMES.values(), *TARGETS.values(), EVALUATIONS]
    return any(registry[name].source == module for registry in registries for name in registry)


register_source = SOURCES.register
register_callback = CALLBACKS.register
register_logger = LOGGERS.register
register_normaliser = NORMALISERS.register
register_noise = NOISE.register
register_objective = OBJECTIVES.register
register_evaluation = EVALUATIONS.register
register_schedule = SCHEDULES.register


def config_class(base: type, group: str, name: str) -> type:
    """Return the dataclass of a group's options, those of `base` and the entry's own, with its name as default."""
    return _config_class(base, group, REGISTRIES[group][name])


@functools.cache
def _config_class(base: type, group: str, entry: Entry) -> type:
    key = str(REGISTRIES[group].key)
    hints = typing.get_type_hints(entry.options)
    shared = {field.name: field for field in dataclasses.fields(base)}
    name_field = shared[key]
    own: list[tuple[str, Any, Any]] = [(key, str, option(entry.name, name_field.metadata["help"]))]
    for field in dataclasses.fields(entry.options):
        if field.name in shared:
            raise ConfigError(
                f"`{group}={entry.name}` of {entry.plugin} has an option `{field.name}`, which `{group}` itself has:"
                " rename it"
            )
        factory = field.default_factory
        copied = dataclasses.field(metadata=field.metadata, default=field.default, default_factory=factory)
        own.append((field.name, hints[field.name], copied))
    return dataclasses.make_dataclass(f"{base.__name__}_{entry.name}", own, bases=(base,))


def own_options(group: str, options: Any) -> dict[str, Any]:
    """Return the options of a group's instance that are the chosen entry's own, by name."""
    registry = REGISTRIES[group]
    own = dataclasses.fields(registry[getattr(options, str(registry.key))].options)
    return {field.name: getattr(options, field.name) for field in own}


@functools.cache
def load_built_in() -> None:
    """Import what the package and installed plug-ins register.

    Raises:
        ConfigError: an installed plug-in cannot be imported.
    """
    for module in BUILT_IN:
        importlib.import_module(module)
    for point in _installed():
        try:
            point.load()
        except ConfigError:
            raise
        except (Exception, SystemExit) as error:
            raise ConfigError(
                f"the installed plug-in {point.name} ({point.value}) cannot be imported, mend or uninstall it:"
                f" {type(error).__name__}: {error}"
            ) from error


def load_plugins(names: Sequence[str] = ()) -> None:
    """Import what the package, installed plug-ins and the named plug-ins register.

    Args:
        names: modules, or Python files by their path (`./mine.py`); those of `$SKIPLIGHT_PLUGINS` come before.

    Raises:
        ConfigError: a plug-in cannot be imported, or registers a name twice.
    """
    load_built_in()
    inherited = json.loads(os.environ.get(VARIABLE, "[]"))
    wanted = list(dict.fromkeys([*inherited, *map(_locate, names)]))
    for name in wanted:
        _import(name)
    if wanted:
        os.environ[VARIABLE] = json.dumps(wanted)


def is_loaded(name: str) -> bool:
    """Return whether `load_plugins` has loaded a plug-in of this name."""
    return _locate(name) in json.loads(os.environ.get(VARIABLE, "[]"))


def plugin_modules() -> dict[str, str]:
    """Return the modules of all plug-ins by what users call them: that of a file by the file's name without `.py`.

    A script that registers callbacks or loggers is one of them.
    """
    registered = {
        entry.source: entry.source for registry in TARGETS.values() for entry in map(registry.__getitem__, registry)
    }
    installed = {point.module: point.module for point in _installed()}
    return registered | installed | _LOADED


@functools.cache
def _installed() -> tuple[importlib.metadata.EntryPoint, ...]:
    """Return the installed plug-ins; to find them takes long, since every installed package is looked at."""
    return tuple(importlib.metadata.entry_points(group=ENTRY_POINTS))


def target_of(entry: Entry) -> dict[str, Any]:
    """Return what a registered callback or logger stands for: its `_target_` and the defaults of its options."""
    defaults = dataclasses.asdict(entry.options())
    return {"_target_": f"{entry.plugin}.{entry.target.__qualname__}", **defaults}


def is_ambiguous(name: str) -> bool:
    """Return whether several plug-ins that are files have this name, without `.py`."""
    return name in _AMBIGUOUS


def import_file(name: str, path: str) -> None:
    """Import a Python file, of any ending, as the module of a name; `sys.modules` has it even if it raises."""
    loader = importlib.machinery.SourceFileLoader(name, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    loader.exec_module(module)


def _locate(name: str) -> str:
    """The name of a module, or the absolute path of a file."""
    return str(Path(name).absolute()) if name.endswith(".py") else name


def _import(name: str) -> None:
    try:
        if not name.endswith(".py"):
            importlib.import_module(name)
            _LOADED[name] = name
            return
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        module_name = f"{Path(name).stem}_{digest}"
        if module_name in sys.modules:
            return
        try:
            import_file(module_name, name)
        except BaseException:
            del sys.modules[module_name]
            raise
        if Path(name).stem in _LOADED:
            _AMBIGUOUS.add(Path(name).stem)
        _LOADED[Path(name).stem] = module_name
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(
            f"`plugins=[{name}]` cannot be imported: {type(error).__name__}: {error}; give an installed module, or the"
            " path of a Python file"
        ) from error
