"""Bounds the nesting of JSON lines, at whose depth the parser of pyarrow ends the process.

`datasets` reads JSON by a function `open` in the module of its builder, which is replaced here by one whose files count
brackets as they are read. Brackets in texts count too, so that the bound is far above what any data set has.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from skiplight.errors import DataError

MAX_OPEN = 10_000
"""The most brackets of a line that are open at once; the parser fails at some ten times as many."""

_STEP = np.zeros(256, dtype=np.int8)
_STEP[[ord("["), ord("{")]] = 1
_STEP[[ord("]"), ord("}")]] = -1


class _Bounded(io.RawIOBase):
    def __init__(self, file: Any, name: str) -> None:
        super().__init__()
        self._file, self._open, self._name = file, 0, name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        self._count(data)
        buffer[: len(data)] = data
        return len(data)

    def _count(self, data: bytes) -> None:
        if data.count(b"[") + data.count(b"{") + self._open <= MAX_OPEN:  # nearly always, and quick
            tail = data[data.rfind(b"\n") + 1 :]
            carried = self._open if len(tail) == len(data) else 0
            change = sum(tail.count(sign) for sign in (b"[", b"{")) - sum(tail.count(sign) for sign in (b"]", b"}"))
            self._open = max(carried + change, 0)
            return
        for line in data.splitlines(keepends=True):
            opened = self._open + np.cumsum(_STEP[np.frombuffer(line, np.uint8)], dtype=np.int64)
            if len(opened) and opened.max() > MAX_OPEN:
                raise DataError(
                    f"data.path: {self._name} has a line with more than {MAX_OPEN:,} open brackets, which no JSON"
                    " reader takes: leave that line out"
                )
            self._open = 0 if line.endswith(b"\n") else max(int(opened[-1]), 0)

    def close(self) -> None:
        self._file.close()
        super().close()


def check_json_depth(lines: bytes, name: str) -> None:
    """Check whole lines of a file called `name`.

    Raises:
        DataError: a line has too many open brackets.
    """
    _Bounded(io.BytesIO(), name)._count(lines)


def bound_json_depth() -> None:
    """Bound the nesting of all JSON that `datasets` reads in this process from now on."""
    from datasets import DownloadConfig
    from datasets.packaged_modules.json import json as module
    from datasets.streaming import extend_module_for_streaming

    # `datasets` puts its own function there once, when a module is first used.
    extend_module_for_streaming(module.__name__, DownloadConfig())
    inner = getattr(module, "open", open)
    if getattr(inner, "is_bounded", False):
        return

    def bounded(file: Any, mode: str = "r", **options: Any) -> Any:
        opened = inner(file, mode, **options)
        return io.BufferedReader(_Bounded(opened, str(file)), 1 << 20) if mode == "rb" else opened

    bounded.is_bounded = True  # type: ignore[attr-defined]
    module.open = bounded
