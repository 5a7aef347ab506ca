"""The journal of a study: Optuna's storage in one file that is only appended to, safe if a process is killed.

A line is an operation of Optuna's journal as a JSON object, whose last key, `check`, is a checksum of the line and of
the `check` of the line before it. So a line that was changed, lost, moved or repeated is found by reading.
Lines that are lost at the end are found by the folders of their trials (`skiplight.experiments.sweeps.study`).

The lock is a lock of the operating system on a file beside the journal, so it ends with the process that holds it, even
if that is killed. On acquiring it, a process cuts off the last line if another was killed while it wrote it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.storages.journal import BaseJournalBackend

from skiplight.errors import ConfigError, RunError
from skiplight.files import open_regular, parse_json

if TYPE_CHECKING:
    from optuna.storages import JournalStorage, RDBStorage

log = logging.getLogger(__name__)

_KEY = b',"check":"'
_DIGITS = 16


@dataclasses.dataclass(frozen=True)
class _Position:
    """Where a line of the journal begins: its number, its offset in bytes, and the checksum of the line before it."""

    line: int = 0
    offset: int = 0
    check: str = ""


class CheckedJournal(BaseJournalBackend):
    """The file of a journal, whose lines are verified as they are read.

    Args:
        path: the file; its lock is another one, `.lock` behind its name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = _Position()

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """Return the operations from a number on; a last line that is still being written is left out.

        Raises:
            RunError: a line is not as it was written.
        """
        start = self._read if self._read.line == log_number_from else _Position()
        found, self._read = self._scan(start)
        return found[log_number_from - start.line :]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write operations behind the others, all or none of them.

        Raises:
            RunError: the journal is damaged.
        """
        with self.locked():
            _, end = self._scan(self._read)
            check, lines = end.check, []
            for entry in logs:
                line, check = _checked_line(entry, check)
                lines.append(line)
            with open_regular(self.path, "ab") as file:
                file.write(b"".join(lines))
                file.flush()
                os.fsync(file.fileno())

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the right to append, to a journal that ends with a whole line."""
        with open_regular(self.path.with_name(f"{self.path.name}.lock"), "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            cut_torn_line(self.path)
            yield

    def _scan(self, start: _Position) -> tuple[list[dict[str, Any]], _Position]:
        """Return the operations from a position on, and the position behind them."""
        if not self.path.exists():
            return [], _Position()
        with open_regular(self.path, "rb") as file:
            file.seek(start.offset)
            data = file.read()
        found, position = [], start
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            body, key, rest = line.rpartition(_KEY)
            if not key and not position.check:  # a study that began before lines had checksums
                body, check = line.rstrip().removesuffix(b"}"), ""
            else:
                check = _checksum(body, position.check)
            try:
                if (key and rest != f'{check}"}}\n'.encode()) or (position.check and not key):
                    raise ValueError("its checksum is another")
                found.append(parse_json((body + b"}").decode()))
            except ValueError as error:
                raise RunError(
                    f"{self.path} is damaged in line {position.line + 1} ({error}): restore it from a backup, or begin"
                    " another study; the runs of its trials are whole"
                ) from None
            position = _Position(position.line + 1, position.offset + len(line), check)
        return found, position


def _checked_line(entry: dict[str, Any], before: str) -> tuple[bytes, str]:
    """Return an operation as a line with its checksum, and the checksum, given that of the line before it."""
    body = json.dumps(entry, separators=(",", ":")).encode().removesuffix(b"}")
    check = _checksum(body, before)
    return body + _KEY + f'{check}"}}\n'.encode(), check


def _checksum(body: bytes, before: str) -> str:
    return hashlib.blake2b(before.encode() + body, digest_size=_DIGITS // 2).hexdigest()


def cut_torn_line(journal: Path) -> int:
    """Cut off and log a last line without line end, and return its size in bytes; the caller holds the lock."""
    if not journal.exists():
        return 0
    with open_regular(journal, "rb+") as file:
        end = file.seek(0, os.SEEK_END)
        start, tail = end, b""
        while start > 0 and b"\n" not in tail:
            start = max(0, start - 4096)
            file.seek(start)
            tail = file.read(end - start)
        torn = len(tail) - (tail.rfind(b"\n") + 1)
        if torn:
            log.warning("%s: cut off a last line of %d bytes, left by a killed process", journal, torn)
            file.truncate(end - torn)
    return torn


def open_database(url: str) -> RDBStorage:
    """Return Optuna's storage in a database.

    Raises:
        ConfigError: it cannot be opened, or a package is missing.
    """
    from optuna.storages import RDBStorage

    shown = f"`study.storage={hide_password(url)}`"
    try:
        return RDBStorage(url)
    except ImportError as error:
        raise ConfigError(f"{shown} needs a package: {error}; install the driver of the database") from None
    except Exception as error:  # of SQLAlchemy, of the driver, or of Optuna, which wraps neither
        reason = str(error.__cause__ or error).strip().splitlines()[0].replace(url, hide_password(url))
        raise ConfigError(f"{shown} cannot be opened: {reason}; check the address, or leave it out") from None


def hide_password(url: str) -> str:
    """Return a URL without the password in it.

    >>> hide_password("mysql://me:secret@host/studies")
    'mysql://me:***@host/studies'
    """
    return re.sub(r"(://[^/:@]*):[^/@]*@", r"\1:***@", url)


def open_storage(journal: Path) -> JournalStorage:
    """Return Optuna's storage in a journal file, which is created if it does not exist.

    Raises:
        OSError: the file cannot be read or created.
        RunError: the file is damaged.
    """
    from optuna.storages import JournalStorage

    backend = CheckedJournal(journal)
    with backend.locked():
        pass
    return JournalStorage(backend)
