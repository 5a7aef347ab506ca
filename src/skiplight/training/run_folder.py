"""The folder of a run: its paths, its creation, and its files."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import logging
import os
import re
import secrets
import time
import traceback
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from skiplight.config import validate
from skiplight.config.schema import Config
from skiplight.errors import BusyError, PausedError, PrunedError, RunError, Stopped, UnwritableError, command
from skiplight.files import locked, open_regular, parse_json, read_json, read_text, remove, replacing, writing
from skiplight.training.environment import describe_environment, job_name

log = logging.getLogger(__name__)

SUMMARY_FORMAT = 1

LOG_SECONDS = 30

OWN_NAMES = (
    ".lock", "checkpoints", "config.yaml", "environment.json", "errors", "fork", "forks.jsonl", "heartbeat.json",
    "metrics.jsonl", "output.log", "report.html", "result.json", "summary.json", "trial.json", "vectors", "wandb",
)  # fmt: skip
"""What a training writes in its folder."""

ORPHANS = 15
"""Seconds to wait for the loaders of a killed process, which hold its lock until they exit, after about 5 seconds."""


@dataclasses.dataclass(frozen=True)
class TrialInfo:
    """The experiment that a run belongs to, as in trial.json.

    Attributes:
        kind: study, comparison or multirun.
        experiment: id of the experiment.
        folder: folder of the experiment, relative to that of the run.
        number: number of the run in the experiment.
    """

    kind: str
    experiment: str
    folder: str
    number: int


class RunFolder:
    """The paths of a run, whose folder need not exist yet, and the operations on its files."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.metrics = self.path / "metrics.jsonl"
        self.forks = self.path / "forks.jsonl"
        self.summary = self.path / "summary.json"
        self.checkpoints = self.path / "checkpoints"
        self.vectors = self.path / "vectors"
        self.errors = self.path / "errors"
        self.report = self.path / "report.html"
        self.trial = self.path / "trial.json"

    def refuse_existing(self) -> None:
        """Raise a `RunError` if the folder exists, since runs are never overwritten."""
        if self.path.exists():
            raise RunError(
                f"`run_dir={self.path}` exists already: choose another, or go on with `{command('resume', self.path)}`"
            )

    def create(self, config: Config, trial_info: TrialInfo | None = None) -> None:
        """Create the folder with the resolved config.

        Args:
            config: all options.
            trial_info: the experiment that the run belongs to, if any.

        Raises:
            RunError: the folder exists, or cannot be written to.
        """
        self.refuse_existing()
        try:
            with replacing(self.path) as folder:
                (folder / self.checkpoints.name).mkdir(parents=True)
                validate.save_config(config, folder / self.config_file.name)
                about = {"id": f"{_plain(self.path.name)}-{secrets.token_hex(4)}"}
                (folder / self.environment.name).write_text(json.dumps(about, indent=2), encoding="utf-8")
                if trial_info is not None:
                    text = json.dumps(dataclasses.asdict(trial_info), indent=2)
                    (folder / self.trial.name).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise UnwritableError(
                f"`run_dir={self.path}` cannot be made: {error.strerror}; choose another folder"
            ) from None

    def describe(self, seed: int) -> None:
        """Write the environment to environment.json if it is not there yet; called by the process that trains."""
        if self.id and "python" not in read_json(self.environment):
            self.add_facts(**describe_environment(seed))

    def add_facts(self, **facts: Any) -> None:
        """Add facts to environment.json."""
        about = read_json(self.environment)
        with writing(self.environment), replacing(self.environment) as temporary:
            temporary.write_text(json.dumps(about | facts, indent=2), encoding="utf-8")

    def rewrite(self, config: Config) -> None:
        """Replace config.yaml, for a run that continues with other options."""
        with writing(self.config_file), replacing(self.config_file) as temporary:
            validate.save_config(config, temporary)

    def config(self) -> Config:
        """Return the options of an existing run.

        Raises:
            RunError: the folder is not a run.
        """
        if not self.config_file.exists():
            raise RunError(f"{self.path} is not a run: it has no config.yaml")
        return validate.load_config(self.config_file)

    @property
    def trial_info(self) -> TrialInfo | None:
        """The experiment that the run belongs to, from its trial.json, or None if it belongs to none.

        Raises:
            RunError: trial.json is damaged.
        """
        try:
            return TrialInfo(**read_json(self.trial))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise RunError(
                f"{self.trial} is damaged ({error}): delete it to separate the run from its experiment"
            ) from None

    @property
    def id(self) -> str:
        """The identifier of the run outside its folder: the folder's original name and random characters.

        Raises:
            RunError: environment.json is damaged.
        """
        try:
            name = read_json(self.environment)["id"]
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            name = None
        # The id becomes part of folder names and addresses.
        if not isinstance(name, str) or not re.fullmatch("[A-Za-z0-9_-]{1,80}", name):
            raise RunError(
                f"{self.environment} is damaged, it has no id of letters, digits, - and _: copy it again from its run"
            )
        return name

    def clean(self) -> None:
        """Remove files that a killed process left incomplete, and create checkpoints/ if it was dropped."""
        for leftover in [*self.path.glob(".tmp-*"), *self.path.glob("*/.tmp-*")]:
            remove(leftover)
        with writing(self.checkpoints):
            self.checkpoints.mkdir(exist_ok=True)

    def drop_checkpoints(self) -> None:
        """Remove the checkpoints of a finished run, which cannot be resumed."""
        if self.summary.exists() and self.checkpoints.exists():
            with contextlib.suppress(OSError):  # they do no harm
                remove(self.checkpoints)

    def refuse_links(self) -> None:
        """Raise a `RunError` if a symbolic link in the folder leads what is written into it elsewhere."""
        for name in OWN_NAMES:
            if (self.path / name).is_symlink():
                raise RunError(f"{self.path / name} is a symbolic link: put what it leads to in its place")

    @contextlib.contextmanager
    def locked(self, patience: float = 0) -> Iterator[None]:
        """Lock the folder against other processes that train in it.

        Args:
            patience: seconds to wait for another process to end.

        Raises:
            BusyError: another process trains in the folder.
            RunError: something in it is a symbolic link, or cannot be written to.
        """
        self.refuse_links()
        lock, begin = self.path / ".lock", time.monotonic()
        with contextlib.ExitStack() as held:
            while True:
                try:
                    file = held.enter_context(locked(lock))
                    break
                except BlockingIOError:
                    process = read_text(lock) if lock.exists() else ""
                    if time.monotonic() - begin < (max(patience, ORPHANS) if _is_dead(process) else patience):
                        time.sleep(0.1)
                        continue
                    raise BusyError(f"{self.path} is being trained by process {process or '?'}: let it end") from None
                except OSError as error:
                    raise RunError(f"{self.path} cannot be written to: {error.strerror}; make it writable") from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    @property
    def is_in_training(self) -> bool:
        """Whether a living process of this machine has locked the folder."""
        lock = self.path / ".lock"
        process = read_text(lock) if lock.exists() else ""
        return process.isdecimal() and not _is_dead(process)

    def wait(self) -> None:
        """Wait until the first rank has prepared the text and made the folder."""
        logged = time.monotonic()
        while not self.config_file.exists():
            time.sleep(0.1)
            if time.monotonic() - logged >= LOG_SECONDS:
                logged = time.monotonic()
                log.info("waiting for the first rank to prepare the text and make %s", self.path)

    @contextlib.contextmanager
    def keeping_errors(self, rank: int) -> Iterator[None]:
        """Write the traceback of an exception to errors/<rank>.txt, if possible, and raise it again."""
        try:
            yield
        except (Stopped, PausedError, PrunedError, KeyboardInterrupt):
            raise
        except BaseException:
            try:
                self.errors.mkdir(exist_ok=True)
                with open_regular(self.errors / f"{rank}.txt", "w") as file:
                    file.write(traceback.format_exc())
            except OSError as error:
                log.warning("%s cannot be written: %s", self.errors, error.strerror)
            raise

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json, which marks the run as finished."""
        with writing(self.summary), replacing(self.summary, parents=False) as temporary:
            text = json.dumps({"format": SUMMARY_FORMAT, **summary}, indent=2)
            temporary.write_text(text + "\n", encoding="utf-8")

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl; a last line that a killed process left in the middle is left out."""
        return _read_lines(self.metrics)

    def read_forks(self) -> list[dict[str, Any]]:
        """Return the lines of forks.jsonl: the scores of a study's trial at its rungs, by forks (`training.fork`)."""
        return _read_lines(self.forks)

    def read_summary(self) -> dict[str, Any]:
        """Return the content of summary.json.

        Raises:
            RunError: the run is not finished, or the file is damaged or of a newer format.
        """
        try:
            summary = read_json(self.summary)
            version = int(summary["format"])
        except FileNotFoundError:
            if not self.config_file.exists():
                raise RunError(f"{self.path} is no run: give the folder of one") from None
            raise RunError(f"{self.path} is not finished: go on with `{command('resume', self.path)}`") from None
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            raise RunError(
                f"{self.summary} is damaged: delete it, `{command('resume', self.path)}` writes it"
            ) from None
        if version > SUMMARY_FORMAT:
            raise RunError(f"{self.summary} is of format {version}, newer than this skiplight reads: upgrade it")
        return summary


def _read_lines(path: Path) -> list[dict[str, Any]]:
    try:
        text = read_text(path, errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}; put back the file of this run") from None
    found = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            found.append(parse_json(line))
    return [about for about in found if isinstance(about, dict)]


def _is_dead(process: str) -> bool:
    """Return whether no process on this machine has this number."""
    if not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def default_run_dir(config: Config) -> Path:
    """Return runs/<time>-<data>-<process>, where the process separates runs that start in the same second.

    Further runs that a process starts in the same second have a number as well. In a torchrun or Slurm job it is
    runs/<job>-<data>, the same for every rank and after a requeue.

    Raises:
        ConfigError: torchrun has not named its job.
    """
    name = _plain(getattr(config.data, "name", None) or config.data.source)
    if (job := job_name()) is not None:
        return Path("runs") / f"{_plain(job)}-{name}"
    first = Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{name}-{os.getpid()}"
    names = itertools.chain([first], (first.with_name(f"{first.name}-{number}") for number in itertools.count(2)))
    return next(path for path in names if not path.exists())


def _plain(name: str) -> str:
    """Return a name of letters, digits, - and _ only, at most 64 characters."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name)[:64]
