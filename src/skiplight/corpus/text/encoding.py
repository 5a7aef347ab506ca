"""From documents to ids, batch by batch: the one way that building a store and streaming share.

`number_tokens` normalises and numbers the words of each batch with the batch's own dictionary, in a thread pool, and
cuts the documents into runs. `Indexer` turns such batches into ids of a vocabulary, without the words that
are not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from skiplight.corpus.store.segments import HeldoutChunks, RunCutter, SegmentCutter, draw_heldout
from skiplight.corpus.text.counting import map_in_order
from skiplight.corpus.text.documents import Documents, batch_documents
from skiplight.corpus.text.normalise import encode_tokens
from skiplight.corpus.tokens import TokenSegments
from skiplight.corpus.vocabulary import Vocabulary

_WORDS_A_BATCH = 50_000
_MAX_GROUP = 32


@dataclass
class Numbered:
    """A batch of text as ids into its own dictionary.

    Attributes:
        words: the dictionary, pa.StringArray [d].
        ids: int32 [n], the raw words of `runs`, one run after the other.
        runs: [r].
    """

    words: pa.Array
    ids: np.ndarray
    runs: HeldoutChunks

    def train_counts(self, fraction: float) -> np.ndarray:
        """How often each word of the dictionary occurs outside held-out runs, int64 [d]."""
        held = draw_heldout(self.runs.document, self.runs.run, fraction)
        ids = self.ids[np.repeat(~held, self.runs.raw)] if held.any() else self.ids
        return np.bincount(ids, minlength=len(self.words))


def number_tokens(
    documents: Iterable[Documents], normalise: str, threads: int, cutter: RunCutter
) -> Iterator[Numbered]:
    """Numbers the words of all documents, in order; `cutter` is told of all and counts them."""

    def work(batch: Documents) -> tuple[Documents, pa.Array, np.ndarray, np.ndarray]:
        encoded = encode_tokens(batch.texts, normalise)
        return batch, encoded.words, encoded.ids, encoded.lengths

    for batch, words, ids, lengths in map_in_order(work, batch_documents(documents), threads):
        yield Numbered(words, ids, cutter.cut(batch.keys, lengths))


class Indexer:
    """Looks batches up in a vocabulary and cuts them into segments; one for each pass over a text."""

    def __init__(self, vocabulary: Vocabulary, heldout: float) -> None:
        self._vocabulary = vocabulary
        self._heldout = heldout
        self._cutter = SegmentCutter()

    def index(self, batches: Iterable[Numbered]) -> Iterator[tuple[TokenSegments, TokenSegments]]:
        """Yield the training and the held-out part of each batch, in order; see `SegmentCutter.cut`."""
        # Arrow hashes the vocabulary anew at each look-up, which for a large one costs more than encoding a
        # batch: look the dictionaries of several batches up together.
        group: list[Numbered] = []
        size = min(1 + len(self._vocabulary) // _WORDS_A_BATCH, _MAX_GROUP)
        for batch in batches:
            group.append(batch)
            if len(group) == size:
                yield from self._index(group)
                group = []
        if group:
            yield from self._index(group)

    def _index(self, group: list[Numbered]) -> Iterator[tuple[TokenSegments, TokenSegments]]:
        table = self._vocabulary.encode(pa.concat_arrays([batch.words for batch in group]))
        ends = np.cumsum([len(batch.words) for batch in group])
        for batch, end in zip(group, ends, strict=True):
            yield self._cut(batch, table[end - len(batch.words) : end])

    def _cut(self, batch: Numbered, table: np.ndarray) -> tuple[TokenSegments, TokenSegments]:
        runs = batch.runs
        held = draw_heldout(runs.document, runs.run, self._heldout)
        ids = table[batch.ids]
        known = ids >= 0
        tokens = np.zeros(0, dtype=np.int64)
        if len(runs.raw):  # no run is empty, as `reduceat` needs it
            tokens = np.add.reduceat(known, np.cumsum(runs.raw) - runs.raw, dtype=np.int64)
        return self._cutter.cut(runs, tokens, held, ids[known])
