"""The folder of a study, a comparison or a multirun: its options, and the runs that belong to it.

FOLDER/study.yaml, comparison.yaml or trials.yaml holds the id and the options of the experiment. RUN/trial.json of each
of its runs holds the same id and the relative path from the run to the folder. So a folder can be moved with its runs,
and a run that is moved out of it no longer belongs to the experiment.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml

from skiplight.config.schema import CHOSEN, MAPPINGS, Config
from skiplight.config.validate import run_options
from skiplight.errors import ConfigError, RunError, UnwritableError
from skiplight.files import locked, read_text, replacing
from skiplight.training.run_folder import RunFolder, TrialInfo

FORMAT = 2

Kind = Literal["study", "comparison", "multirun"]
EXPERIMENT_FILES: dict[Kind, str] = {"study": "study.yaml", "comparison": "comparison.yaml", "multirun": "trials.yaml"}
"""The file by which each kind is recognised. Not multirun.yaml, which Hydra's own launchers write themselves."""

CHANGEABLE_OPTIONS = ("run_dir", "logger", "checkpoint", "trainer.devices")
"""Options and groups that may change when an experiment is continued."""


class ExperimentFolder:
    """A folder of many runs.

    Args:
        path: the folder, which need not exist yet.
        kind: kind of the experiment.
    """

    def __init__(self, path: Path, kind: Kind) -> None:
        self.path, self.kind = path, kind
        self.file = path / EXPERIMENT_FILES[kind]

    @classmethod
    def find(cls, path: Path) -> ExperimentFolder | None:
        """Return the experiment in a folder, or None if there is none."""
        return next((found for kind in EXPERIMENT_FILES if (found := cls(path, kind)).file.exists()), None)

    def create_or_check(self, replaced: dict[str, Any] | None = None, **about: dict[str, Any]) -> bool:
        """Create the folder, or check that it holds an experiment with the same options.

        Args:
            replaced: options that may change when the experiment is continued, by group; they are then written anew.
            about: the options that must stay the same, by group; the group `run` has those of the runs.

        Returns:
            Whether the experiment existed and `replaced` has changed.

        Raises:
            ConfigError: the experiment in the folder has other options.
            RunError: the folder is not such an experiment.
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
                        f"`run_dir={self.path}` exists already and is not a {self.kind}: choose another folder"
                    )
                self._write({"format": FORMAT, "id": secrets.token_hex(8), **about, **(replaced or {})})
                return False
        self._check_options(yaml.safe_load(yaml.safe_dump(about)))
        with self.locked():
            before, now = self.read(), yaml.safe_load(yaml.safe_dump(replaced or {}))
            if all(before.get(group) == options for group, options in now.items()):
                return False
            self._write(before | now)
        return True

    def _write(self, about: dict[str, Any]) -> None:
        with replacing(self.file) as temporary:
            temporary.write_text(yaml.safe_dump(about, sort_keys=False, allow_unicode=True), encoding="utf-8")

    def read(self) -> dict[str, Any]:
        """Return the content of the experiment's file.

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
            raise RunError(f"{self.file} is not the file of a {self.kind}: it has no format and id") from None
        if version != FORMAT:
            reason = (
                "newer than this skiplight reads: upgrade skiplight" if version > FORMAT else "too old: start a new one"
            )
            raise RunError(f"the format of {self.path}, {version}, is {reason}")
        return about

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Wait for the experiment's lock, and hold it inside the context.

        Raises:
            UnwritableError: a file in the folder cannot be written; also one that is written inside the context.
        """
        try:
            with locked(self.path / ".lock", wait=lambda: None):
                yield
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def create_run(self, path: Path, config: Config, number: int) -> None:
        """Create the folder of one of the experiment's runs; the caller holds the lock.

        Args:
            path: the run's folder, inside that of the experiment.
            config: the run's options; its `run_dir` and `logger.group` are set.
            number: number of the run in the experiment.

        Raises:
            UnwritableError: the folder cannot be created.
        """
        back = "/".join([".."] * len(path.relative_to(self.path).parts))
        config.run_dir = str(path)
        if "wandb" in config.logger:
            own = config.logger["wandb"]
            config.logger = config.logger | {"wandb": own | {"group": own.get("group") or self.path.resolve().name}}
        RunFolder(path).create(config, TrialInfo(self.kind, self.read()["id"], back, number))

    def _check_options(self, about: dict[str, Any]) -> None:
        before, now = _without_changeable(self.read()), _without_changeable(about)
        if changed := [name for name in now if now[name] != before.get(name)]:
            name = changed[0]
            more = f" (and {', '.join(changed[1:])})" if changed[1:] else ""
            raise ConfigError(
                f"the {self.kind} in {self.path} began with `{name}={before.get(name)}`, not with {now[name]}{more},"
                " so its trials could not be compared; give the same options again, or another `run_dir`"
            )


def find_experiment(run: RunFolder) -> tuple[ExperimentFolder, int] | None:
    """Return the experiment that a run belongs to and the run's number in it, or None if it belongs to none."""
    info = run.trial_info
    if info is None or info.kind not in EXPERIMENT_FILES:
        return None
    folder = ExperimentFolder(run.path.resolve() / info.folder, info.kind)
    try:
        return (folder, info.number) if folder.read()["id"] == info.experiment else None
    except RunError:  # the run was moved out of the experiment's folder
        return None


def _unwritable(path: Path, error: OSError) -> UnwritableError:
    return UnwritableError(
        f"`run_dir={path}` cannot be written: {error.strerror}; free space or make it writable, then give the"
        " same command again"
    )


def fixed_options(config: Config) -> dict[str, Any]:
    """Return the options that decide the results of a run and must stay the same, by their dotted names."""
    return _without_changeable({"run": run_options(config)})


def _without_changeable(about: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for group, options in about.items():
        if isinstance(options, dict):
            flat |= flat_options(options, "" if group == "run" else f"{group}.")
    changeable = set(CHANGEABLE_OPTIONS)
    return {name: value for name, value in flat.items() if not {name, name.partition(".")[0]} & changeable}


def flat_options(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return options by their dotted names.

    Args:
        options: options, nested in their groups, as `run_options` returns them.
        prefix: group of the options, with a dot; options of a group are not nested further.

    >>> flat_options({"model": {"dim": 100}, "seed": 0})
    {'model.dim': 100, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, dict) and (not prefix or prefix + name in (*CHOSEN, *MAPPINGS)):
            flat |= flat_options(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
