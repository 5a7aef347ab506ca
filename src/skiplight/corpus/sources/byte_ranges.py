"""Opens a file, or a range of its bytes: local or remote, compressed or not."""

from __future__ import annotations

import io
import os
from pathlib import PurePosixPath
from typing import Any

from skiplight.corpus.sources.decompression import FLOOR, RATIO, Bounded
from skiplight.corpus.sources.file_lists import COMPRESSED, is_url, path_of
from skiplight.corpus.sources.remote import RemoteFile, RemoteVersion, probe_file
from skiplight.errors import DataError

BUFFER = 64 << 10

_COMPRESSION = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd", ".lz4": "lz4"}  # the names of fsspec

Listed = tuple[int | None, str | None, bool]
"""Size, version and whether ranges can be asked for, of a file when it was listed; see `RemoteVersion`."""


def is_compressed(file: str) -> bool:
    """Return whether a file is compressed as a whole, by its name."""
    return PurePosixPath(path_of(file)).suffix.lower() in COMPRESSED


def describe_file(file: str) -> Listed:
    """Return what a file is now.

    Raises:
        DataError: it cannot be read.
    """
    if is_url(file):
        found = probe_file(file)
        return found.size, found.version, found.ranges
    try:
        return os.stat(file).st_size, None, True
    except OSError as error:
        raise DataError(f"data.path={file}: cannot be read ({error.strerror})") from None


def open_file(file: str, listed: Listed, stop: int | None = None) -> Any:
    """Open a file for reading bytes at any position.

    Args:
        file: path or URL.
        listed: what it was when it was listed.
        stop: how far it will probably be read.

    Raises:
        DataError: it cannot be read, or has changed.
    """
    if is_url(file):
        return RemoteFile(file, RemoteVersion(*listed), stop)
    found = open(file, "rb", buffering=0)  # noqa: SIM115  (the caller closes it)
    if os.fstat(found.fileno()).st_size != listed[0]:
        found.close()
        raise DataError(f"data.path={file} has changed since the text was prepared: start a new run")
    return found


def open_unpacked(file: str, listed: Listed, max_bytes: int | None, stop: int | None = None) -> Any:
    """Open a file for reading its unpacked bytes, from the beginning where it is compressed; see `open_file`."""
    raw = open_file(file, listed, stop)
    suffix = PurePosixPath(path_of(file)).suffix.lower()
    if suffix not in COMPRESSED:
        return raw
    from fsspec.compression import compr

    unpacked = compr[_COMPRESSION[suffix]](io.BufferedReader(raw, BUFFER), mode="rb")
    limit = max_bytes if max_bytes is not None else max(FLOOR, RATIO * (listed[0] or 0))
    return Bounded(unpacked, limit, f"data.path: {file}")


def read_fully(file: Any, size: int) -> bytes:
    """Return the next `size` bytes, fewer only at the end of the file."""
    parts, left = [], size
    while left and (data := file.read(left)):
        parts.append(data)
        left -= len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)
