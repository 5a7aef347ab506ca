"""How a text is cut into blocks, and in which order they come: a function of seed and epoch.

Blocks are cut on a grid of `block_tokens`: a block holds the segments that end within its cell. Stored blocks come in
an order drawn anew each epoch; a stream is read shard by shard, its shards in such an order. Nothing is shuffled in a
buffer, so a place in an epoch is a few integers, a `Cursor`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch

from skiplight.corpus.store import TokenSplit
from skiplight.corpus.stream import SegmentBatch, TokenStream
from skiplight.sampling.batches import Block
from skiplight.sampling.draws_torch import permutation


@dataclasses.dataclass(frozen=True)
class Cursor:
    """A place in training: the next block is number `index` of epoch `epoch`.

    A stream also knows where that block begins: after the segment (`document`, `start`), and `tokens` into the epoch.
    """

    epoch: int = 0
    index: int = 0
    tokens: int = 0
    document: int = -1
    start: int = -1


class StoredBlocks:
    """The blocks of a stored text."""

    def __init__(self, split: TokenSplit, block_tokens: int, seed: int) -> None:
        self.split, self.seed = split, seed
        # Blocks are runs of segments whose last tokens fall into the same cell of the grid.
        cell = (np.asarray(split.end) - 1) // block_tokens
        self.last = np.append(np.flatnonzero(np.diff(cell)), len(cell) - 1) if len(cell) else cell

    def __len__(self) -> int:
        return len(self.last)

    def __call__(self, cursor: Cursor, rank: int, world: int, worker: int, workers: int) -> Iterator[Block]:
        order = permutation(len(self), (self.seed, cursor.epoch)).numpy()
        steps = -(-len(order) // world)
        for step in range(cursor.index + worker, steps, workers):
            numbers = order[step * world : (step + 1) * world]
            blocks = [self._span(number) for number in numbers]
            tokens = sum(stop - begin for _, _, begin, stop in blocks)
            first, stop, begin, end = blocks[rank] if rank < len(blocks) else (0, 0, 0, 0)
            yield _block(
                self.split.ids(begin, end),
                *(array[first:stop] for array in (self.split.document, self.split.start, self.split.end)),
                begin=begin, epoch=cursor.epoch, index=step, tokens=tokens,
            )  # fmt: skip

    def _span(self, number: int) -> tuple[int, int, int, int]:
        """First and last + 1 segment of a block, first and last + 1 token."""
        end = self.split.end
        first = int(self.last[number - 1]) + 1 if number > 0 else 0
        stop = int(self.last[number]) + 1
        return first, stop, int(end[first - 1]) if first > 0 else 0, int(end[stop - 1])


class StreamedBlocks:
    """The blocks of a streamed text: the same grid, over its tokens in the order in which they come."""

    def __init__(self, stream: TokenStream, block_tokens: int, seed: int, length: int) -> None:
        self.stream, self.block_tokens, self.seed, self.length = stream, block_tokens, seed, length

    def __len__(self) -> int:
        return self.length

    def __call__(self, cursor: Cursor, rank: int, world: int, worker: int, workers: int) -> Iterator[Block]:
        if world > 1 or workers > 1:
            raise RuntimeError("a stream is read by one process")
        order = permutation(self.stream.shards, (self.seed, cursor.epoch)).tolist()
        after = None
        if cursor.document >= 0:
            after = (cursor.document, cursor.start)
            order = order[order.index(cursor.document >> 40) :]
        index, total = cursor.index, cursor.tokens
        none = np.empty(0, np.int64)
        pending = SegmentBatch(none.astype(np.int32), none, none, none)
        for batch in self.stream.segments(order, after=after):
            pending = _concatenate(pending, batch)
            # All cells but the last are complete.
            cuts = np.flatnonzero(np.diff((total + pending.end - 1) // self.block_tokens)) + 1
            first = begin = 0
            for stop in cuts.tolist():
                yield block_of(pending, first, stop, cursor.epoch, index)
                first, begin, index = stop, int(pending.end[stop - 1]), index + 1
            rest = (pending.document[first:], pending.start[first:], pending.end[first:] - begin)
            pending, total = SegmentBatch(pending.ids[begin:], *rest), total + begin
        if len(pending.end):
            yield block_of(pending, 0, len(pending.end), cursor.epoch, index)


def _concatenate(left: SegmentBatch, right: SegmentBatch) -> SegmentBatch:
    return SegmentBatch(
        ids=np.concatenate([left.ids, right.ids]),
        document=np.concatenate([left.document, right.document]),
        start=np.concatenate([left.start, right.start]),
        end=np.concatenate([left.end, len(left.ids) + right.end]),
    )


def block_of(batch: SegmentBatch, first: int, stop: int, epoch: int, index: int) -> Block:
    """The block of segments `first` up to `stop` of a batch."""
    begin = int(batch.end[first - 1]) if first > 0 else 0
    arrays = (array[first:stop] for array in (batch.document, batch.start, batch.end))
    return _block(batch.ids[begin : int(batch.end[stop - 1])], *arrays, begin=begin, epoch=epoch, index=index)


def _block(
    ids: np.ndarray, document: np.ndarray, start: np.ndarray, end: np.ndarray, *, begin: int, **place: int
) -> Block:
    # Copies: a block outlives the memory map of its store, and torch wants memory that it may write to.
    return Block(
        ids=torch.from_numpy(np.array(ids)),
        segments=torch.from_numpy(np.concatenate([np.zeros(1, np.int64), end - begin])),
        document=torch.from_numpy(np.array(document)),
        start=torch.from_numpy(np.array(start)),
        **place,
    )
