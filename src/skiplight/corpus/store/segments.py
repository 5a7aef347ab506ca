"""Chunks and segments: which text is held out, and which tokens may share a window.

A *chunk* is at most 10,000 consecutive raw tokens of one document, so usually a whole document. It is the unit that is
held out for evaluation. Whether it is held out depends on its document and number only, neither on a seed nor on the
rest of the text, so that all seeds of a study are evaluated on the same text.

A *segment* is at most 1,000 consecutive in-vocabulary tokens of a chunk. Windows never cross segments, so each segment
can be trained on alone, and a block is a whole number of segments.

Documents arrive in batches that break them anywhere. `ChunkCutter` and `SegmentCutter` cut across batches, since they
keep the position in the document that is still open.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skiplight.corpus.tokens import TokenParts, TokenSegments

CHUNK_TOKENS = 10_000
SEGMENT_TOKENS = 1_000

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_PURPOSE = np.uint64(0x68656C646F757401)  # "heldout", then the draw's version


@dataclass
class HeldoutChunks:
    """Chunks, or the parts of chunks that lie in one batch, in the order of the text.

    Attributes:
        document: int64 [c], the key of each chunk's document.
        chunk: int64 [c], the number of the chunk in its document.
        raw: int64 [c], how many raw tokens of the chunk are here.
    """

    document: np.ndarray
    chunk: np.ndarray
    raw: np.ndarray


def draw_heldout(document: np.ndarray, chunk: np.ndarray, fraction: float) -> np.ndarray:
    """Return whether each chunk is held out, bool [c]: SplitMix64's finaliser of (document, chunk) below the fraction.

    >>> int(draw_heldout(np.arange(100_000), np.zeros(100_000, int), 0.01).sum())
    1006
    """
    key = _finalise(document.astype(np.uint64) ^ _PURPOSE)
    draw = _finalise(key + chunk.astype(np.uint64) * _GOLDEN)
    return draw < np.uint64(round(fraction * 2**64))


def _finalise(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        x = x + _GOLDEN
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


class ChunkCutter:
    """Cuts documents, given piece by piece, into chunks.

    Attributes:
        documents: how many documents were given so far.
    """

    def __init__(self) -> None:
        self._document = -1
        self._raw = 0
        self.documents = 0

    def cut(self, keys: np.ndarray, lengths: np.ndarray) -> HeldoutChunks:
        """Return the chunks of a batch of pieces of documents.

        Args:
            keys: int64 [n], the key of each piece's document.
            lengths: int64 [n], the raw tokens of each piece.
        """
        if not len(keys):
            return HeldoutChunks(*(np.zeros(0, dtype=np.int64) for _ in range(3)))
        begins = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
        document, total = keys[begins], np.add.reduceat(lengths, begins)
        before = np.zeros_like(total)
        if document[0] == self._document:
            before[0] = self._raw
        self.documents += len(document) - int(document[0] == self._document)
        self._document, self._raw = int(document[-1]), int(before[-1] + total[-1])

        first = before // CHUNK_TOKENS
        count = np.where(total > 0, (before + total - 1) // CHUNK_TOKENS - first + 1, 0)
        index = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        chunk = np.repeat(first, count) + index
        begin = np.maximum(chunk * CHUNK_TOKENS, np.repeat(before, count))
        end = np.minimum((chunk + 1) * CHUNK_TOKENS, np.repeat(before + total, count))
        return HeldoutChunks(np.repeat(document, count), chunk, end - begin)


class SegmentCutter:
    """Cuts chunks, given batch by batch, into segments of the training and of the held-out text."""

    def __init__(self) -> None:
        self._document = -1
        self._chunk = -1
        self._offset = 0  # in-vocabulary tokens of the open document so far
        self._in_chunk = 0  # those of the open chunk

    def cut(self, chunks: HeldoutChunks, tokens: np.ndarray, held: np.ndarray, ids: np.ndarray) -> TokenParts:
        """Return the next part of the training and of the held-out text.

        The first tokens of a part may continue the last segment of the part before; see `TokenSegments`.

        Args:
            chunks: [c], from `ChunkCutter.cut`.
            tokens: int64 [c], the in-vocabulary tokens of each.
            held: bool [c], whether each is held out.
            ids: int32 [sum of `tokens`], the tokens of all chunks.
        """
        if not len(tokens):
            return TokenSegments.empty(), TokenSegments.empty()
        same_document = chunks.document[0] == self._document
        # Offset in the document: the sum since the document's first chunk here, plus the tokens before this batch.
        sums = np.cumsum(tokens) - tokens
        first = np.concatenate(([True], chunks.document[1:] != chunks.document[:-1]))
        number = np.cumsum(first) - 1
        offset = sums - sums[first][number]
        if same_document:
            offset[number == 0] += self._offset
        # Only the first entry can continue a chunk of an earlier batch: within a batch a chunk is one entry.
        in_chunk = np.zeros_like(tokens)
        if same_document and chunks.chunk[0] == self._chunk:
            in_chunk[0] = self._in_chunk
        self._document, self._chunk = int(chunks.document[-1]), int(chunks.chunk[-1])
        self._offset, self._in_chunk = int(offset[-1] + tokens[-1]), int(in_chunk[-1] + tokens[-1])

        train, heldout = (_cut(ids, chosen, chunks.document, offset, in_chunk, tokens) for chosen in (~held, held))
        return train, heldout


def _cut(ids: np.ndarray, chosen: np.ndarray, *columns: np.ndarray) -> TokenSegments:
    if not chosen.all():
        ids = ids[np.repeat(chosen, columns[-1])]
    document, offset, in_chunk, tokens = (column[chosen] for column in columns)
    position = np.cumsum(tokens) - tokens
    # Segments begin at the multiples of SEGMENT_TOKENS in [in_chunk, in_chunk + tokens).
    first = -(-in_chunk // SEGMENT_TOKENS)
    count = -(-(in_chunk + tokens) // SEGMENT_TOKENS) - first
    index = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    ahead = (np.repeat(first, count) + index) * SEGMENT_TOKENS - np.repeat(in_chunk, count)
    segments = np.append(np.repeat(position, count) + ahead, len(ids))
    return TokenSegments(ids, segments, np.repeat(document, count), np.repeat(offset, count) + ahead)
