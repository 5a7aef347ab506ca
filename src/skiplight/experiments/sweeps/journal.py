"""The study's journal: Optuna's storage in one file that only grows, safe against processes that are killed.

The lock is the system's, on a file beside the journal, and ends with the process that holds it: a killed one blocks
nobody. Whoever gets it first cuts off a last line that another process was killed in the middle of.
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
    """The right to append; comes with a journal that ends with a whole line.

    Args:
        journal: the journal's file; the lock is on another one, `.lock` behind its name.
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
    """Cuts off a last line without an end, and reports it; to be called under the lock. How many bytes it had."""
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
            log.warning("%s: cut off a last line of %d bytes, left by a process that was killed", journal, torn)
            file.truncate(end - torn)
    return torn


def open_storage(journal: Path) -> JournalStorage:
    """Optuna's storage in a journal file, made if need be.

    Raises:
        OSError: the file cannot be read or made.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    lock = JournalLock(journal)
    lock.acquire()
    lock.release()
    return JournalStorage(JournalFileBackend(str(journal), lock_obj=lock))
