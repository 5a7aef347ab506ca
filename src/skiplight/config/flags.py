"""The options of Hydra's command line that say where configs are read, and those that show them."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skiplight.errors import ConfigError


@dataclasses.dataclass(frozen=True)
class ConfigSource:
    """Where configs are read.

    Attributes:
        folder: a user's folder of configs, in addition to the main one.
        name: the primary config.
        main: the main folder, by default conf/.
    """

    folder: str | None = None
    name: str = "config"
    main: str | None = None

    @property
    def flags(self) -> list[str]:
        """The same as options of a command line."""
        given = {"--config-dir": self.folder, "--config-name": self.name, "--config-path": self.main}
        return [f"{flag}={value}" for flag, value in given.items() if value not in (None, "config")]


class ErrorParser(argparse.ArgumentParser):
    """A parser that raises a `ConfigError` instead of ending the process."""

    def error(self, message: str) -> Any:
        raise ConfigError(f"{message}: give options as name=value")


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Add the options of Hydra's command line that say where configs are read."""
    parser.add_argument("--config-dir", "-cd", help="a folder of your own configs, besides conf/")
    parser.add_argument("--config-name", "-cn", default="config", help="the primary config (config)")
    parser.add_argument("--config-path", "-cp", help="a folder of configs instead of conf/")


def add_show_flags(parser: argparse.ArgumentParser) -> None:
    """Add the options of Hydra's command line that show configs instead of training, with the names that it has."""
    parser.add_argument("--cfg", "-c", choices=["job", "hydra", "all"], help="show the composed config")
    parser.add_argument("--resolve", action="store_true", help="with --cfg: resolve interpolations")
    parser.add_argument("--package", "-p", help="with --cfg: the part to show")
    parser.add_argument(
        "--info",
        "-i",
        nargs="?",
        const="all",
        choices=["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"],
        help="show how Hydra composes it",
    )
    parser.add_argument("--hydra-help", action="store_true", help="show Hydra's own help")
    parser.add_argument("--shell-completion", "-sc", action="store_true", help="install=bash, zsh by bash, or fish")
    parser.add_argument("--run", "-r", action="store_true", help="train one run, which is what happens anyway")
    parser.add_argument("--experimental-rerun", help=argparse.SUPPRESS)


def shown_arguments(given: argparse.Namespace) -> list[str]:
    """Return the arguments for `hydra.main` that show a config, by the options of `add_show_flags`; [] for none.

    Raises:
        ConfigError: an option is refused, or needs another.
    """
    if given.experimental_rerun is not None:
        raise ConfigError(
            "--experimental-rerun reads a pickle, which can run anything: go on with `skiplight resume RUN`, or give"
            " the options again"
        )
    if (given.resolve or given.package) and not given.cfg:
        raise ConfigError("--resolve and --package belong to --cfg: give `--cfg job` too")
    found = [f"--cfg={given.cfg}"] if given.cfg else []
    found += ["--resolve"] if given.resolve else []
    found += [f"--package={given.package}"] if given.package else []
    found += [f"--info={given.info}"] if given.info else []
    return [*found, *(["--hydra-help"] if given.hydra_help else [])]


def source_of(given: argparse.Namespace) -> ConfigSource:
    """Return where configs are read, by the options of `add_config_flags`.

    Raises:
        ConfigError: there is no such folder.
    """
    for flag, folder in (("--config-dir", given.config_dir), ("--config-path", given.config_path)):
        if folder is not None and not Path(folder).is_dir():
            raise ConfigError(f"{flag} {folder} is no folder: give the folder that holds your configs")
    folder, main = (path and str(Path(path).absolute()) for path in (given.config_dir, given.config_path))
    return ConfigSource(folder, given.config_name.removesuffix(".yaml"), main)


def split_flags(overrides: Sequence[str]) -> tuple[ConfigSource, list[str]]:
    """Return where configs are read, and the overrides without the options that say so.

    Raises:
        ConfigError: an option is unknown, or a folder does not exist.
    """
    if not any(override.startswith("-") for override in overrides):
        return ConfigSource(), list(overrides)
    parser = ErrorParser(add_help=False, allow_abbrev=False)
    add_config_flags(parser)
    given, rest = parser.parse_known_args(list(overrides))
    return source_of(given), rest
