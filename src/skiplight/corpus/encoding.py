"""From documents to ids, batch by batch: the one way that building a store and streaming share.

`number` normalises and numbers the words of each batch with the batch's own dictionary, in a thread pool, and
cuts the documents into runs. `look_up` turns such a batch into ids of a vocabulary, without the words that
are not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from skiplight.corpus.counting import ordered_map
from skiplight.corpus.documents import Documents, batches
from skiplight.corpus.normalise import encode
from skiplight.corpus.segments import Cuts, RunCutter, Runs, SegmentCutter, held_out
from skiplight.corpus.vocabulary import Vocabulary


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
    runs: Runs

    def train_counts(self, fraction: float) -> np.ndarray:
        """How often each word of the dictionary occurs outside held-out runs, int64 [d]."""
        held = held_out(self.runs.document, self.runs.run, fraction)
        ids = self.ids[np.repeat(~held, self.runs.raw)] if held.any() else self.ids
        return np.bincount(ids, minlength=len(self.words))


@dataclass
class LookedUp:
    """A batch of text as ids of the vocabulary: tokens and the segments that begin in it, of each split."""

    train: np.ndarray
    heldout: np.ndarray
    train_cuts: Cuts
    heldout_cuts: Cuts


def number(
    documents: Iterable[Documents], normalise: str, threads: int, cutter: RunCutter
) -> Iterator[Numbered]:
    """Numbers the words of all documents, in order; `cutter` is told of all and counts them."""

    def work(batch: Documents) -> tuple[Documents, pa.Array, np.ndarray, np.ndarray]:
        encoded = encode(batch.texts, normalise)
        return batch, encoded.words, encoded.ids, encoded.lengths

    for batch, words, ids, lengths in ordered_map(work, batches(documents), threads):
        yield Numbered(words, ids, cutter.cut(batch.keys, lengths))


class Indexer:
    """Looks batches up in a vocabulary and cuts them into segments; one for each pass over a text."""

    def __init__(self, vocabulary: Vocabulary, heldout: float) -> None:
        self._vocabulary = vocabulary
        self._heldout = heldout
        self._cutter = SegmentCutter()

    def index(self, batch: Numbered) -> LookedUp:
        runs = batch.runs
        held = held_out(runs.document, runs.run, self._heldout)
        ids = self._vocabulary.encode(batch.words)[batch.ids] if len(batch.ids) else batch.ids
        known = ids >= 0
        tokens = np.zeros(0, dtype=np.int64)
        if len(runs.raw):  # no run is empty, as `reduceat` needs it
            tokens = np.add.reduceat(known, np.cumsum(runs.raw) - runs.raw, dtype=np.int64)
        train_cuts, heldout_cuts = self._cutter.cut(runs, tokens, held)
        if held.any():
            aside = np.repeat(held, runs.raw)
            return LookedUp(ids[known & ~aside], ids[known & aside], train_cuts, heldout_cuts)
        return LookedUp(ids[known], ids[:0], train_cuts, heldout_cuts)
