"""From documents to ids, batch by batch: the steps that building a store and streaming share.

`number_tokens` splits each batch into tokens, numbers them by the batch's own dictionary in a thread pool, and cuts the
documents into chunks. `Indexer` looks these dictionaries up in a vocabulary, drops the tokens that are not in it, and
cuts the rest into segments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from skiplight.corpus.store.segments import ChunkCutter, HeldoutChunks, SegmentCutter, draw_heldout
from skiplight.corpus.text.counting import map_in_order
from skiplight.corpus.text.documents import Documents, batch_documents
from skiplight.corpus.text.normalise import Encoded, encode_tokens
from skiplight.corpus.tokens import TokenParts
from skiplight.corpus.vocabulary import Vocabulary

_WORDS_PER_BATCH = 50_000
_MAX_GROUP = 32


@dataclass
class Numbered:
    """A batch of text as ids into its own dictionary.

    Attributes:
        words: pa.StringArray [d], the dictionary.
        ids: int32 [n], the raw tokens of all chunks.
        chunks: [c].
    """

    words: pa.Array
    ids: np.ndarray
    chunks: HeldoutChunks

    def train_counts(self, fraction: float) -> np.ndarray:
        """Return how often each word of the dictionary occurs outside held-out chunks, int64 [d]."""
        held = draw_heldout(self.chunks.document, self.chunks.chunk, fraction)
        ids = self.ids[np.repeat(~held, self.chunks.raw)] if held.any() else self.ids
        return np.bincount(ids, minlength=len(self.words))


def number_tokens(
    documents: Iterable[Documents], normalise: str, threads: int, cutter: ChunkCutter
) -> Iterator[Numbered]:
    """Number the tokens of all documents, in order; `cutter` cuts and counts the documents."""

    def encode(batch: Documents) -> tuple[np.ndarray, Encoded]:
        return batch.keys, encode_tokens(batch.texts, normalise)

    for keys, encoded in map_in_order(encode, batch_documents(documents), threads):
        yield Numbered(encoded.words, encoded.ids, cutter.cut(keys, encoded.lengths))


class Indexer:
    """Looks batches up in a vocabulary and cuts them into segments; each pass over a text needs a new one."""

    def __init__(self, vocabulary: Vocabulary, heldout: float) -> None:
        self._vocabulary = vocabulary
        self._heldout = heldout
        self._cutter = SegmentCutter()

    def index(self, batches: Iterable[Numbered]) -> Iterator[TokenParts]:
        """Yield the training and the held-out part of each batch, in order; see `SegmentCutter.cut`."""
        # Arrow hashes the vocabulary at each look-up, which for a large one costs more than encoding a batch: look up
        # the dictionaries of several batches together.
        group: list[Numbered] = []
        size = min(1 + len(self._vocabulary) // _WORDS_PER_BATCH, _MAX_GROUP)
        for batch in batches:
            group.append(batch)
            if len(group) == size:
                yield from self._index(group)
                group = []
        if group:
            yield from self._index(group)

    def _index(self, group: list[Numbered]) -> Iterator[TokenParts]:
        table = self._vocabulary.encode(pa.concat_arrays([batch.words for batch in group]))
        ends = np.cumsum([len(batch.words) for batch in group])
        for batch, end in zip(group, ends, strict=True):
            yield self._cut(batch, table[end - len(batch.words) : end])

    def _cut(self, batch: Numbered, table: np.ndarray) -> TokenParts:
        chunks = batch.chunks
        held = draw_heldout(chunks.document, chunks.chunk, self._heldout)
        ids = table[batch.ids]
        known = ids >= 0
        tokens = np.zeros(0, dtype=np.int64)
        if len(chunks.raw):  # no chunk is empty, which `reduceat` relies on
            tokens = np.add.reduceat(known, np.cumsum(chunks.raw) - chunks.raw, dtype=np.int64)
        return self._cutter.cut(chunks, tokens, held, ids[known])
