"""A text encoded as it comes, for one too large to store; its segments are those the store would have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from skiplight.corpus.sources.registry import Source
from skiplight.corpus.store.segments import Cuts, RunCutter
from skiplight.corpus.text.counting import default_threads
from skiplight.corpus.text.documents import SHARD_ROWS, Documents
from skiplight.corpus.text.encoding import Indexer, number_tokens
from skiplight.corpus.vocabulary import Vocabulary


@dataclass
class SegmentBatch:
    """Whole segments, in the order of the text.

    Attributes:
        ids: int32 [t].
        document: key of each segment's document, int64 [s].
        start: offset of its first token in the document, in in-vocabulary tokens, int64 [s].
        end: tokens of this batch up to its end, int64 [s].
    """

    ids: np.ndarray
    document: np.ndarray
    start: np.ndarray
    end: np.ndarray


class TokenStream:
    """A source and a vocabulary; reads and encodes anew at every call. Pickles.

    Attributes:
        vocabulary: the words of the ids.
        tokens: training tokens of one epoch where known, else None.
        fingerprint: hash of the text's content and of the options that decide its ids.
        seconds: what the counting pass took, empty where the vocabulary was given.
    """

    def __init__(
        self,
        source: Source,
        normalise: str,
        vocabulary: Vocabulary,
        heldout: float,
        fingerprint: str,
        *,
        tokens: int | None = None,
        threads: int | None = None,
        seconds: dict[str, float] | None = None,
    ) -> None:
        self.source = source
        self.normalise = normalise
        self.vocabulary = vocabulary
        self.held = heldout
        self.fingerprint = fingerprint
        self.tokens = tokens
        self.threads = threads or default_threads()
        self.seconds = seconds or {}

    @property
    def shards(self) -> int:
        """How many shards the text has."""
        return self.source.shards

    def segments(self, shards: Sequence[int], after: tuple[int, int] | None = None) -> Iterator[SegmentBatch]:
        """The training segments of some shards, in order.

        Args:
            shards: which, in the order to read them.
            after: (document, start) of a segment of one of them: begin with the segment that follows it.
        """
        return self._segments(shards, after, "train")

    def heldout_segments(self, shards: Sequence[int] | None = None) -> Iterator[SegmentBatch]:
        """The held-out segments; the whole text is read for them."""
        return self._segments(range(self.shards) if shards is None else shards, None, "heldout")

    def _segments(self, shards: Sequence[int], after: tuple[int, int] | None, split: str) -> Iterator[SegmentBatch]:
        shards = list(shards)
        row = 0
        if after is not None:
            shard, row = divmod(after[0], SHARD_ROWS)
            if shard not in shards:
                raise ValueError(f"document {after[0]} is in shard {shard}, not in {shards}")
            shards = shards[shards.index(shard) :]
        indexer = Indexer(self.vocabulary, self.held)
        waiting = _Waiting()
        batches = number_tokens(self._read(shards, row), self.normalise, self.threads, RunCutter())
        for found in indexer.index(batches):
            if split == "train":
                complete = waiting.add(found.train, found.train_cuts)
            else:
                complete = waiting.add(found.heldout, found.heldout_cuts)
            yield from _following(complete, after)
        yield from _following(waiting.rest(), after)

    def _read(self, shards: Sequence[int], row: int) -> Iterator[Documents]:
        for index, shard in enumerate(shards):
            yield from self.source.read(shard, 0 if index else row)


class _Waiting:
    """Holds the last segment of a batch back until it is known to be complete."""

    def __init__(self) -> None:
        self._ids = np.zeros(0, dtype=np.int32)
        self._document = np.zeros(0, dtype=np.int64)
        self._start = np.zeros(0, dtype=np.int64)

    def add(self, ids: np.ndarray, cuts: Cuts) -> SegmentBatch:
        begin = cuts.begin + len(self._ids)
        ids = np.concatenate([self._ids, ids])
        document = np.concatenate([self._document, cuts.document])
        start = np.concatenate([self._start, cuts.start])
        if not len(begin):  # all of it goes on with the segment that was held back
            self._ids = ids
            return SegmentBatch(ids[:0], document[:0], start[:0], start[:0])
        # The segment held back, where there is one, begins at 0.
        end = begin if len(self._document) else begin[1:]
        last = int(begin[-1])
        self._ids, self._document, self._start = ids[last:], document[-1:], start[-1:]
        return SegmentBatch(ids[:last], document[:-1], start[:-1], end)

    def rest(self) -> SegmentBatch:
        end = np.full(len(self._document), len(self._ids), dtype=np.int64)
        return SegmentBatch(self._ids, self._document, self._start, end)


def _following(batch: SegmentBatch, after: tuple[int, int] | None) -> Iterator[SegmentBatch]:
    """The batch without its segments up to and including `after`; nothing where none is left."""
    if after is not None and len(batch.document) and batch.document[0] == after[0]:
        skip = int(np.sum((batch.document == after[0]) & (batch.start <= after[1])))
        if skip:
            cut = int(batch.end[skip - 1])
            batch = SegmentBatch(batch.ids[cut:], batch.document[skip:], batch.start[skip:], batch.end[skip:] - cut)
    if len(batch.document):
        yield batch
