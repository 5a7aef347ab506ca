"""Disks that are small, or turn read-only, for tests: mounted for real, which takes root or sudo without a password."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of that size, as `mount` has it ("512k"), mounted at a folder that is made."""
    folder.mkdir()
    with _mounted(folder, "-t", "tmpfs", "-o", f"size={size},mode=777", "tmpfs"):
        yield folder


def enlarge(folder: Path, size: str) -> None:
    """Makes room on a small disk."""
    subprocess.run(_as_root("mount", "-o", f"remount,size={size}", str(folder)), check=True)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Whatever is opened in the folder meanwhile cannot be written to, not even by root."""
    # A mount turns read-only only while nobody writes to it, so it does so elsewhere, and then comes here as it is.
    with (
        tempfile.TemporaryDirectory() as aside,
        _mounted(Path(aside), "--bind", "-o", "ro", str(folder)),
        _mounted(folder, "--bind", aside),
    ):
        yield


@contextlib.contextmanager
def _mounted(folder: Path, *how: str) -> Iterator[None]:
    if sys.platform != "linux" or shutil.which("mount") is None:
        pytest.skip("mounts disks, as Linux does")
    done = subprocess.run(_as_root("mount", *how, str(folder)), capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(_as_root("umount", "--lazy", str(folder)), check=True)


def _as_root(*command: str) -> list[str]:
    return list(command) if os.geteuid() == 0 else ["sudo", "-n", *command]
