"""Atomic writes, locks and checksums of files.

A file is written under another name, flushed to the disk, and then renamed. So a training that is killed, or a disk
that fills up, leaves the old file or none, never a part of a file that looks complete.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from skiplight.errors import ConfigError, UnwritableError

KERNELS, STORES = "kernels", "stores"
"""Folders in the cache: of compiled kernels, and of prepared texts."""

OFFICE_SUFFIXES = (".xlsx", ".xls", ".ods", ".docx", ".doc", ".odt", ".pdf")
"""Documents of office programs, which are not read."""

MAX_DEPTH = 64
"""The deepest nesting of JSON that is read."""

_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def open_regular(path: str | os.PathLike[str], mode: str = "r", *, errors: str | None = None) -> IO[Any]:
    """Open a file as `open` does, if it is a regular file: never a pipe, a socket or a device, which may not end.

    A file that is written to may not be a symbolic link either: in a folder that others share, it would lead elsewhere.

    Raises:
        OSError: it is something else, or cannot be opened; `strerror` has the reason.

    >>> open_regular("/dev/zero")
    Traceback (most recent call last):
    ...
    OSError: [Errno 22] it is not a regular file: '/dev/zero'
    """

    def opener(name: str, flags: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            if os.path.islink(name):
                raise OSError(errno.ELOOP, "it is a symbolic link, which is not followed", name)
            flags |= os.O_NOFOLLOW
        # Without O_NONBLOCK, opening a pipe waits for its other end.
        with contextlib.suppress(FileNotFoundError):
            _refuse_other(os.stat(name), name)
        descriptor = os.open(name, flags | os.O_NONBLOCK, 0o666)
        try:
            _refuse_other(os.fstat(descriptor), name)
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    return open(path, mode, encoding=None if "b" in mode else "utf-8", errors=errors, opener=opener)


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise an OSError if `path` is not a regular file, for a library that opens it by its name."""
    open_regular(path, "rb").close()


def read_text(path: str | os.PathLike[str], *, errors: str | None = None) -> str:
    """Return the content of a regular file in UTF-8."""
    with open_regular(path, errors=errors) as file:
        return str(file.read())


def read_json(path: str | os.PathLike[str]) -> Any:
    """Return the content of a JSON file whose nesting is bounded.

    Raises:
        OSError: it cannot be read, or is not a regular file.
        ValueError: it is not JSON, or is nested deeper than `MAX_DEPTH`.
    """
    return parse_json(read_text(path))


def parse_json(text: str) -> Any:
    """Return what a JSON text stands for.

    Raises:
        ValueError: it is not JSON, or is nested deeper than `MAX_DEPTH`, at which parsers may crash.

    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
    ...
    ValueError: it is nested more than 64 deep
    """
    depth = 0
    for bracket in _BRACKETS.findall(text):
        if bracket in ("[", "{"):
            depth += 1
            if depth > MAX_DEPTH:
                raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
        elif bracket in ("]", "}"):
            depth -= 1
    return json.loads(text)


def _refuse_other(status: os.stat_result, name: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", name)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str], *, parents: bool = True) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, and rename it to `path` after the block.

    The temporary name has the suffix of `path`, which some writers go by (`.gz`). If the block raises an error, the
    temporary file or folder is removed, and `path` does not change. A folder cannot replace a folder that is not empty.

    Args:
        path: the file or folder.
        parents: whether to create the folder of `path` if it does not exist.

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
    # No other user can guess the name, and put a link there that leads elsewhere.
    temporary = path.with_name(f".tmp-{secrets.token_hex(4)}-{path.name}")
    try:
        yield temporary
        for file in [*temporary.rglob("*"), temporary]:
            if file.is_file():
                file.chmod(0o666 & ~_umask())  # safetensors creates files that only their owner may read
            sync(file)
        temporary.replace(path)
        sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            remove(temporary)
        raise


def remove(path: Path) -> None:
    """Remove a file or a folder with its content, if it exists.

    A folder is first renamed to a temporary name, so that a process that is killed leaves no incomplete folder.
    """
    if path.is_dir() and not path.is_symlink():
        doomed = path if path.name.startswith(".tmp-") else path.with_name(f".tmp-{os.getpid()}-{path.name}")
        path.rename(doomed)
        shutil.rmtree(doomed)
    else:
        path.unlink(missing_ok=True)


def disk_usage(folder: Path) -> int:
    """Return the bytes of all files in a folder and in those below it."""
    return sum(Path(place, file).lstat().st_size for place, _, files in os.walk(folder) for file in files)


def sync(path: Path) -> None:
    """Flush the content of a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(path: Path) -> str:
    """Return the BLAKE2b hash of a file's content, 128 bits in hexadecimal."""
    with open_regular(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()  # type: ignore[arg-type]


@contextlib.contextmanager
def locked(path: Path, *, wait: Callable[[], object] | None = None) -> Iterator[IO[str]]:
    """Lock the file `path`, yield it open for writing, and remove it when the lock is released.

    The system releases the lock of a process that is killed; its file remains and does no harm.

    Args:
        path: the lock file.
        wait: called once before waiting for another process that holds the lock; default: do not wait.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is not given.
    """
    while True:
        with open_regular(path, "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if wait is None:
                    raise
                wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            # The process that held the lock before may have removed this file, and others would then lock a new one.
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
    """Replace errors in writing a file or folder of a run by one that names the remedy.

    Raises:
        UnwritableError: the disk is full, or the folder does not exist or is not writable.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:  # torch.save raises RuntimeError
        if not Path(path).parent.exists():
            raise UnwritableError(f"{path} cannot be written: its folder was removed") from error
        reason = error.strerror if isinstance(error, OSError) and error.strerror else f"{error}".partition("\n")[0]
        raise UnwritableError(
            f"{path} cannot be written: {reason}; free space or make it writable, then `skiplight resume` the run"
        ) from error


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def cache_folder() -> Path:
    """Return the cache folder: $SKIPLIGHT_CACHE, else the folder skiplight in $XDG_CACHE_HOME or ~/.cache.

    Where there is no home folder that can be written to, as in some containers, it is a folder for temporary files.

    Raises:
        ConfigError: other users may write to it, whose texts and compiled kernels would be taken.
    """
    folder = Path(os.environ.get("SKIPLIGHT_CACHE") or _default_cache())
    refuse_shared(folder, "set SKIPLIGHT_CACHE to a folder of your own")
    return folder


def _default_cache() -> Path:
    try:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # no HOME, and a user without an entry among the users
        return _temporary_cache()
    existing = next(path for path in (base, *base.parents) if os.path.exists(path))
    return base / "skiplight" if os.access(existing, os.W_OK | os.X_OK) else _temporary_cache()


def _temporary_cache() -> Path:
    folder = Path(tempfile.gettempdir(), f"skiplight-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise ConfigError(f"{folder} is not a folder of this user: set SKIPLIGHT_CACHE to a folder of your own")
    return folder


def refuse_shared(folder: Path, remedy: str) -> None:
    """Raise a `ConfigError` if every user may write to a folder."""
    with contextlib.suppress(FileNotFoundError):
        if stat.S_IMODE(os.stat(folder).st_mode) & stat.S_IWOTH:
            raise ConfigError(f"every user may write to {folder}: `chmod o-w {folder}`, or {remedy}")
