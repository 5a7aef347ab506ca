"""From rows of a data set to documents: splits text by line or paragraph, and groups lists of tokens."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skiplight.corpus.sources.text_ranges import BLANK_LINES
from skiplight.corpus.text.documents import PIECE_BYTES, Documents

_SEPARATORS = {"line": "\n", "paragraph": BLANK_LINES}


def split_rows(texts: pa.Array, unit: str) -> tuple[pa.Array, np.ndarray | None]:
    """Split rows of text into documents.

    Args:
        texts: [rows], strings, or lists of strings or integers, which are a document each.
        unit: what one document is: `document` (a row), `line` or `paragraph`.

    Returns:
        The texts of the documents, [n], and how many each row has, int64 [rows]; None where a row is a document.
    """
    if pa.types.is_list(texts.type) or pa.types.is_large_list(texts.type):
        return _string_lists(texts), None
    if unit == "document":
        return texts, None
    split = pc.split_pattern_regex(pc.fill_null(texts, ""), _SEPARATORS[unit])
    return split.flatten(), pc.list_value_length(split).to_numpy().astype(np.int64)


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
