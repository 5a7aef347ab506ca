"""Units: the parts of files that are read on their own, each by one process.

A unit of plain text or JSON lines is a range of bytes, one of Parquet some row groups, and one of a compressed file or
a table (CSV, TSV) all of it. They are found by the sizes of files and the footers of Parquet, without reading the text.
No document is cut, so a text that is one document is one unit. Where there is enough text, there are more units than
ranks and workers.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skiplight.corpus.sources.byte_ranges import (
    Listed,
    describe_file,
    is_compressed,
    open_file,
    open_unpacked,
    read_fully,
)
from skiplight.corpus.sources.file_lists import is_url
from skiplight.corpus.sources.json_depth import check_json_depth
from skiplight.corpus.sources.json_lines import is_list, parse_rows, read_json_range
from skiplight.corpus.sources.parquet_rows import column_bytes, count_rows, read_footer, read_row_groups
from skiplight.corpus.sources.remote import TIMEOUT, set_timeout
from skiplight.corpus.sources.rows import split_rows
from skiplight.corpus.sources.table_rows import read_column, read_header, read_items, split_items
from skiplight.corpus.sources.text_ranges import Part, read_text_range
from skiplight.corpus.text.documents import SHARD_ROWS
from skiplight.errors import DataError

UNITS = 120
"""About how many units a small text has; a large one has more, of about `MAX_BYTES`."""

MIN_BYTES, MAX_BYTES = 32 << 10, 4 << 20
WHOLE = -1
"""The `end` of a unit that is all of its file."""

_HEAD = 4 << 10
_REQUESTS = 16
_KEPT_FOOTERS = 64
_TYPES = {"text": pa.string(), "strings": pa.list_(pa.string()), "integers": pa.list_(pa.int64())}


class Unit(NamedTuple):
    """A part of a file.

    Attributes:
        shard: number of the file.
        begin, end: its first byte, or row of Parquet, and the one after the last; `WHOLE` for all of the file.
        size: about how many bytes are read for it.
        key: the key that its first document has at least; keys of the units before it are lower.
    """

    shard: int
    begin: int
    end: int
    size: int
    key: int


@dataclass(eq=False)
class Listing:
    """The units of a text, and what is known of its files.

    Attributes:
        table: int64 [units, 5], a `Unit` per row, in the order of the text.
        files: per file.
        type: what the column has: `text`, or lists of `strings` or `integers`.
    """

    table: np.ndarray
    files: list[Listed]
    type: str = "text"

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, number: int) -> Unit:
        return Unit(*self.table[number].tolist())

    def __iter__(self) -> Iterator[Unit]:
        return (self[number] for number in range(len(self)))

    def save(self, path: Path) -> None:
        """Write the listing to a JSON file."""
        path.write_text(json.dumps({"units": self.table.tolist(), "files": self.files, "type": self.type}))

    @classmethod
    def load(cls, path: Path) -> Listing:
        """Return the listing that a file holds."""
        found = json.loads(path.read_text())
        files = [(size, version, ranges) for size, version, ranges in found["files"]]
        return cls(np.array(found["units"], np.int64).reshape(-1, 5), files, found["type"])

    @property
    def sizes(self) -> np.ndarray:
        """Bytes of each unit, int64 [units]."""
        return self.table[:, 3]


def whole_shards(count: int) -> Listing:
    """Return a unit per shard of a data set, whose sizes are not known."""
    return Listing(
        np.array([Unit(shard, 0, WHOLE, 1, shard * SHARD_ROWS) for shard in range(count)]).reshape(-1, 5), []
    )


@dataclass(frozen=True)
class FileReader:
    """Reads units of files of one format.

    Attributes:
        kind: `text`, `json`, `parquet` or `table`.
        files: paths and URLs.
        column: of all but text, that holds the text or the tokens.
        document: what one document is: `document`, `line` or `paragraph`.
        max_bytes: the most that a compressed file may unpack to.
        timeout: seconds for which the server of a URL may send nothing.
        separator: between the columns of a table; of sequences, between the items of a line or a value.
        sequences: whether the files have sequences of tokens.
    """

    kind: str
    files: Sequence[str]
    column: str
    document: str
    max_bytes: int | None = None
    timeout: float = TIMEOUT
    separator: str | None = None
    sequences: bool = False
    option: ClassVar[str] = "data.path"

    def shard_name(self, shard: int) -> str:
        """Return the name of a file for messages."""
        return self.files[shard]

    def list_units(self, check: Any) -> Listing:
        """Return the units.

        Args:
            check: called with the schema of the column, an Arrow schema, where it is known.

        Raises:
            DataError: a file cannot be read.
        """
        set_timeout(self.timeout)
        files = _in_threads(describe_file, self.files)
        if self.kind == "parquet":
            return self._row_groups(files, check)
        total = sum(size or 0 for size, _, _ in files)
        target = _target(total)
        kind = self._json_type(files, check) if self.kind == "json" else "text"
        if self.kind == "table":
            self._check_table(files, check)
        rows: list[Unit] = []
        for shard, (file, (size, _, ranges)) in enumerate(zip(self.files, files, strict=True)):
            count = 1 if size is None or not ranges else max(round(size / target), 1)
            count -= count % 12 if count > 12 else 0  # 2, 3, 4 or 6 ranks then have the same number
            if is_compressed(file) or self.kind == "table" or (self.kind == "text" and self._is_whole):
                count = 1
            if count > 1 and self.kind == "json" and is_list(self._head(file, files[shard], 64)):
                count = 1
            bounds = np.linspace(0, size or 0, count + 1).astype(np.int64).tolist()
            for begin, end in itertools.pairwise(bounds):
                stop = WHOLE if count == 1 else end
                rows.append(Unit(shard, begin, stop, end - begin, shard * SHARD_ROWS + begin))
        return Listing(np.array(rows, np.int64).reshape(-1, 5), files, kind)

    def read(self, unit: Unit, listing: Listing) -> Iterator[Part]:
        """Yield (keys int64 [n], texts or lists [n]) of a unit's documents, or pieces of documents.

        Args:
            unit: which.
            listing: of all units.
        """
        set_timeout(self.timeout)
        name, listed = self.files[unit.shard], listing.files[unit.shard]
        base = unit.shard * SHARD_ROWS
        if self.kind == "parquet":
            yield from ((base + keys, texts) for keys, texts in self._read_rows(unit, listed))
            return
        begin, end = unit.begin, None if unit.end == WHOLE else unit.end
        with open_unpacked(name, listed, self.max_bytes, end) as file:
            if self.kind == "table":
                yield from ((base + keys, self._items(texts)) for keys, texts in self._read_table(file, unit, listed))
            elif self.kind == "text" and self.sequences and self.separator:
                yield from ((base + keys, lists) for keys, lists in read_items(file, name, self.separator))
            elif self.kind == "text":
                for keys, texts in read_text_range(file, begin, end, self.document, name):
                    yield base + keys, texts
            else:
                for rows, values in read_json_range(file, begin, end, self.column, _TYPES[listing.type], name):
                    keys, texts = self._documents(rows, values, None)
                    yield base + keys, texts

    def _documents(self, rows: np.ndarray, values: pa.Array, limit: int | None) -> Part:
        """Return the documents of rows; those of a row have the keys from the row's own on."""
        values = self._items(values)
        texts, counts = split_rows(values, self.document)
        if counts is None:
            return rows, texts
        if limit is not None and counts.max(initial=0) > limit:
            row = int(np.argmax(counts > limit))
            raise DataError(
                f"data.document={self.document}: a row has {int(counts[row]):,} documents, and a file of as many rows"
                f" may have {limit:,} in each: write long texts as text files, or give data.document=document"
            )
        index = np.arange(len(texts)) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(rows, counts) + index, texts

    def _items(self, values: pa.Array) -> pa.Array:
        """Return the values of a column, cut into items where these are sequences with a separator."""
        is_text = pa.types.is_string(values.type) or pa.types.is_large_string(values.type)
        return split_items(values, self.separator) if self.sequences and self.separator and is_text else values

    @property
    def _is_whole(self) -> bool:
        """Whether a text file is read as a whole."""
        return self.document == "document" or bool(self.sequences and self.separator)

    def _check_table(self, files: list[Listed], check: Any) -> None:
        """Check that the first table has the column, unless its lines are sequences."""
        with open_unpacked(self.files[0], files[0], self.max_bytes) as file:
            _, names = _named(self.files[0], read_header, file, self.column, self._column_separator)
        if self.sequences and self.column not in names:
            if self.separator:
                return
            raise DataError(
                f"data.column={self.column}: {self.files[0]} has no such column; its first line has"
                f" {', '.join(names)}. Where each line is a sequence of its own, give data.separator=comma (or"
                " semicolon, tab, pipe)"
            )
        if any(names):
            check(pa.schema([(name, pa.string()) for name in names]))

    def _read_table(self, file: Any, unit: Unit, listed: Listed) -> Iterator[Part]:
        name = self.files[unit.shard]
        with open_unpacked(name, listed, self.max_bytes) as first:
            mark, names = read_header(first, self.column, self._column_separator)
        if self.sequences and self.separator and self.column not in names:
            return read_items(file, name, self.separator)
        return read_column(file, name, self.column, mark, self.document)

    @property
    def _column_separator(self) -> str | None:
        return None if self.sequences else self.separator

    def _read_rows(self, unit: Unit, listed: Listed) -> Iterator[Part]:
        file = self._parquet(unit.shard, listed)
        try:
            bits = _document_bits(file.metadata.num_rows, self.document)
            for rows, values in read_row_groups(file, unit.begin, unit.end, self.column):
                yield self._documents(rows << bits, values, 1 << bits)
        finally:
            file.close(force=True)

    def _parquet(self, shard: int, listed: Listed) -> pq.ParquetFile:
        name = self.files[shard]
        known = _footers.get((name, listed))
        file: Any = name
        if is_url(name):
            remote = open_file(name, listed, 0)
            known = known or read_footer(remote)
            file = pa.PythonFile(_Exact(remote), "r")
        found = pq.ParquetFile(file, metadata=known)
        if (name, listed) not in _footers:
            if len(_footers) >= _KEPT_FOOTERS:
                _footers.pop(next(iter(_footers)))
            _footers[name, listed] = found.metadata
        return found

    def _row_groups(self, files: list[Listed], check: Any) -> Listing:
        def footer(shard: int) -> tuple[np.ndarray, np.ndarray]:
            file = self._parquet(shard, files[shard])
            try:
                if shard == 0:
                    check(file.schema_arrow)
                return count_rows(file.metadata), column_bytes(file.metadata, self.column)[:, 0]
            finally:
                file.close(force=True)

        found = [_named(self.files[0], footer, 0)] if files else []
        found += _in_threads(lambda shard: _named(self.files[shard], footer, shard), range(1, len(files)))
        target = _target(int(sum(sizes.sum() for _, sizes in found)))
        rows: list[Unit] = []
        for shard, (counts, sizes) in enumerate(found):
            bits = _document_bits(int(counts.sum()), self.document)
            starts = np.cumsum(counts) - counts
            # Row groups that together have the size of a unit.
            first = 0
            for group in range(len(counts)):
                size = int(sizes[first : group + 1].sum())
                if size >= target or group == len(counts) - 1:
                    begin, end = int(starts[first]), int(starts[group] + counts[group])
                    rows.append(Unit(shard, begin, end, size, shard * SHARD_ROWS + (begin << bits)))
                    first = group + 1
        return Listing(np.array(rows, np.int64).reshape(-1, 5), files)

    def _head(self, file: str, listed: Listed, size: int) -> bytes:
        with open_unpacked(file, listed, None, size) as found:
            return read_fully(found, size)

    def _json_type(self, files: list[Listed], check: Any) -> str:
        """Return what the column of JSON has, by the first rows."""
        for file, listed in zip(self.files, files, strict=True):
            size, rows = _HEAD, b""
            while True:
                head = _named(file, self._head, file, listed, size)
                if not head.strip():
                    break
                if is_list(head):
                    _, values = next(_named(file, self._first_rows, file, listed))
                    check(pa.schema([(self.column, values.type)]))
                    return _type_name(values.type)
                rows = head[: head.rfind(b"\n") + 1] if len(head) == size else head
                if rows.strip() or len(head) < size:
                    break
                size *= 8
            if not rows.strip():
                continue
            rows = rows.removeprefix(b"\xef\xbb\xbf")
            check_json_depth(rows, file)
            schema = _named(file, parse_rows, rows, self.column, None).schema
            check(schema)
            return _type_name(schema.field(self.column).type)
        return "text"

    def _first_rows(self, file: str, listed: Listed) -> Iterator[Part]:
        with open_unpacked(file, listed, self.max_bytes) as found:
            yield from list(read_json_range(found, 0, None, self.column, None, file))


