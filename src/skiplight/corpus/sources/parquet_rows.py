"""Reads a column of row groups of Parquet files; a row's key is its number in the file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skiplight.corpus.sources.byte_ranges import read_fully
from skiplight.corpus.text.documents import PIECE_BYTES

_MAX_ROWS = 4096
_MAGIC = b"PAR1"
_TAIL = 4096


def read_footer(file: Any) -> Any:
    """Return the metadata of a Parquet file; asks for no more bytes than it has, unlike Arrow, which asks for 64 KB."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(size - _TAIL, 0))
    tail = read_fully(file, min(size, _TAIL))
    if tail[-4:] == _MAGIC and len(tail) >= 8:
        wanted = int.from_bytes(tail[-8:-4], "little") + 8
        if len(tail) < wanted <= size:
            file.seek(size - wanted)
            tail = read_fully(file, wanted - len(tail)) + tail
        tail = tail[-wanted:]
    return pq.read_metadata(pa.BufferReader(_MAGIC + tail))  # which names what is wrong


def column_bytes(metadata: Any, column: str) -> np.ndarray:
    """Return the size of a column in each row group of a file, packed and unpacked, int64 [groups, 2]."""
    sizes = np.zeros((metadata.num_row_groups, 2), np.int64)
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for index in range(group.num_columns):
            chunk = group.column(index)
            if chunk.path_in_schema.partition(".")[0] == column:
                sizes[number] += chunk.total_compressed_size, chunk.total_uncompressed_size
    return sizes


def count_rows(metadata: Any) -> np.ndarray:
    """Return the rows of each row group, int64 [groups]."""
    return np.array([metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)], np.int64)


def read_row_groups(file: pq.ParquetFile, begin: int, end: int, column: str) -> Iterator[tuple[np.ndarray, pa.Array]]:
    """Yield (rows int64 [n], values [n]) of the row groups that begin at the rows from `begin` up to `end`."""
    rows = count_rows(file.metadata)
    starts = np.cumsum(rows) - rows
    groups = np.flatnonzero((starts >= begin) & (starts < end) & (rows > 0))
    if not len(groups):
        return
    size = column_bytes(file.metadata, column)[groups, 1].sum() / rows[groups].sum()
    batch = int(min(max(PIECE_BYTES / max(size, 1), 1), _MAX_ROWS))
    row = int(starts[groups[0]])
    for table in file.iter_batches(batch, row_groups=groups.tolist(), columns=[column], use_threads=False):
        values = table.column(column)
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        values.validate(full=True)  # a damaged file may hold strings that are not UTF-8
        yield np.arange(row, row + len(values)), values
        row += len(values)
