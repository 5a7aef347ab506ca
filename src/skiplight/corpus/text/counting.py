"""A thread pool for encoding text, and word counts in bounded memory.

`map_in_order` gives batches of a few MB to threads (Arrow and numpy release the GIL) and yields the results in order,
holding a bounded number of them.

`WordCounts` adds up the counts of batches. When there are too many different words, it drops the rarest, as word2vec
does. The count of a word that is kept may then be too low, by at most the threshold for each time that it was dropped.
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

from skiplight.process import usable_cores

log = logging.getLogger(__name__)

MAX_DISTINCT = 10_000_000
MAX_THREADS = 8

_T = TypeVar("_T")
_R = TypeVar("_R")


def count_threads() -> int:
    """Return the number of cores that this process may use, at most 8, as one reader cannot keep more busy."""
    return min(len(usable_cores()), MAX_THREADS)


def map_in_order(function: Callable[[_T], _R], items: Iterable[_T], threads: int) -> Iterator[_R]:
    """Map a function in a thread pool, with results in order and at most `threads + 2` items waiting.

    With one thread, the function runs in the caller's thread.
    """
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
    """Counts of words, merged from many batches in memory that `max_distinct` words bound.

    Attributes:
        pruned: words counted at most this often may have been dropped; 0 where none were.

    >>> counts = WordCounts()
    >>> counts.add(pa.array(["a", "b"]), np.array([2, 1]))
    >>> counts.add(pa.array(["b", "c"]), np.array([4, 0]))
    >>> counts.table().sort_by("word").to_pydict()
    {'word': ['a', 'b'], 'count': [2, 5]}
    """

    def __init__(self, max_distinct: int = MAX_DISTINCT) -> None:
        self.max_distinct = max_distinct
        self.pruned = 0
        self._merged = self._table(pa.array([], pa.string()), np.zeros(0, dtype=np.int64))
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0

    def add(self, words: pa.Array, counts: np.ndarray) -> None:
        """Add the counts of a batch: words, pa.StringArray [d], all different, and how often each occurs, int64 [d]."""
        seen = counts > 0
        if not seen.all():
            words, counts = words.filter(pa.array(seen)), counts[seen]
        self._waiting.append(self._table(words, counts))
        self._waiting_rows += len(words)
        # Merging takes time for all that is merged, so wait until enough has come.
        if self._waiting_rows > max(min(self.max_distinct, 1_000_000), self._merged.num_rows // 2):
            self._consolidate()

    def table(self) -> pa.Table:
        """Return the columns `word`, string, and `count`, int64: a row per word that occurs, in no particular order."""
        self._consolidate()
        return self._merged

    def _table(self, words: pa.Array, counts: np.ndarray) -> pa.Table:
        # large_string, as ten million words may take more than the 2 GB that a string array can hold.
        return pa.table({"word": words.cast(pa.large_string()), "count": pa.array(counts, pa.int64())})

    def _consolidate(self) -> None:
        if self._waiting:
            table = pa.concat_tables([self._merged, *self._waiting]).combine_chunks()
            words = pc.dictionary_encode(table["word"]).combine_chunks()
            # float64 sums are exact below 2**53, more than any count.
            sums = np.bincount(words.indices.to_numpy(), table["count"].to_numpy(), len(words.dictionary))
            self._merged = self._table(words.dictionary, sums.astype(np.int64))
            self._waiting, self._waiting_rows = [], 0
        if self._merged.num_rows > self.max_distinct:
            self._prune()

    def _prune(self) -> None:
        # Free at least a quarter: a table that is nearly full would be pruned at every batch.
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