_footers: dict[Any, Any] = {}


class _Exact:
    """A file whose `read` returns as many bytes as are asked for, as Arrow expects, and asks for no more."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.seek, self.tell, self.close = file.seek, file.tell, file.close

    closed = property(lambda self: self._file.closed)

    def read(self, size: int) -> bytes:
        return read_fully(self._file, size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def _document_bits(rows: int, document: str) -> int:
    """Return how many of a key's bits number the documents of a Parquet row, where a row is several."""
    return 0 if document == "document" else SHARD_ROWS.bit_length() - 1 - max(rows - 1, 0).bit_length()


def _target(total: int) -> int:
    return min(max(total // UNITS, MIN_BYTES), MAX_BYTES)


def _type_name(type: pa.DataType) -> str:
    if not (pa.types.is_list(type) or pa.types.is_large_list(type)):
        return "text"
    return "integers" if pa.types.is_integer(type.value_type) else "strings"


def _in_threads(function: Any, items: Any) -> list[Any]:
    items = list(items)
    if len(items) < 2 or not any(is_url(str(item)) for item in items):
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(_REQUESTS, len(items))) as pool:
        return list(pool.map(function, items))


def _named(file: str, function: Any, *arguments: Any) -> Any:
    """Call a function, and name the file in its errors."""
    try:
        return function(*arguments)
    except DataError:
        raise
    except Exception as error:  # readers and decompressors raise errors of their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"data.path: {file} cannot be read ({reason})") from error
