"""How a stored text is cut into blocks, and their order, which is a function of seed and epoch.

Blocks are cut on a grid of `block_tokens`: a block holds the segments that end in its cell. Their order is drawn for
each epoch. Since no buffer is shuffled, a position in an epoch is a few integers, a `Cursor`.

All ranks share one order of blocks: each step consumes the next `world` blocks, one on each rank, and a rank for which
no block is left gets an empty one. So a cursor has the same meaning for any number of ranks, and another number of
ranks can finish an epoch. A streamed text is shared out otherwise, see `streams.py`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch

from skiplight.corpus.store.token_store import TokenStore
from skiplight.corpus.tokens import Cursor, Permute, TokenSegments
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.draws_torch import draw_permutation


@dataclasses.dataclass
class LoadedBlock(TokenBlock):
    """A block as a loader delivers it, with the position after its step.

    Attributes:
        after: the position of training once all ranks have consumed the step.
    """

    after: Cursor = dataclasses.field(default_factory=Cursor)

    @classmethod
    def from_segments(cls, part: TokenSegments, **attributes: Any) -> Self:
        """Return a block with copies of the arrays of whole segments, and with the given other attributes."""
        # A block may outlive the memory map of its store, and torch needs writable memory.
        arrays = (part.ids, part.segments, part.document, part.start)
        ids, segments, document, start = (torch.from_numpy(np.array(array)) for array in arrays)
        return cls(ids, segments, document, start, **attributes)


class BlockSchedule:
    """The blocks of a stored text in the order of each epoch, distributed to ranks and their workers.

    Args:
        text: the text.
        block_tokens: tokens per cell of the grid, so about the tokens of a block.
        seed: seed of the order.
    """

    def __init__(self, text: TokenStore, block_tokens: int, seed: int) -> None:
        self.text, self.block_tokens, self.seed = text, block_tokens, seed
        self.length = text.count_blocks(block_tokens)

    def __len__(self) -> int:
        return self.length

    def count_steps(self, world: int) -> int:
        """Return the steps of an epoch."""
        return -(-self.length // world)

    def __call__(self, cursor: Cursor, rank: int, world: int, worker: int, workers: int) -> Iterator[LoadedBlock]:
        """Yield the blocks of one rank from the cursor on; a worker yields those of every `workers`-th step.

        Args:
            cursor: where to begin; all ranks and workers begin at the same position.
            rank, world: number of the rank, and of all ranks.
            worker, workers: number of the worker of this rank, and of all its workers.
        """
        blocks = self.text.read_blocks(self.block_tokens, draw_order(self.seed, cursor.epoch), cursor.index)
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
                    behind = Cursor(cursor.epoch, index + world, total)
                yield LoadedBlock.from_segments(
                    own, epoch=cursor.epoch, index=index + rank, tokens=tokens, after=behind
                )
            index += world

    read = __call__


def draw_order(seed: int, epoch: int) -> Permute:
    """Return a function from n to an order of the numbers 0 to n - 1, drawn by seed and epoch."""
    return lambda size: draw_permutation(size, (seed, epoch)).tolist()
