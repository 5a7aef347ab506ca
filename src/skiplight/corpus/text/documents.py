"""Documents on their way from a source to tokens: keys, texts, and batches of a size that fits the cache.

A document's key is the number of its file times 2**40 plus its position there. In plain text and JSON lines that is the
byte at which it begins in the unpacked file, so that a part of a file can be read on its own; in Parquet it is the row
(times a power of two plus the number of the document in the row, where rows are divided). In data sets that are not
files, documents are numbered.

A document may come in several pieces, cut at white space: consecutive entries with the same key, possibly in different
`Documents`. So one line of 100 MB takes no more memory than a hundred thousand short ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SHARD_ROWS = 1 << 40
PIECE_BYTES = 4 << 20

_WHITE_SPACE = np.zeros(256, dtype=bool)
_WHITE_SPACE[list(b" \t\n\v\f\r")] = True


@dataclass
class Documents:
    """Consecutive documents, or pieces of documents.

    Attributes:
        keys: int64 [n], not decreasing.
        texts: pa.StringArray [n], or pa.ListArray [n] of strings where the source has lists of tokens; without nulls.
    """

    keys: np.ndarray
    texts: pa.Array

    def __len__(self) -> int:
        return len(self.keys)


def split_documents(keys: np.ndarray, texts: pa.Array, limit: int = PIECE_BYTES) -> Iterator[Documents]:
    """Cut texts longer than `limit` bytes at white space, and group the pieces into `Documents` of about that size.

    A text is cut before the first white space after `limit` bytes; only the memory needed depends on the limit.

    Args:
        keys: int64 [n], not decreasing.
        texts: pa.StringArray or pa.LargeStringArray [n]; nulls count as empty.
        limit: size in bytes.
    """
    if texts.null_count:
        texts = pc.fill_null(texts, "")
    if not len(texts):
        return
    wide = pa.types.is_large_string(texts.type)
    _, offset_buffer, data = texts.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64 if wide else np.int32)[texts.offset :][: len(texts) + 1]
    offsets = offsets.astype(np.int64)
    data = data if data is not None else pa.py_buffer(b"")
    long = np.flatnonzero(np.diff(offsets) > limit)
    if len(long):
        characters = np.frombuffer(data, np.uint8)
        cuts = [_cuts(characters, int(offsets[i]), int(offsets[i + 1]), limit) for i in long]
        counts = [len(cut) for cut in cuts]
        keys = np.insert(keys, np.repeat(long + 1, counts), np.repeat(keys[long], counts))
        offsets = np.insert(offsets, np.repeat(long + 1, counts), np.concatenate(cuts))
    begin = 0
    while begin < len(keys):
        stop = int(np.searchsorted(offsets, offsets[begin] + limit, side="right")) - 1
        stop = min(max(stop, begin + 1), len(keys))
        first, last = int(offsets[begin]), int(offsets[stop])
        array = pa.StringArray.from_buffers(
            stop - begin,
            pa.py_buffer((offsets[begin : stop + 1] - first).astype(np.int32)),
            data.slice(first, last - first),
        )
        yield Documents(keys[begin:stop], array)
        begin = stop


def _cuts(characters: np.ndarray, begin: int, end: int, limit: int) -> np.ndarray:
    cuts = []
    position = begin + limit
    while position < end:
        # White space is usually near, so search a small part first.
        for window in (4096, end - position):
            found = np.flatnonzero(_WHITE_SPACE[characters[position : min(position + window, end)]])
            if len(found):
                break
        if not len(found):
            break
        cuts.append(position + int(found[0]))
        position = cuts[-1] + limit
    return np.asarray(cuts, dtype=np.int64)


def batch_documents(documents: Iterable[Documents], limit: int = PIECE_BYTES) -> Iterator[Documents]:
    """Join consecutive `Documents` up to about `limit` bytes, so that many small files give few batches."""
    waiting: list[Documents] = []
    size = 0
    for part in documents:
        nbytes = part.texts.nbytes
        if waiting and size + nbytes > limit:
            yield _join(waiting)
            waiting, size = [], 0
        waiting.append(part)
        size += nbytes
    if waiting:
        yield _join(waiting)


def _join(parts: list[Documents]) -> Documents:
    if len(parts) == 1:
        return parts[0]
    keys = np.concatenate([part.keys for part in parts])
    return Documents(keys, pa.concat_arrays([part.texts for part in parts]))
