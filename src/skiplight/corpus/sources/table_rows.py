"""Reads tables of text, CSV and TSV: a column, or each line as a sequence of items. Quoting is that of Python's `csv`.

A quoted value may hold line breaks, so a table is read as a whole, never from the middle.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skiplight.corpus.sources.byte_ranges import BUFFER
from skiplight.corpus.sources.rows import split_rows
from skiplight.corpus.sources.text_ranges import Part
from skiplight.corpus.text.documents import PIECE_BYTES
from skiplight.errors import DataError

NAMED = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|"}
"""Separators by names that no shell takes for its own."""

_SEPARATORS = ",;\t|"
_LARGEST = 1 << 28
"""Characters of a value: more are a quotation mark that is not closed."""

_ROWS = 4096


def parse_separator(given: str | None) -> str | None:
    """Return the character that `data.separator` stands for; None for none.

    Raises:
        DataError: it is no single character.

    >>> parse_separator("tab"), parse_separator(";")
    ('\\t', ';')
    """
    if given is None:
        return None
    found = NAMED.get(given, given)
    if len(found) != 1 or found in '"\r\n':
        raise DataError(f"data.separator={given!r}: give one character, or comma, semicolon, tab or pipe")
    return found


def read_header(file: Any, column: str, separator: str | None) -> tuple[str, list[str]]:
    """Return the separator of a table, and the names of its columns.

    Args:
        file: of bytes, at its beginning.
        column: the column that is wanted; the separator is the first of comma, semicolon, tab and pipe by which the
            first line has it, or else by which it has the most columns.
        separator: the separator, where it is known.
    """
    line = _decoded(file, "replace").readline().strip("\r\n")  # other lines are judged where they are read
    found = [
        (mark, [value.strip() for value in next(csv.reader([line], delimiter=mark, skipinitialspace=True), [])])
        for mark in separator or _SEPARATORS
    ]
    return next(((mark, names) for mark, names in found if column in names), max(found, key=lambda each: len(each[1])))


def read_column(file: Any, name: str, column: str, separator: str, unit: str) -> Iterator[Part]:
    """Yield (numbers int64 [n], texts [n]) of the documents in a column of a table.

    Args:
        file: of bytes, at its beginning.
        name: of the file, for errors.
        column: of the text.
        separator: between columns.
        unit: what one document is: `document` (a row), `line` or `paragraph`.

    Raises:
        DataError: the table is no text in UTF-8, has no such column, or a row is too short.

    >>> import io
    >>> table = io.BytesIO(b'id,text\\n1,"sun, moon"\\n2,stars\\n')
    >>> [texts.to_pylist() for _, texts in read_column(table, "x.csv", "text", ",", "document")]
    [['sun, moon', 'stars']]
    """
    rows = _rows(file, name, separator)
    names = [value.strip() for value in next(rows, [column])]
    if column not in names:
        raise DataError(f"data.column={column}: {name} has no such column; there are {', '.join(names)}")
    index = names.index(column)

    def values() -> Iterator[str]:
        for number, row in enumerate(rows, start=1):
            if len(row) <= index:
                raise DataError(
                    f"data.path: row {number:,} of {name} has {len(row)} of {len(names)} columns ({_shortened(row)})"
                )
            yield row[index]

    first = 0
    for texts in _batches(values(), pa.string()):
        documents, _ = split_rows(texts, unit)
        yield np.arange(first, first + len(documents)), documents
        first += len(documents)


def read_items(file: Any, name: str, separator: str) -> Iterator[Part]:
    """Yield (numbers int64 [n], lists of strings [n]) of lines that are sequences of items.

    >>> import io
    >>> baskets = io.BytesIO(b"whole milk,citrus fruit,soda\\nsoda, whole milk\\n")
    >>> [lists.to_pylist() for _, lists in read_items(baskets, "x.txt", ",")]
    [[['whole milk', 'citrus fruit', 'soda'], ['soda', 'whole milk']]]
    """
    first = 0
    for lists in _batches(_rows(file, name, separator), pa.list_(pa.string())):
        yield np.arange(first, first + len(lists)), _trimmed(lists)
        first += len(lists)


def split_items(texts: pa.Array, separator: str) -> pa.Array:
    """Return texts as lists of the items between separators."""
    return _trimmed(pc.split_pattern(pc.fill_null(texts, ""), separator))


def _trimmed(lists: pa.Array) -> pa.Array:
    items = pc.utf8_trim_whitespace(lists.flatten())
    return split_rows(pa.ListArray.from_arrays(_offsets(lists), items), "document")[0]


def _offsets(lists: pa.Array) -> pa.Array:
    return pa.array(np.concatenate(([0], np.cumsum(pc.list_value_length(lists).to_numpy()))), pa.int32())


def _rows(file: Any, name: str, separator: str) -> Iterator[list[str]]:
    """Yield the rows that are not blank."""
    csv.field_size_limit(_LARGEST)
    rows = csv.reader(_decoded(file), delimiter=separator, strict=True, skipinitialspace=separator != "\t")
    try:
        yield from filter(None, rows)
    except UnicodeDecodeError:
        raise DataError(
            f"data.path: {name} is not text in UTF-8 (after line {rows.line_num:,}): convert it, for instance with"
            " `iconv -t UTF-8`"
        ) from None
    except csv.Error as error:
        raise DataError(
            f"data.path: {name} cannot be read as a table, line {rows.line_num:,}: {error}; quotation marks in a value"
            ' are doubled, and the value is quoted: "5"" nails"'
        ) from None


def _decoded(file: Any, errors: str = "strict") -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedReader(file, BUFFER), encoding="utf-8-sig", errors=errors, newline="")


def _batches(values: Iterator[Any], type: pa.DataType) -> Iterator[pa.Array]:
    """Yield arrays of values that together have about `PIECE_BYTES` characters."""
    batch: list[Any] = []
    size = 0
    for value in values:
        batch.append(value)
        size += len(value) if isinstance(value, str) else sum(map(len, value))
        if size >= PIECE_BYTES or len(batch) >= _ROWS:
            yield pa.array(batch, type)
            batch, size = [], 0
    if batch:
        yield pa.array(batch, type)


def _shortened(row: list[str]) -> str:
    text = repr(row)
    return text if len(text) <= 80 else f"{text[:79]}…"
