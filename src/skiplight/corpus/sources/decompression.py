"""Limits the unpacked size of a compressed file, so that a small file cannot fill memory or be read for ever.

The limit per file is `data.max_bytes`, by default 200 times its size or 256 MiB, whichever is more. Text compresses to
a third or a tenth, one repeated word to a hundredth.
"""

from __future__ import annotations

import io
from typing import Any

from skiplight.errors import DataError

RATIO = 200
FLOOR = 1 << 28


class Bounded(io.RawIOBase):
    """A file that raises an error after `limit` bytes.

    Args:
        file: the file to read from.
        limit: how many bytes may be read.
        name: the name of the file in the error.
        remedy: what the error advises.
    """

    def __init__(
        self, file: Any, limit: int, name: str, remedy: str = "if it is meant to, give `data.max_bytes` a higher number"
    ) -> None:
        super().__init__()
        self._file, self._left, self._limit, self.name, self._remedy = file, limit, limit, name, remedy

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into the buffer, and return the number of bytes.

        Raises:
            DataError: the file has more bytes than the limit.
        """
        data = self._file.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise DataError(f"{self.name} unpacks to more than {self._limit:,} bytes; {self._remedy}")
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()
