"""Compose a run's options from conf/, a user's own configs and the overrides of a command line, by Hydra.

Overrides may be preceded by three options of Hydra's command line, `--config-dir=DIR`, `--config-name=NAME` and
`--config-path=DIR`, so that what composes many configs (studies, comparisons, multiruns) reads the same folders.

Runs use Hydra's compose API instead of `hydra.main`, which would exit with messages and codes of its own, where
skiplight raises an error that names the option and the remedy. `run_hydra` is `hydra.main`, for all that it has besides
running: `--cfg`, `--info`, `--hydra-help`, shell completion and launchers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import itertools
import logging
import re
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import hydra
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from skiplight.config import conf_dir
from skiplight.config.flags import ConfigSource, split_flags
from skiplight.config.schema import CHOSEN, MAPPINGS, Config, chosen
from skiplight.config.validate import MAX_DEPTH, OPEN, check_names, check_owner, from_mapping
from skiplight.errors import ConfigError
from skiplight.registry import REGISTRIES, TARGETS, is_loaded, load_plugins, target_of

VERSION_BASE = "1.3"
"""The version of Hydra whose defaults apply."""


class _UserConfigs(SearchPathPlugin):
    """Adds the user's folder to Hydra's search path, as `--config-dir` of `hydra.main` does."""

    folder: ClassVar[str | None] = None

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if self.folder is not None:
            search_path.append("command-line", f"file://{self.folder}")


EXTRA_LAUNCHERS = ("joblib", "submitit_")
"""Names, or how they begin, of Hydra's launchers that are in packages of their own."""


def compose(overrides: Sequence[str]) -> Config:
    """Return the checked options of conf/ with these Hydra overrides.

    Args:
        overrides: as on the command line; `--config-dir=DIR` and the others of `add_config_flags` may be among them.

    Raises:
        ConfigError: an override cannot be parsed, or names an unknown option or value.
    """
    source, overrides = split_flags(overrides)
    overrides = choose_groups(overrides)
    load_plugins(named_plugins(overrides))
    composed = _compose_with_plugins(source, overrides)
    mode = OmegaConf.select(composed, "hydra.mode")
    if mode is not None and mode.name == "MULTIRUN":
        raise ConfigError("`hydra.mode=MULTIRUN`: give `skiplight train -m` for several runs")
    if OmegaConf.select(composed, "hydra.sweeper.params"):
        raise ConfigError(
            "`hydra.sweeper.params`: give the values as overrides of `skiplight train -m`, or `study.space`"
        )
    HydraConfig.instance().set_config(composed)  # for ${hydra:...}
    with open_dict(composed):
        del composed["hydra"]
    return from_mapping(composed)


def _compose_with_plugins(source: ConfigSource, overrides: list[str]) -> DictConfig:
    """Compose, load the plug-ins that a config file names, and compose again where they may change the result."""
    while True:
        error: ConfigError | None = None
        try:
            composed = _compose(source, overrides)
            try:
                named = [str(name) for name in composed.plugins]
            except (OmegaConfBaseException, TypeError):
                named = []  # `from_mapping` says what is wrong with them
        except ConfigError as found:
            error, named = found, _plugins_of_files(source, overrides)
        new = [name for name in named if not is_loaded(name)]
        if not new:
            if error is not None:
                raise error
            return composed
        load_plugins(new)


def _compose(source: ConfigSource, overrides: list[str]) -> DictConfig:
    with _initialized(source) as loader:
        _check_overrides(source, overrides, loader)
        try:
            return hydra_compose(source.name, overrides=list(overrides), return_hydra_config=True)
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            # Hydra appends its search path to the message, OmegaConf the names of our classes.
            reason = str(error.__cause__ or error).partition("Config search path")[0].partition("full_key")[0]
            key = getattr(error.__cause__, "full_key", None)
            if key and "not in struct" in reason:
                check_owner(key)
                check_names([key])
            _explain_unknown_key(reason)
            group, _, name = str(getattr(error, "missing_cfg_file", None) or "").rpartition("/")
            if group == "hydra/launcher" and name.startswith(EXTRA_LAUNCHERS):
                raise ConfigError(
                    f"`hydra/launcher={name}` is a package of its own: install it with"
                    " `pip install 'skiplight[launchers]'`, or leave it out for the executor (--workers N)"
                ) from None
            if group and (choices := loader.get_group_options(group, ObjectType.CONFIG, source.name)):
                near = difflib.get_close_matches(name, choices, n=1)
                hint = f" (did you mean {near[0]}?)" if near else ""
                raise ConfigError(
                    f"`{group}={name}` is none of {', '.join(choices)}{hint}: give one of these"
                ) from None
            raise ConfigError((f"`{key}`: " if key else "") + " ".join(reason.split())) from None


