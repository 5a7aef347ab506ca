"""Files that appear whole or not at all: written under another name, flushed to the disk, then renamed.

A training that is killed, or a disk that fills up, thus leaves the old file (or none), never half a file that
looks like a whole one. `digest` tells a file that was changed later; `locked` lets one process at a time write.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from skiplight.errors import UnwritableError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, parents: bool = True) -> Iterator[Path]:
    """Yields a path beside `path` to write a file or folder at; after the block it takes `path`'s place.

    The temporary name ends as `path` does, so that writers which go by the suffix (`.gz`) work. If the block
    raises, what it wrote is removed and `path` is as it was. A folder cannot take the place of a full one.

    Args:
        path: the file or folder.
        parents: whether to make the folder that it lies in; without, a folder that was removed stays so.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "a.txt")) as temporary:
    ...         _ = temporary.write_text("whole")
    ...     os.listdir(folder)
    ['a.txt']
    """
    path = Path(path)
    if parents:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        yield temporary
        for file in [*temporary.rglob("*"), temporary]:
            if file.is_file():
                file.chmod(0o666 & ~_umask())  # safetensors makes files that only their owner may read
            sync(file)
        temporary.replace(path)
        sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            remove(temporary)
        raise


def remove(path: Path) -> None:
    """Removes a file or a folder with all that is in it, if it is there.

    A folder first takes a temporary name, so that a process that is killed meanwhile leaves no half of one.
    """
    if path.is_dir() and not path.is_symlink():
        doomed = path if path.name.startswith(".tmp-") else path.with_name(f".tmp-{os.getpid()}-{path.name}")
        path.rename(doomed)
        shutil.rmtree(doomed)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Waits until a file's content, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(path: Path) -> str:
    """BLAKE2b of a file's content, 128 bits in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@contextlib.contextmanager
def locked(path: Path, *, wait: Callable[[], object] | None = None) -> Iterator[IO[str]]:
    """Holds a lock on the file `path` and yields it, open to write in; the file is removed when the lock is given up.

    The system drops the lock of a process that was killed; its file stays and does no harm.

    Args:
        path: the lock's file.
        wait: called once before waiting for another process; without, that process is an error.

    Raises:
        BlockingIOError: another process holds the lock.
    """
    while True:
        with path.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if wait is None:
                    raise
                wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            # Who held it before may have removed the file meanwhile: a lock on a file without a name keeps nobody out.
            if not _is_open(path, file):
                continue
            try:
                yield file
            finally:
                with contextlib.suppress(OSError):
                    path.unlink()
            return


def _is_open(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns what keeps a file or folder of a run from being written into an error that says what to do.

    Raises:
        UnwritableError: the disk is full, the folder is gone or not writable.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:  # torch.save raises RuntimeError
        if not Path(path).parent.exists():
            raise UnwritableError(f"{path} cannot be written: its folder was removed") from error
        reason = error.strerror if isinstance(error, OSError) and error.strerror else f"{error}".partition("\n")[0]
        raise UnwritableError(
            f"{path} cannot be written: {reason}; make room or make it writable, then `skiplight resume` the run"
        ) from error


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def cache_folder() -> Path:
    """Where skiplight keeps what it can make again: $SKIPLIGHT_CACHE, else skiplight in $XDG_CACHE_HOME or ~/.cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skiplight"
    return Path(os.environ.get("SKIPLIGHT_CACHE") or default)
