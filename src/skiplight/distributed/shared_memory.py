"""Tensors in memory that the processes of one machine share, which is freed when the last of them ends.

The first process makes a file in an in-memory file system, the others map it, and then its name is removed, so the
system frees it when the last process ends. A file remains only if all processes are killed before its name is removed;
the next start removes it, since nobody holds its lock.
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
"""The alignment of each tensor in bytes, a page."""


def memory_folders() -> list[Path]:
    """Return folders for shared memory, the fastest first: the in-memory file system, then the temporary folder."""
    return [folder for folder in (Path("/dev/shm"), Path(tempfile.gettempdir())) if os.access(folder, os.W_OK)]


def tensor_bytes(shapes: Sequence[Sequence[int]]) -> int:
    """Return the bytes of float32 tensors of these shapes in a file, including their alignment."""
    return sum(_padded(shape) for shape in shapes)


@contextlib.contextmanager
def shared_file(name: str, size: int) -> Iterator[Path]:
    """Make a file of zeros for `map_tensors`, and remove its name at the end of the block.

    Args:
        name: name of the run, a part of the file name.
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
                # Without a reservation, the first write to a page without room ends the process by SIGBUS.
                os.posix_fallocate(file.fileno(), 0, size)
            except OSError as error:
                full.append(f"{folder}: {error.strerror}")
                path.unlink()
                continue
            if full:
                log.warning(
                    "the ranks share their tables of %s MB through a file in %s, since %s; in a container, give it more"
                    " shared memory (docker run --shm-size)",
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
    """Return float32 tensors of these shapes in the memory of a file, shared by all processes that map it."""
    memory = torch.from_file(str(path), shared=True, size=tensor_bytes(shapes) // 4, dtype=torch.float32)
    tensors, first = [], 0
    for shape in shapes:
        tensors.append(memory[first : first + math.prod(shape)].view(*shape))
        first += _padded(shape) // 4
    return tensors


def remove_leftovers() -> None:
    """Remove files whose processes were all killed before the file's name was removed."""
    for folder in memory_folders():
        for path in folder.glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError), path.open("rb") as file:  # another user's, or removed already
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                log.info("removed %s, which killed processes had left", path)


def _locked_file(path: Path) -> BinaryIO:
    """Make a file that `remove_leftovers` does not remove while it is open, even if both run at the same time."""
    while True:
        file = path.open("xb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():
            return file
        file.close()  # another process removed it as a leftover between the two calls


def _padded(shape: Sequence[int]) -> int:
    return -(-4 * math.prod(shape) // ALIGNMENT) * ALIGNMENT
