"""From rows of a data set to documents: splits text by line or paragraph, and groups lists of tokens."""

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
    """Split rows of text into documents, numbered from `row` on.

    Args:
        texts: [rows], strings, or lists of strings or integers, which are a document each.
        unit: what one document is: `document` (a row), `line` or `paragraph`.
        row: the number of the first document.

    Returns:
        The numbers of the documents, int64 [n], their texts, [n], and the next number.
    """
    if pa.types.is_list(texts.type) or pa.types.is_large_list(texts.type):
        texts = _string_lists(texts)
    elif unit != "document":
        filled = pc.fill_null(texts, "")
        texts = pc.split_pattern_regex(filled, _SEPARATORS[unit]).flatten()
    return np.arange(row, row + len(texts)), texts, row + len(texts)


def split_text_chunks(chunks: pa.Array, unit: str, row: int) -> tuple[np.ndarray, pa.Array, int]:
    """Split consecutive chunks of a text file into documents, or pieces of documents.

    The first piece of a chunk belongs to document `row`, and each separator begins the next document. A separator is
    within one chunk, since text is never cut within white space. Arguments and results are those of `split_rows`; the
    last result is the number of the document of the next chunk's first piece.

    >>> rows, texts, row = split_text_chunks(pa.array(["a b\\nc", " d\\n", "e"]), "line", 0)
    >>> rows.tolist(), texts.to_pylist(), row
    ([0, 1, 1, 2], ['a b\\n', 'c', ' d\\n', 'e'], 2)
    """
    rows, texts = [], []
    for chunk in chunks:
        data = chunk.as_buffer()
        if unit == "document":
            ends = np.zeros(0, dtype=np.int64)
        elif unit == "line":
            ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
        else:
            pattern = re.compile(_BLANK_LINES.encode())
            ends = np.asarray([match.end() for match in pattern.finditer(memoryview(data))], dtype=np.int64)
        # A separator stays at the end of its document, where it counts as white space. After a separator at the end of
        # a chunk there is no piece: the next chunk begins the next document, unless the file ends here.
        offsets = np.concatenate(([0], ends, [data.size] if not len(ends) or ends[-1] < data.size else []))
        count = len(offsets) - 1
        texts.append(pa.StringArray.from_buffers(count, pa.py_buffer(offsets.astype(np.int32)), data))
        rows.append(np.arange(row, row + count))
        row += len(ends)
    return np.concatenate(rows), pa.concat_arrays(texts), row


def split_lists(keys: np.ndarray, lists: pa.Array, limit: int = PIECE_BYTES) -> Iterator[Documents]:
    """Group lists of tokens, a document each, into `Documents` of about `limit` bytes."""
    step = max(int(limit / max(lists.nbytes / max(len(lists), 1), 1)), 1)
    for begin in range(0, len(lists), step):
        yield Documents(keys[begin : begin + step], lists.slice(begin, step))


def _string_lists(lists: pa.Array) -> pa.Array:
    """Return lists of strings or integers as lists of strings, without nulls and empty strings."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    tokens = lists.flatten().cast(pa.string())
    kept = pc.fill_null(pc.greater(pc.binary_length(tokens), 0), False)
    sums = np.concatenate(([0], np.cumsum(kept.to_numpy(zero_copy_only=False))))
    offsets = sums[np.concatenate(([0], np.cumsum(lengths)))]
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), tokens.filter(kept))