def _explain_unknown_key(reason: str) -> None:
    """Raise an error with the remedy for what Hydra says of an unknown option in a file of configs."""
    found = re.match(r"(In '.+?': ).*Key '(.+)' not in '(\w+)'", reason, re.DOTALL)
    if found is None:
        return
    types = typing.get_type_hints(Config)
    group = next((name for name, kind in types.items() if getattr(kind, "__name__", "") == found[3]), None)
    if group is not None:
        try:
            check_names([f"{group}.{found[2]}"])
        except ConfigError as error:
            raise ConfigError(f"{found[1]}{error}") from None


@contextlib.contextmanager
def _initialized(source: ConfigSource) -> Iterator[ConfigLoader]:
    register_schema()
    GlobalHydra.instance().clear()
    Plugins.instance().register(_UserConfigs)
    _UserConfigs.folder = source.folder
    try:
        with initialize_config_dir(source.main or str(conf_dir()), version_base=VERSION_BASE):
            yield GlobalHydra.instance().config_loader()
    finally:
        _UserConfigs.folder = None


def _plugins_of_files(source: ConfigSource, overrides: list[str]) -> list[str]:
    """Return the plug-ins that config files name, where composing fails since what they register is not known yet."""
    groups = [override for override in overrides if "." not in override.partition("=")[0] and "{" not in override]
    store, unknown = ConfigStore.instance(), []
    with _initialized(source):
        try:
            while True:
                try:
                    return [str(name) for name in hydra_compose(source.name, overrides=groups).plugins or []]
                except MissingConfigException as error:
                    group, _, name = str(error.missing_cfg_file).rpartition("/")
                    if group not in REGISTRIES or (group, name) in unknown:
                        return []
                    unknown.append((group, name))
                    store.store(group=group, name=name, node={REGISTRIES[group].key: name})
        except (HydraException, OmegaConfBaseException, TypeError, ValueError):
            return []
        finally:
            for group, name in unknown:
                store.repo[group].pop(f"{name}.yaml", None)


def run_hydra(arguments: Sequence[str], task: Callable[[DictConfig], Any]) -> int:
    """Call `hydra.main` with arguments of Hydra's command line; return the exit code that it asks for.

    Hydra logs to the standard output of now, by a handler that it leaves at the root; a program or a notebook that
    goes on keeps its own.
    """
    register_schema()
    before = sys.argv
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    sys.argv = ["skiplight", *arguments]
    try:
        hydra.main(version_base=VERSION_BASE, config_path=str(conf_dir()), config_name="config")(task)()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        sys.argv = before
        root.handlers[:] = handlers
        root.setLevel(level)
    return 0


def register_schema() -> None:
    """Register the schema with Hydra, and a choice of its group for what plug-ins have registered.

    Raises:
        ConfigError: a plug-in has registered a name that a file of conf/ has.
    """
    store = ConfigStore.instance()
    # Groups whose options depend on a registered name are checked by `from_mapping`, since Hydra knows one type only.
    schema = OmegaConf.structured(Config)
    node: dict[Any, Any] = {name: {} if name in OPEN else schema._get_node(name) for name in schema}
    for group in CHOSEN:
        outer, _, inner = group.partition(".")
        node[outer] = {**dataclasses.asdict(getattr(Config(), outer)), inner: {}} if inner else {}
    store.store(name="schema", node=OmegaConf.create(node))
    for group, registry in (REGISTRIES | TARGETS).items():
        for name in registry:
            if _is_in_conf(group, name) and not (entry := registry[name]).is_built_in:
                raise ConfigError(f"`{group}={name}` of {entry.plugin} is a choice of skiplight already: rename it")
    for group, registry in REGISTRIES.items():
        for name in registry:
            if not _is_in_conf(group, name):
                store.store(group=_path(group), name=name, node=dataclasses.asdict(chosen(group, name)))
    for group, registry in TARGETS.items():
        for name in registry:
            store.store(group=group, name=name, node={name: target_of(registry[name])})


def _path(group: str) -> str:
    """The path of a group in conf/, which Hydra calls it by: `optim/schedule` for `optim.schedule`."""
    return group.replace(".", "/")


def _is_in_conf(group: str, name: str) -> bool:
    return (conf_dir() / _path(group) / f"{name}.yaml").exists()


