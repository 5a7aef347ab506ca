"""The journal of a study: Optuna's storage in one file that is only appended to, safe if a process is killed.

The lock is a lock of the operating system on a file beside the journal, so it ends with the process that holds it, even
if that is killed. On acquiring it, a process cuts off the last line if another was killed while it wrote it.
"""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING

from optuna.storages.journal import JournalFileOpenLock

if TYPE_CHECKING:
    from optuna.storages import JournalStorage

log = logging.getLogger(__name__)


class JournalLock(JournalFileOpenLock):
    """The lock that a process needs to append to the journal; acquiring it repairs the last line.

    Args:
        journal: the journal file; the locked file has its name with `.lock` appended.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal))
        self.journal = journal
        self._held: IO[str] | None = None

    def acquire(self) -> bool:
        file = self.journal.with_name(f"{self.journal.name}.lock").open("a")
        fcntl.flock(file, fcntl.LOCK_EX)
        self._held = file
        cut_torn_line(self.journal)
        return True

    def release(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


def cut_torn_line(journal: Path) -> int:
    """Cut off and log a last line without line end, and return its size in bytes; the caller holds the lock."""
    if not journal.exists():
        return 0
    with journal.open("rb+") as file:
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


def open_storage(journal: Path) -> JournalStorage:
    """Return Optuna's storage in a journal file, which is created if it does not exist.

    Raises:
        OSError: the file cannot be read or created.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    lock = JournalLock(journal)
    lock.acquire()
    lock.release()
    return JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))
