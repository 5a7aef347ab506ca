"""Files that appear whole or not at all: written under another name, flushed to the disk, then renamed.

A training that is killed, or a disk that fills up, thus leaves the old file (or none), never half a file that
looks like a whole one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from skiplight.errors import UnwritableError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a path beside `path` to write a file or folder at; after the block it takes `path`'s place.

    The temporary name ends as `path` does, so that writers which go by the suffix (`.gz`) work. If the block
    raises, what it wrote is removed and `path` is as it was. A folder cannot take the place of a full one.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder, "a.txt")) as temporary:
    ...         _ = temporary.write_text("whole")
    ...     os.listdir(folder)
    ['a.txt']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")) if temporary.is_dir() else [temporary]:
            if file.is_file():
                file.chmod(0o666 & ~_umask())  # safetensors makes files that only their owner may read
                with file.open("rb+") as stream:
                    os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)
        raise


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
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
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