def choose_groups(overrides: Sequence[str]) -> list[str]:
    """Return the overrides as Hydra needs them where an option is also a group, or a mapping.

    `noise.name=uniform` becomes `noise=uniform`, which chooses the options of the name too, and `optim.schedule=cosine`
    becomes `optim/schedule=cosine`. An entry of a mapping, `optim.args.momentum=0.9`, is added to it. Names of
    evaluations, which Hydra does not know, are given as it takes them; see `_name_evaluations`. `callbacks={...}`
    becomes `callbacks=none ++callbacks={...}`, and `callbacks=null` and `~callbacks` become `callbacks=none`.
    """
    prefixes = {f"{group}.{REGISTRIES[group].key}=": f"{_path(group)}=" for group in CHOSEN}
    prefixes |= {f"{group}=": f"{_path(group)}=" for group in CHOSEN if "." in group}
    prefixes |= {f"{mapping}.": f"++{mapping}." for mapping in MAPPINGS}
    found = []
    for override in overrides:
        prefix = next((prefix for prefix in prefixes if override.startswith(prefix)), "")
        name, _, value = override.partition("=")
        if prefix:
            found.append(prefixes[prefix] + override[len(prefix) :])
        elif name in OPEN and value.lstrip().startswith("{"):
            found += [f"{name}=none", f"++{override}"]
        elif override in {f"{one}=null" for one in OPEN} | {f"~{one}" for one in OPEN}:
            found.append(f"{name.removeprefix('~')}=none")
        elif override.startswith("evaluation.metrics"):
            found.append(_name_evaluations(override))
        else:
            found.append(override)
    return found


def _name_evaluations(override: str) -> str:
    """Return `evaluation.metrics=[a,b]` as a mapping, and `evaluation.metrics.a.option=1` with Hydra's `++`."""
    if override.startswith("evaluation.metrics."):
        return f"++{override}"
    _refuse_nested(override)
    with contextlib.suppress(HydraException):
        names = OverridesParser.create().parse_override(override).value()
        if isinstance(names, list):
            return f"evaluation.metrics={{{', '.join(f'{name}: {{}}' for name in names)}}}"
    return override


def named_plugins(overrides: Sequence[str]) -> list[str]:
    """Return the plug-ins that an override `plugins=[...]` names.

    Raises:
        ConfigError: it is not a list.
    """
    for override in overrides:
        if override.lstrip("+").startswith("plugins="):
            _refuse_nested(override)
            value = None
            with contextlib.suppress(HydraException):
                value = OverridesParser.create().parse_override(override).value()
            if not isinstance(value, list):
                raise ConfigError(f"`{override}` must be a list: give plugins=[module,./file.py]")
            return [str(name) for name in value]
    return []


def _refuse_nested(override: str) -> None:
    """Raise a `ConfigError` if an override is nested deeper than its parser takes."""
    if override.count("[") + override.count("{") > MAX_DEPTH:
        depth = list(itertools.accumulate((c in "[{") - (c in "]}") for c in override))
        if max(depth) > MAX_DEPTH:
            raise ConfigError(f"`{override[:40]}...` is nested more than {MAX_DEPTH} deep")


def check_overrides(overrides: Sequence[str]) -> None:
    """Check that overrides can be parsed and name existing options or groups.

    Raises:
        ConfigError: for the first override that does not.
    """
    source, overrides = split_flags(overrides)
    with _initialized(source) as loader:
        _check_overrides(source, overrides, loader)


def _check_overrides(source: ConfigSource, overrides: Sequence[str], loader: ConfigLoader) -> None:
    searched = [override for override in overrides if override.lstrip("+").startswith("hydra.searchpath=")]
    groups = {*loader.get_group_options("", ObjectType.GROUP, source.name, searched), *REGISTRIES}
    parser = OverridesParser.create()
    for override in overrides:
        _refuse_nested(override)
        if override.startswith("-"):
            raise ConfigError(f"`{override}` is not an option of `skiplight train`: give options as name=value")
        try:
            parsed = parser.parse_override(override)
        except HydraException:
            raise ConfigError(
                f"`{override}` cannot be parsed: give options as name=value, and quote a value with special characters "
                "for Hydra as well as for the shell, as in \"data.path='texts/ü*.txt'\""
            ) from None
        name = parsed.key_or_group.replace("/", ".") if not parsed.key_or_group.startswith("hydra") else "hydra"
        if name in ("data", "data.source") and parsed.value() == "planted":
            raise ConfigError(f"`{override}` no longer exists: give `{name}=synthetic_sessions`")
        value = parsed.value()
        if name in groups and isinstance(value, bool | int | float):
            choices = loader.get_group_options(_path(name), ObjectType.CONFIG, source.name, searched)
            raise ConfigError(f"`{override}`: give one of {', '.join(choices)}")
        if (
            name in REGISTRIES
            and isinstance(value, str)
            and value not in REGISTRIES[name]
            and value not in loader.get_group_options(_path(name), ObjectType.CONFIG, source.name, searched)
        ):
            REGISTRIES[name][value]  # raises, since it is not registered
        if name.partition("/")[0] not in groups and not name.startswith("hydra"):
            check_names([name])


def quote_value(text: str) -> str:
    """Quote a text for an override, whatever characters it contains."""
    # Only backslashes before a quote need an escape.
    return "'" + re.sub(r"(\\+)(?='|$)", r"\1\1", text).replace("'", r"\'") + "'"
