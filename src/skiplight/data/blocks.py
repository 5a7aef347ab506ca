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

from skiplight.corpus.tokens import Permute, TokenSegments, TokenText
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.draws_torch import permutation


@dataclasses.dataclass(frozen=True)
class Cursor:
    """A place in training: the next block is number `index` in the order of epoch `epoch`, counted over all ranks.

    `tokens` tokens of the epoch come before it, the last of them in the segment (`document`, `start`): a stream is read
    on after that segment, while the blocks of a store are found by `index`.
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

    @classmethod
    def from_segments(cls, part: TokenSegments, **place: Any) -> LoadedBlock:
        """Copy segments into a block; `place` holds its other attributes."""
        # A block outlives the memory map of its store, and torch wants memory that it may write to.
        arrays = (part.ids, part.segments, part.document, part.start)
        ids, segments, document, start = (torch.from_numpy(np.array(array)) for array in arrays)
        return cls(ids, segments, document, start, **place)


class BlockSchedule:
    """The blocks of a text in the order of each epoch, shared out to ranks and workers.

    Args:
        text: the text.
        block_tokens: tokens per block.
        seed: of the order.
        tokens: tokens per epoch, which a stream need not know.
    """

    def __init__(self, text: TokenText, block_tokens: int, seed: int, tokens: int) -> None:
        self.text, self.block_tokens, self.seed = text, block_tokens, seed
        self.length = text.count_blocks(block_tokens, tokens)

    def __len__(self) -> int:
        return self.length

    def __call__(self, cursor: Cursor, rank: int, world: int, worker: int, workers: int) -> Iterator[LoadedBlock]:
        """Yield the blocks of rank `rank` of `world` from the cursor on, of which each of its workers reads some."""
        after = (cursor.document, cursor.start) if cursor.document >= 0 else None
        blocks = self.text.read_blocks(
            self.block_tokens,
            draw_order(self.seed, cursor.epoch),
            index=cursor.index,
            tokens=cursor.tokens,
            after=after,
        )
        index, total = cursor.index, cursor.tokens
        for number in itertools.count():
            step = list(itertools.islice(blocks, world))
            if not step:
                return
            tokens = sum(part.tokens for part in step)
            total += tokens
            if number % workers == worker:
                own = step[rank] if rank < len(step) else TokenSegments.empty()
                behind = Cursor(cursor.epoch + 1)
                if index + world < self.length:
                    last = int(step[-1].document[-1]), int(step[-1].start[-1])
                    behind = Cursor(cursor.epoch, index + world, total, *last)
                yield LoadedBlock.from_segments(
                    own, epoch=cursor.epoch, index=index + rank, tokens=tokens, after=behind
                )
            index += world


def draw_order(seed: int, epoch: int) -> Permute:
    """Return the function that orders n blocks or shards, as drawn by seed and epoch."""
    return lambda size: permutation(size, (seed, epoch)).tolist()
