"""Lists the token stores in a folder, with what a killed preparation has left, for `skiplight cache`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from skiplight.corpus.store.token_store import MANIFEST, read_manifest
from skiplight.errors import DataError
from skiplight.files import disk_usage, locked, remove


class StoredText(NamedTuple):
    """What is stored of one text.

    Attributes:
        path: its folder.
        text: what the text is, and how it was encoded; for a folder that is not whole, what is wrong with it.
        size: bytes of its files.
        used: when it was last opened, or written to, in seconds since 1970.
    """

    path: Path
    text: str
    size: int
    used: float


def list_stored(stores: Path) -> Iterator[StoredText]:
    """Yield what a folder of token stores holds; nothing if there is no such folder."""
    for path in sorted(stores.iterdir()) if stores.is_dir() else ():
        whole = (path / MANIFEST).is_file()
        if path.is_symlink() or not (whole or path.suffix in (".building", ".parts")):
            continue  # something else that is in the folder
        try:
            text = _describe(path) if whole and not path.suffix else "a preparation that has not ended"
        except DataError as error:
            text = str(error)
        # A store is read only, so its own time is that of its last use; a preparation writes within its folder.
        times = [file.lstat().st_mtime for file in path.rglob("*")] if path.suffix else []
        yield StoredText(path, text, disk_usage(path), max([path.stat().st_mtime, *times]))


def remove_stored(path: Path) -> bool:
    """Remove the folder of a stored text, and return True; False if a process is preparing it.

    Trainings that have opened it keep its files until they end.

    Raises:
        OSError: it cannot be removed.
    """
    with contextlib.ExitStack() as stack:
        try:
            for lock in [path.with_name(f"{path.stem}.lock"), *path.glob("*.lock")]:
                stack.enter_context(locked(lock))
        except BlockingIOError:
            return False
        remove(path)
    return True


def _describe(path: Path) -> str:
    manifest = read_manifest(path)
    sizes, options = manifest["tokens"], manifest.get("options", {})
    words = options.get("vocabulary", {})
    told = [f"data.normalise={options.get('normalise')}"]
    told += [f"vocabulary.{name}={words[name]}" for name in ("min_count", "max_size") if words.get(name) is not None]
    size = "vocabulary only" if sizes is None else f"{sum(sizes.values()):,} tokens"
    return f"{manifest.get('text', 'a text of an older version')}; {' '.join(told)}; {size}"
