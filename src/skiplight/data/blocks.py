"""How a text is cut into blocks, and in which order they come: a function of seed and epoch.

Blocks are cut on a grid of `block_tokens`: a block holds the segments that end within its cell. Stored blocks come in
an order drawn anew each epoch; a stream is read shard by shard, its shards in such an order. Nothing is shuffled in a
buffer, so a place in an epoch is a few integers, a `Cursor`.

Several ranks take the blocks of that one order in turns: a step consumes the next `world` blocks, one on each rank, and
a rank for which none is left gets an empty one. So a cursor means the same to any number of ranks, and an epoch that
was begun by some can be ended by others. Of a stream, every rank reads all and keeps its own.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from skiplight.corpus.store.stream import SegmentBatch, TokenStream
from skiplight.corpus.store.token_store import TokenSplit
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.draws_torch import draw_permutation


@dataclasses.dataclass(frozen=True)
class Cursor:
    """A place in training: the next block is number `index` in the order of epoch `epoch`, counted over all ranks.

    A stream also knows where that block begins: after the segment (`document`, `start`), and `tokens` into the epoch.
    """

    epoch: int = 0
    index: int = 0
    tokens: int = 0
    document: int = -1
    start: int = -1


@dataclasses.dataclass
class LoadedBlock(TokenBlock):
    """A block as a loader delivers it, which knows the place behind its step.

    Attributes:
        after: where training goes on when all ranks have consumed the step.
    """

    after: Cursor = Cursor()


class StoredBlocks:
    """The blocks of a stored text."""

    def __init__(self, split: TokenSplit, block_tokens: int, seed: int) -> None:
        self.split, self.seed = split, seed
        # Blocks are runs of segments whose last tokens fall into the same cell of the grid.
        cell = (np.asarray(split.end) - 1) // block_tokens
        self.last = np.append(np.flatnonzero(np.diff(cell)), len(cell) - 1) if len(cell) else cell

    def __len__(self) -> int:
        return len(self.last)

    def __call__(self, cursor: Cursor, rank: int, world: int, worker: int, workers: int) -> Iterator[LoadedBlock]:
        order = draw_permutation(len(self), (self.seed, cursor.epoch)).numpy()
        for index in range(cursor.index + worker * world, len(order), workers * world):
            spans = [self._span(number) for number in order[index : index + world]]
            tokens = sum(end - begin for *_, begin, end in spans)
            first, stop, begin, end = spans[rank] if rank < len(spans) else (0, 0, 0, 0)
            yield _block(
                self.split.ids(begin, end),
                *(array[first:stop] for array in (self.split.document, self.split.start, self.split.end)),
                begin=begin, epoch=cursor.epoch, index=index + rank, tokens=tokens,
                after=_after(cursor.epoch, index + world, len(order)),
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

    def __call__(self, cursor: Cursor, rank: int, world: int, worker: int, workers: int) -> Iterator[LoadedBlock]:
        if workers > 1:
            raise RuntimeError("a stream is read by one worker of each rank")
        index, total = cursor.index, cursor.tokens
        blocks = self._blocks(cursor)
        while step := list(itertools.islice(blocks, world)):
            own = step[rank] if rank < len(step) else _NO_SEGMENTS
            tokens = sum(len(batch.ids) for batch in step)
            total += tokens
            last = int(step[-1].document[-1]), int(step[-1].start[-1])
            after = _after(cursor.epoch, index + world, self.length, total, *last)
            yield _block(
                *(own.ids, own.document, own.start, own.end),
                epoch=cursor.epoch, index=index + rank, tokens=tokens, after=after,
            )  # fmt: skip
            index += world

    def _blocks(self, cursor: Cursor) -> Iterator[SegmentBatch]:
        """The segments of each block from the cursor on."""
        order = draw_permutation(self.stream.shards, (self.seed, cursor.epoch)).tolist()
        after = None
        if cursor.document >= 0:
            after = (cursor.document, cursor.start)
            order = order[order.index(cursor.document >> 40) :]
        total = cursor.tokens
        pending = _NO_SEGMENTS
        for batch in self.stream.segments(order, after=after):
            pending = _concatenate(pending, batch)
            # All cells but the last are complete.
            cuts = np.flatnonzero(np.diff((total + pending.end - 1) // self.block_tokens)) + 1
            first = begin = 0
            for stop in cuts.tolist():
                yield _part(pending, first, stop)
                first, begin = stop, int(pending.end[stop - 1])
            pending, total = _part(pending, first, len(pending.end)), total + begin
        if len(pending.end):
            yield pending


_NO_SEGMENTS = SegmentBatch(np.empty(0, np.int32), *(np.empty(0, np.int64) for _ in range(3)))


def _after(epoch: int, index: int, length: int, *place: int) -> Cursor:
    """The cursor before block `index` of an epoch of so many blocks."""
    return Cursor(epoch, index, *place) if index < length else Cursor(epoch + 1)


def _concatenate(left: SegmentBatch, right: SegmentBatch) -> SegmentBatch:
    return SegmentBatch(
        ids=np.concatenate([left.ids, right.ids]),
        document=np.concatenate([left.document, right.document]),
        start=np.concatenate([left.start, right.start]),
        end=np.concatenate([left.end, len(left.ids) + right.end]),
    )


def _part(batch: SegmentBatch, first: int, stop: int) -> SegmentBatch:
    """Segments `first` up to `stop` of a batch."""
    begin = int(batch.end[first - 1]) if first > 0 else 0
    end = int(batch.end[stop - 1]) if stop > 0 else 0
    document, start = batch.document[first:stop], batch.start[first:stop]
    return SegmentBatch(batch.ids[begin:end], document, start, batch.end[first:stop] - begin)


def block_of(batch: SegmentBatch, epoch: int) -> TokenBlock:
    """The block of all segments of a batch."""
    return _block(batch.ids, batch.document, batch.start, batch.end, epoch=epoch)


def _block(
    ids: np.ndarray, document: np.ndarray, start: np.ndarray, end: np.ndarray, *, begin: int = 0, **place: Any
) -> LoadedBlock:
    # Copies: a block outlives the memory map of its store, and torch wants memory that it may write to.
    return LoadedBlock(
        ids=torch.from_numpy(np.array(ids)),
        segments=torch.from_numpy(np.concatenate([np.zeros(1, np.int64), end - begin])),
        document=torch.from_numpy(np.array(document)),
        start=torch.from_numpy(np.array(start)),
        **place,
    )
