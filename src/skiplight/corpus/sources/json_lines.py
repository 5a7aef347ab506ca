"""Reads rows of JSON lines from a range of a file's bytes; a row's key is the position of its line.

A row belongs to the range that its first byte lies in. A file may also be one JSON list of rows, which is read as a
whole; the keys are then the numbers of the rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from skiplight.corpus.sources.byte_ranges import read_fully
from skiplight.corpus.sources.json_depth import check_json_depth
from skiplight.corpus.sources.text_ranges import Part, find_document, tail_step
from skiplight.corpus.text.documents import PIECE_BYTES
from skiplight.errors import DataError

_MARK = b"\xef\xbb\xbf"  # the byte order mark of UTF-8


def is_list(head: bytes) -> bool:
    """Return whether a file with these first bytes is one JSON list."""
    return head.removeprefix(_MARK).lstrip()[:1] == b"["


def read_json_range(
    file: Any, begin: int, end: int | None, column: str, type: pa.DataType | None, name: str
) -> Iterator[Part]:
    """Yield the positions and the values of a column of the rows that begin in a range.

    Args:
        file: of bytes; `read` and, where `begin` is not 0, `seek`.
        begin, end: positions of the first byte and of the byte after the last; `end` None: the end of the file.
        column: of the text or the tokens.
        type: of the column; None: as the first rows have it.
        name: of the file, for errors.

    Raises:
        DataError: a line is not a row.
    """
    for position, text in _read_lines(file, begin, end):
        if position == 0 and is_list(text):
            yield _read_list(text, file, column, name)
            return
        if position == 0 and text.startswith(_MARK):
            text = b" " * len(_MARK) + text[len(_MARK) :]
        starts = _line_starts(text)
        if not len(starts):
            continue
        check_json_depth(text, name)
        table = parse_rows(text, column, type)
        if table.num_rows != len(starts):
            raise DataError(
                f"data.path: {name} is not JSON lines, it has {table.num_rows:,} rows in {len(starts):,} lines after"
                f" byte {position:,}: write each row in a line of its own"
            )
        yield position + starts, table[column].combine_chunks()


def parse_rows(text: bytes, column: str, type: pa.DataType | None) -> pa.Table:
    """Return the column of lines of JSON; all columns, as these lines have them, where `type` is None."""
    schema = pa.schema([(column, type)]) if type is not None else None
    parse = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore" if schema else "infer")
    # A row must fit into Arrow's block.
    longest = int(np.diff(_line_starts(text), append=len(text)).max(initial=0))
    read = pa.json.ReadOptions(block_size=max(longest + 1, 1 << 20))
    return pa.json.read_json(pa.BufferReader(text), read_options=read, parse_options=parse)


def _read_lines(file: Any, begin: int, end: int | None) -> Iterator[tuple[int, bytes]]:
    """Yield (position, whole lines) of a few MB; of a list, only its beginning."""
    position, rest = find_document(file, begin, end, "line")
    if position is None:
        return
    step = tail_step(begin, end)
    while True:
        ahead = position + len(rest)
        if end is None or ahead < end:
            wanted = PIECE_BYTES if end is None else min(PIECE_BYTES, end - ahead)
        else:  # only the rest of the last line
            wanted = step = min(2 * step, PIECE_BYTES)
        data = read_fully(file, wanted)
        chunk = rest + data
        if position == 0 and is_list(chunk):
            yield 0, chunk
            return
        if end is not None and position + len(chunk) >= end:
            # Up to the end of the line that has the last byte of the range.
            cut = chunk.find(b"\n", max(end - 1 - position, 0)) + 1
        else:
            cut = chunk.rfind(b"\n") + 1
        cut = cut if cut or data else len(chunk)
        text, rest = chunk[:cut], chunk[cut:]
        if text:
            yield position, text
            position += len(text)
        if (not data and not rest) or (end is not None and position >= end):
            return


def _line_starts(text: bytes) -> np.ndarray:
    """Return where each line that is not blank begins, int64 [n]."""
    found = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")) + 1
    starts = np.concatenate(([0], found[found < len(text)])).astype(np.int64)
    first = np.frombuffer(text, np.uint8)[starts] if len(text) else np.zeros(0, np.uint8)
    if (first <= ord(" ")).any():  # a line of white space, or one that is indented
        ends = np.append(starts[1:], len(text))
        blank = [not text[begin:stop].strip() for begin, stop in zip(starts.tolist(), ends.tolist(), strict=True)]
        starts = starts[~np.asarray(blank)]
    return starts if len(text) else starts[:0]


def _read_list(text: bytes, file: Any, column: str, name: str) -> Part:
    try:
        rows = json.loads(text + b"".join(iter(lambda: file.read(PIECE_BYTES), b"")))
        values = [row[column] for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"data.path: {name} cannot be read as a list of rows with {column} ({error})") from error
    return np.arange(len(values)), pa.array(values)
