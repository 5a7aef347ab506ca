"""The folder of a study, a comparison or a multirun: what is trained in it, and which runs belong to it.

FOLDER/study.yaml, comparison.yaml or trials.yaml has the experiment's id and options; RUN/trial.json in each of its
runs has the same id and the way to the folder from the run. So a folder that is moved keeps its runs, and a run that is
moved out of it is one of its own.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml

from skiplight.config.schema import Config
from skiplight.errors import ConfigError, RunError, UnwritableError
from skiplight.files import locked, read_text, replacing
from skiplight.training.run_folder import PartOf, RunFolder

FORMAT = 2

Kind = Literal["study", "comparison", "multirun"]
FILES: dict[Kind, str] = {"study": "study.yaml", "comparison": "comparison.yaml", "multirun": "trials.yaml"}
"""What says what a folder holds; a multirun.yaml is written by Hydra itself, when one of its launchers is chosen."""

FREE = ("run_dir", "logger", "checkpoint", "trainer.devices")
"""Options in which the command that goes on with an experiment may differ from the one that began it."""


class ExperimentFolder:
    """A folder of many runs.

    Args:
        path: the folder.
        kind: what it holds.
    """

    def __init__(self, path: Path, kind: Kind) -> None:
        self.path, self.kind = path, kind
        self.file = path / FILES[kind]

    @classmethod
    def find(cls, path: Path) -> ExperimentFolder | None:
        """Return the experiment that lies in a folder; None where there is none."""
        return next((found for kind in FILES if (found := cls(path, kind)).file.exists()), None)

    def begin(self, **about: dict[str, Any]) -> None:
        """Make the folder, or check that it holds the same experiment.

        Args:
            about: the options that must stay the same, by group; `run` are those of the runs.

        Raises:
            ConfigError: the experiment began with other options.
            RunError: the folder is something else.
            UnwritableError: the folder cannot be written to.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(self.path, error) from None
        with self.locked():
            if not self.file.exists():
                if any(not path.name.startswith(".") for path in self.path.iterdir()):
                    raise RunError(
                        f"`run_dir={self.path}` exists already and is no {self.kind}: give it a folder of its own"
                    )
                text = yaml.safe_dump(
                    {"format": FORMAT, "id": secrets.token_hex(8), **about}, sort_keys=False, allow_unicode=True
                )
                with replacing(self.file) as temporary:
                    temporary.write_text(text, encoding="utf-8")
        self._refuse_other(yaml.safe_load(yaml.safe_dump(about)))

    def read(self) -> dict[str, Any]:
        """Return what the experiment's file holds.

        Raises:
            RunError: the file is missing, damaged, or of another format.
        """
        try:
            about = yaml.safe_load(read_text(self.file))
            version = about["format"]
            str(about["id"])
        except FileNotFoundError:
            raise RunError(f"{self.path} is not a {self.kind}: it has no {self.file.name}") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise RunError(f"{self.file} cannot be read: {error}") from None
        except (LookupError, TypeError):
            raise RunError(f"{self.file} is not a {self.kind}'s: it has no format and id") from None
        if version != FORMAT:
            reason = "newer than this skiplight reads: upgrade it" if version > FORMAT else "too old: begin another"
            raise RunError(f"{self.path} is of format {version}, {reason}")
        return about

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the experiment's lock, which is waited for.

        Raises:
            UnwritableError: something in the folder cannot be written to.
        """
        try:
            with locked(self.path / ".lock", wait=lambda: None):
                yield
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def create_run(self, path: Path, config: Config, number: int) -> None:
        """Make the folder of one of the experiment's runs; to be called under the lock.

        Raises:
            UnwritableError: it cannot be made.
        """
        back = "/".join([".."] * len(path.relative_to(self.path).parts))
        config.run_dir = str(path)
        config.logger.group = config.logger.group or self.path.resolve().name
        RunFolder(path).create(config, PartOf(self.kind, self.read()["id"], back, number))

    def _refuse_other(self, about: dict[str, Any]) -> None:
        before, now = _flat(self.read()), _flat(about)
        if changed := [name for name in now if now[name] != before.get(name)]:
            name = changed[0]
            more = f" (and {', '.join(changed[1:])})" if changed[1:] else ""
            raise ConfigError(
                f"the {self.kind} in {self.path} began with `{name}={before.get(name)}`, not with {now[name]}{more}:"
                " its trials could not be compared; give the same options again, or another run_dir"
            )


def experiment_of(run: RunFolder) -> tuple[ExperimentFolder, int] | None:
    """Return the experiment that a run belongs to and the run's number in it; None for a run of its own."""
    part = run.part_of
    if part is None or part.kind not in FILES:
        return None
    folder = ExperimentFolder(run.path.resolve() / part.folder, part.kind)
    try:
        return (folder, part.number) if folder.read()["id"] == part.experiment else None
    except RunError:  # the run was moved out of it
        return None


def _unwritable(path: Path, error: OSError) -> UnwritableError:
    return UnwritableError(
        f"`run_dir={path}` cannot be written: {error.strerror}; make room or make it writable, then give the same"
        " command again"
    )


def _flat(about: dict[str, Any]) -> dict[str, Any]:
    """The options by their dotted names, without those that are free."""
    flat: dict[str, Any] = {}
    for group, options in about.items():
        if isinstance(options, dict):
            flat |= flat_options(options, "" if group == "run" else f"{group}.")
    return {name: value for name, value in flat.items() if not is_free(name)}


def flat_options(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return options in nested mappings, as `run_options` gives them, by their dotted names.

    >>> flat_options({"model": {"dim": 100}, "seed": 0})
    {'model.dim': 100, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, dict) and not prefix:
            flat |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            flat[prefix + name] = value
    return flat


def is_free(option: str) -> bool:
    """Return whether runs that differ in this option only are the same."""
    return option in FREE or option.partition(".")[0] in FREE
