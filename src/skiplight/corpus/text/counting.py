"""Encoding text in a small thread pool, and counting its words in bounded memory.

`ordered_map` gives batches of a few MB to a few threads (Arrow and numpy release the GIL) and takes the results
back in order, a bounded number ahead.

`WordCounts` adds up the batches' counts. When there are too many different words it drops the rarest, as
word2vec does; what is kept may then have been missed before it was first kept, by no more than the threshold
each time.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skiplight.cores import usable_cores

log = logging.getLogger(__name__)

MAX_DISTINCT = 10_000_000
MAX_THREADS = 8

_T = TypeVar("_T")
_R = TypeVar("_R")


def count_threads() -> int:
    """The cores this process may use, at most 8: more than that are never kept busy by one reader."""
    return min(len(usable_cores()), MAX_THREADS)


def map_in_order(function: Callable[[_T], _R], items: Iterable[_T], threads: int) -> Iterator[_R]:
    """`map` in a thread pool: results in order, at most `threads + 2` items in hand.

    With one thread everything runs in the caller's."""
    if threads <= 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="skiplight-encode")
    waiting: deque[Future[_R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > threads + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class WordCounts:
    """Counts of words, merged from many batches in memory bounded by `max_distinct` words.

    >>> counts = WordCounts()
    >>> counts.add(pa.array(["a", "b"]), np.array([2, 1]))
    >>> counts.add(pa.array(["b", "c"]), np.array([4, 0]))
    >>> counts.table().sort_by("word").to_pydict()
    {'word': ['a', 'b'], 'count': [2, 5]}
    """

    def __init__(self, max_distinct: int = MAX_DISTINCT) -> None:
        self.max_distinct = max_distinct
        self.pruned = 0  # words counted no more often than this may have been dropped
        self._merged = self._table(pa.array([], pa.string()), np.zeros(0, dtype=np.int64))
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0

    def add(self, words: pa.Array, counts: np.ndarray) -> None:
        """Adds a batch: different words [d] and how often each occurs, int64 [d]; zeros are left out."""
        seen = counts > 0
        if not seen.all():
            words, counts = words.filter(pa.array(seen)), counts[seen]
        self._waiting.append(self._table(words, counts))
        self._waiting_rows += len(words)
        # Merging costs as much as what it merges, so wait until that much has come.
        if self._waiting_rows > max(min(self.max_distinct, 1_000_000), self._merged.num_rows // 2):
            self._consolidate()

    def table(self) -> pa.Table:
        """word: string, count: int64; a row for each word, in no order."""
        self._consolidate()
        return self._merged

    def _table(self, words: pa.Array, counts: np.ndarray) -> pa.Table:
        # large_string: ten million words may well take more than the 2 GB that a string array can hold.
        return pa.table({"word": words.cast(pa.large_string()), "count": pa.array(counts, pa.int64())})

    def _consolidate(self) -> None:
        if self._waiting:
            table = pa.concat_tables([self._merged, *self._waiting]).combine_chunks()
            words = pc.dictionary_encode(table["word"]).combine_chunks()
            # float64 sums are exact below 2**53, more words than there are.
            sums = np.bincount(words.indices.to_numpy(), table["count"].to_numpy(), len(words.dictionary))
            self._merged = self._table(words.dictionary, sums.astype(np.int64))
            self._waiting, self._waiting_rows = [], 0
        if self._merged.num_rows > self.max_distinct:
            self._prune()

    def _prune(self) -> None:
        # Leave at least a quarter free: a table that is full again at once would be pruned at every batch.
        counts = self._merged["count"].to_numpy()
        target = self.max_distinct - self.max_distinct // 4
        threshold = max(int(np.partition(counts, -target - 1)[-target - 1]), self.pruned + 1)
        before = self._merged.num_rows
        self._merged = self._merged.filter(pc.field("count") > threshold)
        self.pruned = threshold
        log.warning(
            "more than %d different words: dropped %d that had occurred at most %d times so far; counts of"
            " rare words are now lower bounds",
            self.max_distinct,
            before - self._merged.num_rows,
            threshold,
        )
