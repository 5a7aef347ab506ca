"""Puts tensors into memory that the processes of one machine share, of which nothing is left when they are gone.

The first process makes a file in a file system that is memory, the others map it, and then it loses its name: the
system frees it when the last process ends, however it ends. Only where all of them are killed within the moment in
which it still has its name does a file stay; the next start removes it, which it can tell by the lock that nobody
holds any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from skiplight.errors import RankError

log = logging.getLogger(__name__)

PREFIX = "skiplight-tables-"

ALIGNMENT = 4096
"""Bytes that each tensor begins at a multiple of: a page."""


def memory_folders() -> list[Path]:
    """Return where shared memory may be, the fastest first: a file system in memory, then that of temporary files."""
    return [folder for folder in (Path("/dev/shm"), Path(tempfile.gettempdir())) if os.access(folder, os.W_OK)]


def tensor_bytes(shapes: Sequence[Sequence[int]]) -> int:
    """Return the bytes that float32 tensors of these shapes take in a file."""
    return sum(_padded(shape) for shape in shapes)


@contextlib.contextmanager
def shared_file(name: str, size: int) -> Iterator[Path]:
    """Make a file of zeros for `mapped`, which has a name only as long as the block runs.

    Args:
        name: of the run, to recognise the file by.
        size: bytes.

    Raises:
        RankError: no file system of this machine has room for it.
    """
    remove_leftovers()
    full = []
    for folder in memory_folders():
        free = shutil.disk_usage(folder).free
        if free < size:
            full.append(f"{folder} has {free / 1e6:,.0f} MB free")
            continue
        path = folder / f"{PREFIX}{name}-{secrets.token_hex(4)}"
        with _locked_file(path) as file:
            try:
                path.chmod(0o600)
                # Reserved, since a page that finds no room when it is first written ends the process by SIGBUS.
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                full.append(f"{folder}: {error.strerror}")
                path.unlink()
                continue
            if full:
                log.warning(
                    "the ranks share their tables of %s MB through a file in %s, since %s; in a container give it more"
                    " (docker run --shm-size)",
                    f"{size / 1e6:,.0f}",
                    folder,
                    "; ".join(full),
                )
            try:
                yield path
            finally:
                path.unlink()
            return
    raise RankError(
        f"no room for tables of {size / 1e6:,.0f} MB that the ranks of this machine can share: {'; '.join(full)}; make"
        " room (docker run --shm-size, or a TMPDIR with room), or give `trainer.devices=1` with more `trainer.threads`"
    )


def map_tensors(path: Path, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Return float32 tensors of these shapes, in the memory that all processes share which have mapped this file."""
    memory = torch.from_file(str(path), shared=True, size=tensor_bytes(shapes) // 4, dtype=torch.float32)
    tensors, first = [], 0
    for shape in shapes:
        tensors.append(memory[first : first + math.prod(shape)].view(*shape))
        first += _padded(shape) // 4
    return tensors


def remove_leftovers() -> None:
    """Remove the files of processes that were all killed before their file had lost its name."""
    for folder in memory_folders():
        for path in folder.glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError), path.open("rb") as file:  # it is another user's, or gone already
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                log.info("removed %s, which killed processes had left behind", path)


def _locked_file(path: Path) -> BinaryIO:
    """Make a file that `remove_leftovers` leaves alone while it is open, also when that runs in the same moment."""
    while True:
        file = path.open("xb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():
            return file
        file.close()  # removed between the two calls, by a process that took it for a leftover


def _padded(shape: Sequence[int]) -> int:
    return -(-4 * math.prod(shape) // ALIGNMENT) * ALIGNMENT
