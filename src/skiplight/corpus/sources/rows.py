"""From rows of a data set to documents: splitting by line or paragraph, and lists of tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skiplight.corpus.text.documents import PIECE_BYTES, Documents

_BLANK_LINES = r"\n(?:[ \t\r]*\n)+"
_SEPARATORS = {"line": "\n", "paragraph": _BLANK_LINES}


def split_rows(texts: pa.Array, unit: str, row: int) -> tuple[np.ndarray, pa.Array, int]:
    """The documents of some rows, numbered from `row` on.

    Returns:
        rows int64 [n], texts [n], and the number after the last.
    """
    if pa.types.is_list(texts.type) or pa.types.is_large_list(texts.type):
        texts = _string_lists(texts)
    elif unit != "document":
        filled = pc.fill_null(texts, "")
        texts = pc.split_pattern_regex(filled, _SEPARATORS[unit]).flatten()
    return np.arange(row, row + len(texts)), texts, row + len(texts)


def split_text_chunks(blocks: pa.Array, unit: str, row: int) -> tuple[np.ndarray, pa.Array, int]:
    """The documents, or pieces of documents, of consecutive blocks of a text file.

    The first piece of a block goes on with document `row`; each separator begins the next document. A
    separator lies in one block only, since blocks are never cut within white space.

    >>> rows, texts, row = split_text_chunks(pa.array(["a b\\nc", " d\\n", "e"]), "line", 0)
    >>> rows.tolist(), texts.to_pylist(), row
    ([0, 1, 1, 2], ['a b\\n', 'c', ' d\\n', 'e'], 2)
    """
    rows, texts = [], []
    for block in blocks:
        data = block.as_buffer()
        if unit == "document":
            ends = np.zeros(0, dtype=np.int64)
        elif unit == "line":
            ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
        else:
            pattern = re.compile(_BLANK_LINES.encode())
            ends = np.asarray([match.end() for match in pattern.finditer(memoryview(data))], dtype=np.int64)
        # The separator stays at the end of its document, where it is white space like any other. Behind a last one
        # there is nothing: the next block goes on with the next document, and at the end of the file there is none.
        offsets = np.concatenate(([0], ends, [data.size] if not len(ends) or ends[-1] < data.size else []))
        count = len(offsets) - 1
        texts.append(pa.StringArray.from_buffers(count, pa.py_buffer(offsets.astype(np.int32)), data))
        rows.append(np.arange(row, row + count))
        row += len(ends)
    return np.concatenate(rows), pa.concat_arrays(texts), row


def split_lists(keys: np.ndarray, lists: pa.Array, limit: int = PIECE_BYTES) -> Iterator[Documents]:
    """Groups lists of tokens into `Documents` of about `limit` bytes."""
    step = max(int(limit / max(lists.nbytes / max(len(lists), 1), 1)), 1)
    for begin in range(0, len(lists), step):
        yield Documents(keys[begin : begin + step], lists.slice(begin, step))


def _string_lists(lists: pa.Array) -> pa.Array:
    """Lists of tokens or ids as lists of strings, without nulls and empty tokens."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    tokens = lists.flatten().cast(pa.string())
    kept = pc.fill_null(pc.greater(pc.binary_length(tokens), 0), False)
    sums = np.concatenate(([0], np.cumsum(kept.to_numpy(zero_copy_only=False))))
    offsets = sums[np.concatenate(([0], np.cumsum(lengths)))]
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), tokens.filter(kept))
