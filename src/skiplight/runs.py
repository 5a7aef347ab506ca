"""A run's folder: where everything of a run lies, and how it comes to be."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from skiplight import options
from skiplight.config import Config
from skiplight.errors import RunError, UnwritableError
from skiplight.files import locked, remove, replacing, writing

SUMMARY_FORMAT = 1

PACKAGES = (
    "skiplight",
    "torch",
    "lightning",
    "numba",
    "numpy",
    "pyarrow",
    "datasets",
    "hydra-core",
    "gensim",
)


class RunFolder:
    """The paths of a run.

    Args:
        path: the folder, which need not exist yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.metrics = self.path / "metrics.jsonl"
        self.summary = self.path / "summary.json"
        self.checkpoints = self.path / "checkpoints"
        self.vectors = self.path / "vectors"

    def refuse_existing(self) -> None:
        """Runs are never overwritten.

        Raises:
            RunError: the folder exists.
        """
        if self.path.exists():
            raise RunError(
                f"`run_dir={self.path}` exists already: choose another, or go on with `skiplight resume {self.path}`"
            )

    def create(self, config: Config) -> None:
        """Makes the folder with the resolved config; `describe` says later what the run runs on.

        Raises:
            RunError: it exists, or cannot be written to.
        """
        self.refuse_existing()
        try:
            with replacing(self.path) as folder:
                (folder / self.checkpoints.name).mkdir(parents=True)
                options.save(config, folder / self.config_file.name)
                about = {"id": f"{_plain(self.path.name)}-{secrets.token_hex(4)}"}
                (folder / self.environment.name).write_text(json.dumps(about, indent=2), encoding="utf-8")
        except OSError as error:
            raise UnwritableError(
                f"`run_dir={self.path}` cannot be made: {error.strerror}; choose another folder"
            ) from None

    def describe(self, seed: int) -> None:
        """Writes down what the run runs on, where it is not written down yet: asked by the process that trains."""
        identity = {"id": self.id}
        about = identity | json.loads(self.environment.read_text(encoding="utf-8"))
        if "python" not in about:
            with writing(self.environment), replacing(self.environment) as temporary:
                temporary.write_text(json.dumps(about | environment(seed), indent=2), encoding="utf-8")

    def config(self) -> Config:
        """The options of an existing run.

        Raises:
            RunError: there is no run here.
        """
        if not self.config_file.exists():
            raise RunError(f"{self.path} is not a run: it has no config.yaml")
        return options.load(self.config_file)

    @property
    def id(self) -> str:
        """What names the run outside its folder: the folder's first name and some random characters.

        Raises:
            RunError: environment.json is damaged.
        """
        try:
            name = json.loads(self.environment.read_text(encoding="utf-8"))["id"]
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            name = None
        # It becomes part of the names of folders and of addresses.
        if not isinstance(name, str) or not re.fullmatch("[A-Za-z0-9_-]{1,80}", name):
            raise RunError(
                f"{self.environment} is damaged, it has no id of letters, digits, - and _: copy it again from its run"
            )
        return name

    def clean(self) -> None:
        """Removes what a killed process left half-written."""
        for leftover in [*self.path.glob(".tmp-*"), *self.path.glob("*/.tmp-*")]:
            remove(leftover)

    @contextlib.contextmanager
    def locked(self, patience: float = 0) -> Iterator[None]:
        """Keeps other processes from training in this folder meanwhile.

        Args:
            patience: seconds to wait for another process to end.

        Raises:
            RunError: one does already.
        """
        lock, deadline = self.path / ".lock", time.monotonic() + patience
        with contextlib.ExitStack() as held:
            while True:
                try:
                    file = held.enter_context(locked(lock))
                    break
                except BlockingIOError:
                    if time.monotonic() < deadline:
                        time.sleep(0.1)
                        continue
                    process = lock.read_text(encoding="utf-8") if lock.exists() else ""
                    raise RunError(f"{self.path} is being trained by process {process or '?'}: let it end") from None
                except OSError as error:
                    raise RunError(f"{self.path} cannot be written to: {error.strerror}; make it writable") from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Writes summary.json, which marks the run as finished."""
        with writing(self.summary), replacing(self.summary, parents=False) as temporary:
            text = json.dumps({"format": SUMMARY_FORMAT, **summary}, indent=2)
            temporary.write_text(text + "\n", encoding="utf-8")

    def read_summary(self) -> dict[str, Any]:
        """What summary.json holds.

        Raises:
            RunError: the run is not finished, or the file is damaged or of a newer format.
        """
        try:
            summary = json.loads(self.summary.read_text(encoding="utf-8"))
            version = int(summary["format"])
        except FileNotFoundError:
            raise RunError(f"{self.path} is not finished: go on with `skiplight resume {self.path}`") from None
        except (OSError, ValueError, TypeError, LookupError, RecursionError):
            raise RunError(f"{self.summary} is damaged: delete it, `skiplight resume {self.path}` writes it") from None
        if version > SUMMARY_FORMAT:
            raise RunError(f"{self.summary} is of format {version}, newer than this skiplight reads: upgrade it")
        return summary


def default_run_dir(config: Config) -> Path:
    """runs/<time>-<data>, with the process behind it, since several may start in the same second."""
    name = _plain(config.data.name or config.data.source)
    return Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{name}-{os.getpid()}"


def _plain(name: str) -> str:
    """A name of letters, digits, - and _ only."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name)[:64]


def environment(seed: int) -> dict[str, Any]:
    """Versions, hardware, git commit of the working folder, and the seed."""
    import torch

    def version(package: str) -> str | None:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    git = shutil.which("git")
    commit = None
    if git:
        done = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        commit = done.stdout.strip() or None
    return {
        "python": platform.python_version(),
        "packages": {package: version(package) for package in PACKAGES},
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "git_commit": commit,
        "seed": seed,
    }
