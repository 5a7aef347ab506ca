"""Counting a text in parts, by any number of processes and machines that share the folder of stores.

A part is some consecutive units. Its words are counted and its tokens numbered by one process, which locks it
meanwhile, and renamed when it is on disk; whoever finds a part neither done nor locked makes it. So a preparation that
is killed goes on with the parts that are done, and what comes out does not depend on who made which.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skiplight.corpus.sources.source import Source
from skiplight.corpus.store.build import NumberedFile
from skiplight.corpus.store.segments import ChunkCutter
from skiplight.corpus.text.counting import WordCounts, map_in_order
from skiplight.corpus.text.documents import Documents, batch_documents
from skiplight.corpus.text.encoding import Numbered
from skiplight.corpus.text.normalise import Encoded, encode_tokens
from skiplight.files import locked, replacing

log = logging.getLogger(__name__)

PARTS = 64
MIN_BYTES, MAX_BYTES = 1 << 20, 1 << 30
_WAIT = 0.05  # seconds


def divide_units(sizes: np.ndarray) -> list[tuple[int, int]]:
    """Return the parts of a text as (first unit, the one after its last), for units of these sizes in bytes.

    >>> divide_units(np.full(10, 500_000))
    [(0, 3), (3, 6), (6, 9), (9, 10)]
    """
    if not len(sizes):
        return [(0, 0)]
    target = min(max(int(sizes.sum()) // PARTS, MIN_BYTES), MAX_BYTES)
    if sizes.max() <= 1:  # the sizes of shards of a data set are not known
        target = max(len(sizes) // MAX_BYTES, 1)
    bounds, size = [0], 0
    for unit, more in enumerate(sizes.tolist()):
        size += more
        if size >= target and unit + 1 < len(sizes):
            bounds.append(unit + 1)
            size = 0
    bounds.append(len(sizes))
    return list(itertools.pairwise(bounds))


@dataclass
class Part:
    """A part that is done.

    Attributes:
        folder: its folder.
        documents, raw: its documents and raw tokens.
        bytes: bytes of text without white space at the ends of documents, 0 of sequences.
        pruned: see `WordCounts`.
    """

    folder: Path
    documents: int
    raw: int
    bytes: int
    pruned: int

    @classmethod
    def load(cls, folder: Path) -> Part:
        """Return the part in a folder."""
        return cls(folder, **json.loads((folder / "part.json").read_text()))

    def counts(self) -> tuple[pa.Array, np.ndarray]:
        """Return the words, and how often each occurs in the training text, int64 [words]."""
        with pa.OSFile(str(self.folder / "words.arrow")) as file:
            table = pa.ipc.open_file(file).read_all()
        return table["word"].combine_chunks(), table["count"].to_numpy()

    def numbered(self) -> Iterator[Numbered]:
        """Yield the batches of numbered tokens."""
        return NumberedFile.read_from(self.folder / "numbered.arrow")


@dataclass
class PartMaker:
    """Makes the parts of a text that nobody else has made.

    Attributes:
        source: the text.
        normalise: the name of a normaliser.
        heldout: fraction of the text that is not counted.
        folder: of all parts.
        counted: whether words are counted.
        stored: whether numbered tokens are kept.
        threads: threads to encode with.
        report: called with the number of raw tokens that this process has read, and those of parts that were done.
    """

    source: Source
    normalise: str
    heldout: float
    folder: Path
    counted: bool
    stored: bool
    threads: int
    report: Callable[[int], None]
    _told: bool = False

    def make(self, done: Callable[[], bool]) -> list[Part]:
        """Return all parts; waits for those that other processes make.

        Args:
            done: whether another process has merged the parts already; then none are returned.
        """
        parts = divide_units(self.source.units.sizes)
        self.raw, told = 0, False
        while not done():
            self._make(parts, done)
            found = [self._path(number) for number in range(len(parts))]
            if all((path / "part.json").exists() for path in found):
                return [Part.load(path) for path in found]
            if not told:
                log.info("another process is preparing a part of the same text; waiting for it")
            told = True
            time.sleep(_WAIT)
        return []

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05}"

    def _make(self, parts: list[tuple[int, int]], done: Callable[[], bool]) -> None:
        writer: _PartWriter | None = None
        claimed: dict[int, contextlib.ExitStack] = {}

        def batches() -> Iterator[tuple[int, Documents | None]]:
            for number, (first, stop) in enumerate(parts):
                if done() or self._path(number).exists():
                    continue
                stack = contextlib.ExitStack()
                try:
                    self.folder.mkdir(exist_ok=True)
                    stack.enter_context(locked(self.folder / f"{number:05}.lock"))
                except (BlockingIOError, FileNotFoundError):
                    continue  # another process makes it, or has just removed all parts
                claimed[number] = stack
                if self._path(number).exists() or done():
                    claimed.pop(number).close()
                    continue
                if not self._told:
                    log.info("preparing %s", self.source.describe)
                self._told = True
                units = (self.source.units[unit] for unit in range(first, stop))
                documents = (part for unit in units for part in self.source.read(unit))
                for batch in batch_documents(documents):
                    yield number, batch
                yield number, None

        def encode(item: tuple[int, Documents | None]) -> tuple[int, Documents | None, Encoded | None]:
            number, batch = item
            return number, batch, encode_tokens(batch.texts, self.normalise) if batch is not None else None

        try:
            for number, batch, encoded in map_in_order(encode, batches(), self.threads):
                if writer is None:
                    writer = _PartWriter(self, self._path(number))
                if batch is None or encoded is None:
                    writer.finish()
                    writer = None
                    claimed.pop(number).close()
                else:
                    self.raw += writer.write(batch, encoded)
                    self.report(self.raw)
        finally:
            if writer is not None:
                writer.abandon()
            for stack in claimed.values():
                stack.close()


class _PartWriter:
    def __init__(self, maker: PartMaker, path: Path) -> None:
        self._maker, self._path = maker, path
        self._stack = contextlib.ExitStack()
        self._temporary = self._stack.enter_context(replacing(path))
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir()
        self._file = NumberedFile(self._temporary / "numbered.arrow") if maker.stored else None
        self._cutter, self._counts, self._raw, self._bytes = ChunkCutter(), WordCounts(), 0, 0

    def write(self, batch: Documents, encoded: Encoded) -> int:
        numbered = Numbered(encoded.words, encoded.ids, self._cutter.cut(batch.keys, encoded.lengths))
        if self._maker.counted:
            self._counts.add(numbered.words, numbered.train_counts(self._maker.heldout))
        if self._file:
            self._file.write(numbered)
        if pa.types.is_string(batch.texts.type):
            self._bytes += pc.sum(pc.binary_length(pc.utf8_trim_whitespace(batch.texts))).as_py() or 0
        self._raw += len(numbered.ids)
        return len(numbered.ids)

    def finish(self) -> None:
        if self._file:
            self._file.close()
        table = self._counts.table()
        with (
            pa.OSFile(str(self._temporary / "words.arrow"), "wb") as sink,
            pa.ipc.new_file(sink, table.schema) as file,
        ):
            file.write_table(table)
        about = {"documents": self._cutter.documents, "raw": self._raw, "bytes": self._bytes}
        (self._temporary / "part.json").write_text(json.dumps(about | {"pruned": self._counts.pruned}))
        self._stack.close()

    def abandon(self) -> None:
        if self._file:
            with contextlib.suppress(OSError):
                self._file.close()
        self._stack.pop_all()
        shutil.rmtree(self._temporary, ignore_errors=True)


def remove_parts(folder: Path, *, unless_done: bool = False) -> None:
    """Remove the parts of a text; with `unless_done`, only where none of them is done."""
    if not (unless_done and any(folder.glob("[0-9]*/part.json"))):
        shutil.rmtree(folder, ignore_errors=True)


def merge_counts(parts: list[Part]) -> tuple[WordCounts, Any]:
    """Return the counts of all parts, added up, and their table."""
    counts = WordCounts()
    for part in parts:
        counts.add(*part.counts())
    table = counts.table()
    counts.pruned = max([counts.pruned, *(part.pruned for part in parts)])
    return counts, table
