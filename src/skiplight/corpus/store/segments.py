"""Runs and segments: which text is held out, and where windows may not cross.

A *run* is at most 10,000 consecutive words of the raw text of one document, so usually a whole document; it
is the unit that is held out for evaluation. Whether it is, is a function of its document and number alone:
neither a seed nor what else is in the text matters, so that all seeds of a study are judged on the same text.

A *segment* is at most 1,000 consecutive in-vocabulary tokens of a run. Windows never cross segments, so a
segment can be trained on alone, and a block of tokens is a whole number of them.

Both are cut while documents go by in batches that break them anywhere: `RunCutter` and `SegmentCutter` carry
the little they must know of the document that is still open.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skiplight.corpus.tokens import TokenSegments

RUN_TOKENS = 10_000
SEGMENT_TOKENS = 1_000

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_PURPOSE = np.uint64(0x68656C646F757401)  # "heldout", then the draw's version


@dataclass
class HeldoutChunks:
    """Runs, or the parts of runs that lie in one batch, in the order of the text.

    Attributes:
        document: int64 [r]; run: number of the run in its document, int64 [r]; raw: raw words of it here,
            int64 [r].
    """

    document: np.ndarray
    run: np.ndarray
    raw: np.ndarray


def draw_heldout(document: np.ndarray, run: np.ndarray, fraction: float) -> np.ndarray:
    """Whether each run is held out, bool [r]: SplitMix64's finaliser of (document, run) against the fraction.

    >>> int(draw_heldout(np.arange(100_000), np.zeros(100_000, int), 0.01).sum())
    1006
    """
    key = _finalise(document.astype(np.uint64) ^ _PURPOSE)
    draw = _finalise(key + run.astype(np.uint64) * _GOLDEN)
    return draw < np.uint64(round(fraction * 2**64))


def _finalise(x: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        x = x + _GOLDEN
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


class RunCutter:
    """Cuts documents, given piece by piece, into runs."""

    def __init__(self) -> None:
        self._document = -1
        self._raw = 0
        self.documents = 0

    def cut(self, keys: np.ndarray, lengths: np.ndarray) -> HeldoutChunks:
        """The runs of a batch of pieces; `keys` int64 [n] and raw words in each, int64 [n]."""
        if not len(keys):
            return HeldoutChunks(*(np.zeros(0, dtype=np.int64) for _ in range(3)))
        document, total = _join_pieces(keys, lengths)
        before = np.zeros_like(total)
        if document[0] == self._document:
            before[0] = self._raw
        self.documents += len(document) - int(document[0] == self._document)
        self._document, self._raw = int(document[-1]), int(before[-1] + total[-1])

        first = before // RUN_TOKENS
        count = np.where(total > 0, (before + total - 1) // RUN_TOKENS - first + 1, 0)
        index = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        run = np.repeat(first, count) + index
        begin = np.maximum(run * RUN_TOKENS, np.repeat(before, count))
        end = np.minimum((run + 1) * RUN_TOKENS, np.repeat(before + total, count))
        return HeldoutChunks(np.repeat(document, count), run, end - begin)


class SegmentCutter:
    """Cuts runs, given part by part, into segments of the training and of the held-out text."""

    def __init__(self) -> None:
        self._document = -1
        self._run = -1
        self._offset = 0  # in-vocabulary tokens of the open document so far
        self._in_run = 0  # those of the open run

    def cut(
        self, runs: HeldoutChunks, tokens: np.ndarray, held: np.ndarray, ids: np.ndarray
    ) -> tuple[TokenSegments, TokenSegments]:
        """Return the next part of the training and of the held-out text, cut anywhere.

        Args:
            runs: [r], from `RunCutter.cut`.
            tokens: int64 [r], in-vocabulary tokens of each.
            held: bool [r], whether each is held out.
            ids: int32 [sum of `tokens`], the tokens of all runs.
        """
        if not len(tokens):
            return TokenSegments.empty(), TokenSegments.empty()
        same_document = runs.document[0] == self._document
        # Offset in the document: sums since the document's first run here, plus what was before this batch.
        sums = np.cumsum(tokens) - tokens
        first = np.concatenate(([True], runs.document[1:] != runs.document[:-1]))
        number = np.cumsum(first) - 1
        offset = sums - sums[first][number]
        if same_document:
            offset[number == 0] += self._offset
        # Only the first entry can go on with a run of an earlier batch: within a batch a run is one entry.
        in_run = np.zeros_like(tokens)
        if same_document and runs.run[0] == self._run:
            in_run[0] = self._in_run
        self._document, self._run = int(runs.document[-1]), int(runs.run[-1])
        self._offset, self._in_run = int(offset[-1] + tokens[-1]), int(in_run[-1] + tokens[-1])

        train, heldout = (_cut(runs.document, offset, in_run, tokens, ids, chosen) for chosen in (~held, held))
        return train, heldout


def _cut(
    document: np.ndarray,
    offset: np.ndarray,
    in_run: np.ndarray,
    tokens: np.ndarray,
    ids: np.ndarray,
    chosen: np.ndarray,
) -> TokenSegments:
    if not chosen.all():
        ids = ids[np.repeat(chosen, tokens)]
        document, offset, in_run, tokens = document[chosen], offset[chosen], in_run[chosen], tokens[chosen]
    position = np.cumsum(tokens) - tokens
    # Segments begin at the multiples of SEGMENT_TOKENS in [in_run, in_run + tokens).
    first = -(-in_run // SEGMENT_TOKENS)
    count = -(-(in_run + tokens) // SEGMENT_TOKENS) - first
    index = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    ahead = (np.repeat(first, count) + index) * SEGMENT_TOKENS - np.repeat(in_run, count)
    segments = np.append(np.repeat(position, count) + ahead, len(ids))
    return TokenSegments(ids, segments, np.repeat(document, count), np.repeat(offset, count) + ahead)


def _join_pieces(keys: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    return keys[first], np.add.reduceat(lengths, first)
