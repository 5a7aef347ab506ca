"""`StreamSchedule`: the blocks of a streamed text, of which each rank and worker reads its part.

Each step consumes one block on every rank, of any lanes; a rank that has read its lanes gets empty blocks until all
have. The ranks exchange a few integers per step: how many tokens the step has, where its blocks end in their lanes, and
whether any rank has another one. So every rank knows the positions of all lanes, which is what a checkpoint holds.

Segments of a unit are put in an order drawn by their positions. That mixes the documents of about 4 MB of text, or a
row group; the order of the units themselves is drawn over all of the text. So documents that are neighbours in a file
are often in one block, while the blocks of an epoch come from all over the text.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from skiplight.corpus.store.stream import TokenStream
from skiplight.corpus.tokens import Cursor, LanePosition, TokenSegments, find_block_bounds
from skiplight.data.blocks import LoadedBlock, draw_order
from skiplight.data.lanes import LanePlan, LaneProgress
from skiplight.errors import DataError
from skiplight.sampling.draws import Purpose, mix64
from skiplight.sampling.draws_torch import draw_bits

log = logging.getLogger(__name__)

MIXED_TOKENS = 1 << 20
"""Tokens of a unit whose segments are mixed; usually all of them."""

Gather = Callable[[list[int]], np.ndarray]
"""From the integers of this rank to those of all ranks, int64 [ranks, n]."""


class BlockEnd(NamedTuple):
    """Where a block of a stream ends.

    Attributes:
        consumer: the number of the rank's worker that read it, over all ranks; -1 for a block that nobody read.
        more: whether that worker has another block.
        lane: the lane, -1 where the block is empty.
        unit, segments, tokens: the position in the lane, see `LanePosition`.
    """

    consumer: int = -1
    more: bool = False
    lane: int = -1
    unit: int = 0
    segments: int = 0
    tokens: int = 0


@dataclasses.dataclass
class StreamedBlock(LoadedBlock):
    """A block of a stream, and where it ends."""

    end: BlockEnd = dataclasses.field(default_factory=BlockEnd)


class StreamSchedule:
    """The blocks of a stream, distributed to ranks and their workers; see `BlockSchedule`."""

    def __init__(self, text: TokenStream, block_tokens: int, seed: int, tokens: int) -> None:
        self.text, self.block_tokens, self.seed, self.tokens = text, block_tokens, seed, tokens
        self._plan: tuple[int, LanePlan] | None = None

    def __len__(self) -> int:
        return -(-self.tokens // self.block_tokens)

    def count_steps(self, world: int) -> int:
        """Return at least as many steps as an epoch has, as well as can be known before it is read."""
        lanes = len(self.plan(0).units)
        return -(-len(self) * 11 // (10 * world)) + -(-lanes // world) + 1

    def log_shares(self, consumers: int) -> None:
        """Log where ranks and workers get no part of the text, or very different ones."""
        lanes = len(self.plan(0).units)
        if lanes < consumers:
            log.warning(
                "%d ranks times workers share this stream, and it has %d units that can be read on their own: the"
                " others gain nothing. A document is never cut, nor a compressed file or a row group of Parquet: store"
                " the text (`data.streaming=false`), or give it as lines (`data.document=line`) or more files",
                consumers,
                lanes,
            )

    def plan(self, epoch: int) -> LanePlan:
        """Return the lanes of an epoch."""
        if self._plan is None or self._plan[0] != epoch:
            sizes = self.text.units.sizes
            self._plan = epoch, LanePlan(sizes, draw_order(self.seed, epoch)(len(sizes)))
        return self._plan[1]

    def __call__(self, cursor: Cursor, rank: int, world: int, worker: int, workers: int) -> Iterator[LoadedBlock]:
        """Yield the blocks of one process that reads all of the stream, from the cursor on.

        Raises:
            ValueError: there are several ranks or workers, which have to agree on each step.
        """
        if (rank, world, worker, workers) != (0, 1, 0, 1):
            raise ValueError("blocks of several ranks or workers come by `read` and `agree`")
        return self.agree(self.read(cursor, 0, 1, 0, 1), cursor, 0, 1, 1, alone)

    def read(self, cursor: Cursor, rank: int, world: int, worker: int, workers: int) -> Iterator[StreamedBlock]:
        """Yield the blocks that one worker reads from the cursor on; the last one may be empty.

        The position after a step is not known here; `agree` adds it.
        """
        plan, consumers = self.plan(cursor.epoch), world * workers
        positions = plan.positions(cursor, consumers)
        # The worker whose turn it is comes first.
        consumer = rank * workers + (worker + _turns(cursor, world, workers)[rank]) % workers
        lanes = LaneProgress(plan, positions).lanes_of(consumer)
        if not lanes:
            return
        blocks = _cut_lanes(self._units(plan, lanes, positions, cursor.epoch), positions, self.block_tokens)
        for part, end in blocks:
            yield StreamedBlock.from_segments(part, epoch=cursor.epoch, end=end._replace(consumer=consumer))

    def agree(
        self, own: Iterator[LoadedBlock], cursor: Cursor, rank: int, world: int, workers: int, gather: Gather
    ) -> Iterator[LoadedBlock]:
        """Yield a block of this rank per step of all ranks, with the position after the step.

        Args:
            own: the blocks of the rank's workers, from the cursor on.
            cursor: where they begin, the same on all ranks.
            rank, world: number of the rank, and of all ranks.
            workers: workers of each rank.
            gather: exchanges integers with the other ranks.

        Raises:
            DataError: the stream has no block at all.
        """
        plan = self.plan(cursor.epoch)
        positions = plan.positions(cursor, world * workers)
        progress = LaneProgress(plan, positions)
        turns = _turns(cursor, world, workers)
        reading = {c for c in range(rank * workers, (rank + 1) * workers) if progress.lanes_of(c)}
        index, tokens, left = cursor.index, cursor.tokens, True
        while left:
            block = next(own) if reading else StreamedBlock.from_segments(TokenSegments.empty(), epoch=cursor.epoch)
            assert isinstance(block, StreamedBlock)
            if not block.end.more:
                reading.discard(block.end.consumer)
            told = gather([len(reading), block.tokens, *map(int, block.end)]).tolist()
            for number, (_, _, consumer, more, *end) in enumerate(told):
                if consumer >= 0:
                    progress.advance(consumer, bool(more), *end)
                    turns[number] = (consumer % workers + 1) % workers
            step = sum(row[1] for row in told)
            tokens += step
            left = any(row[0] for row in told)
            if not left and not tokens:
                raise DataError(
                    "the stream has no words of the vocabulary: give `vocabulary.path` one that fits the text"
                )
            after = Cursor(cursor.epoch + 1)
            if left:
                lanes = tuple(progress.positions)
                after = Cursor(cursor.epoch, index + world, tokens, world * workers, lanes, tuple(turns))
            yield dataclasses.replace(block, index=index + rank, tokens=step, after=after)
            index += world

    def _units(
        self, plan: LanePlan, lanes: list[int], positions: tuple[LanePosition, ...], epoch: int
    ) -> Iterator[tuple[int, int, TokenSegments]]:
        """Yield (lane, number of the unit in it, segments not yet consumed), in the order of the epoch."""
        places = [(lane, n) for lane in lanes for n in range(positions[lane].unit, len(plan.units[lane]))]
        units = [plan.units[lane][n] for lane, n in places]
        place_of = dict(zip(units, places, strict=True))
        for unit, part in _mixed(self._parts(units), (self.seed, epoch)):
            lane, number = place_of[unit]
            yield lane, number, part

    def _parts(self, units: list[int]) -> Iterator[tuple[int, TokenSegments]]:
        """Yield (unit, whole segments) as the text is read; a unit may come in several parts."""
        keys = self.text.units.table[:, 4]
        for part in self.text.segments(units):
            found = np.searchsorted(keys, part.document, side="right") - 1
            bounds = [0, *(np.flatnonzero(np.diff(found)) + 1).tolist(), len(part)]
            for begin, end in itertools.pairwise(bounds):
                yield int(found[begin]), part if end - begin == len(part) else part.select(begin, end)


def alone(own: list[int]) -> np.ndarray:
    """Return the integers of a single rank, int64 [1, n]."""
    return np.array([own])


def _turns(cursor: Cursor, world: int, workers: int) -> list[int]:
    """Return which worker of each rank is next, [world]."""
    kept = cursor.consumers == world * workers and len(cursor.turns) == world
    return list(cursor.turns) if kept else [0] * world


def _mixed(parts: Iterator[tuple[int, TokenSegments]], key: tuple[int, int]) -> Iterator[tuple[int, TokenSegments]]:
    """Yield (unit, segments in an order drawn by their positions): those that end in a cell of `MIXED_TOKENS`."""
    for unit, group in itertools.groupby(parts, key=lambda item: item[0]):
        waiting: list[TokenSegments] = []
        before = 0  # tokens of the unit before those that wait
        for _, part in group:
            waiting.append(part)
            if sum(piece.tokens for piece in waiting) + before % MIXED_TOKENS < MIXED_TOKENS:
                continue
            found = TokenSegments.joined(waiting)
            *bounds, stop = find_block_bounds(before + found.segments[1:], MIXED_TOKENS).tolist()
            for begin, end in itertools.pairwise(bounds):
                yield unit, _shuffled(found.select(begin, end), key)
            before += int(found.segments[bounds[-1]])
            waiting = [found.select(bounds[-1], stop)]
        yield unit, _shuffled(TokenSegments.joined(waiting), key)


def _shuffled(part: TokenSegments, key: tuple[int, int]) -> TokenSegments:
    if len(part) < 2:
        return part
    place = torch.from_numpy(mix64(part.document).view(np.int64) + part.start)
    bits = draw_bits(key, place, Purpose.ORDER)
    return part.take(torch.argsort((bits[0] << 31) | (bits[1] >> 1), stable=True).numpy())


def _cut_lanes(
    parts: Iterator[tuple[int, int, TokenSegments]], positions: tuple[LanePosition, ...], block_tokens: int
) -> Iterator[tuple[TokenSegments, BlockEnd]]:
    """Yield the blocks of some lanes, in order, and where each ends; at least one, the last with `more=False`."""
    last: tuple[TokenSegments, BlockEnd] | None = None
    for lane, group in itertools.groupby(parts, key=lambda item: item[0]):
        for part, end in _cut_lane(lane, group, positions[lane], block_tokens):
            if last is not None:
                yield last[0], last[1]._replace(more=True)
            last = None if end.more else (part, end)
            if last is None:
                yield part, end
    yield last or (TokenSegments.empty(), BlockEnd())


def _cut_lane(
    lane: int, parts: Iterator[tuple[int, int, TokenSegments]], begin: LanePosition, block_tokens: int
) -> Iterator[tuple[TokenSegments, BlockEnd]]:
    """Yield the blocks of a lane: those segments that end in a cell of `block_tokens` of the lane's tokens.

    All but the last have `more=True`.
    """
    tokens, skip = begin.tokens, begin.segments
    pieces: list[TokenSegments] = []
    ends: list[np.ndarray] = []  # per segment: the unit's number in the lane, and its segments up to this one
    unit, count, waiting = -1, 0, 0
    for _, number, part in parts:
        if number != unit:
            unit, count = number, 0
        first = min(max(skip - count, 0), len(part)) if number == begin.unit else 0
        counts = np.arange(count + first, count + len(part)) + 1
        count += len(part)
        part = part.select(first, len(part)) if first else part
        if not len(part):
            continue
        pieces.append(part)
        ends.append(np.stack([np.full(len(part), number), counts], 1))
        waiting += part.tokens
        if tokens % block_tokens + waiting <= block_tokens:
            continue
        found, end = TokenSegments.joined(pieces), np.concatenate(ends)
        *bounds, stop = find_block_bounds(tokens + found.segments[1:], block_tokens).tolist()
        for first, last in itertools.pairwise(bounds):
            place, done = end[last - 1].tolist()
            after = tokens + int(found.segments[last])
            yield found.select(first, last), BlockEnd(-1, True, lane, place, done, after)
        tokens += int(found.segments[bounds[-1]])
        pieces, ends = [found.select(bounds[-1], stop)], [end[bounds[-1] :]]
        waiting = pieces[0].tokens
    if waiting:
        found, end = TokenSegments.joined(pieces), np.concatenate(ends)
        place, done = end[-1].tolist()
        yield found, BlockEnd(-1, False, lane, place, done, tokens + found.tokens)
