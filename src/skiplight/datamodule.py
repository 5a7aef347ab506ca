"""`SkipGramDataModule`: blocks of a text's tokens, in an order that is a function, shared out by rank, resumable.

A text is a `TokenStore` or a `TokenStream`; its segments are cut into blocks on a grid of `block_tokens`: a block
holds the segments that end within its cell. Stored blocks come in an order drawn anew each epoch; a stream is read
shard by shard, its shards in such an order. Nothing is shuffled in a buffer, so the place in an epoch is a few
integers, and they are the data module's state: that of the last block *consumed*, never what a loader has fetched
ahead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import lightning
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from skiplight.corpus.segments import SEGMENT_TOKENS
from skiplight.corpus.store import TokenSplit, TokenStore
from skiplight.corpus.stream import SegmentBatch, TokenStream
from skiplight.errors import RunError
from skiplight.sampling.draws import EVALUATION_EPOCH
from skiplight.sampling.draws_torch import permutation
from skiplight.sampling.windows import Block, Windows, WindowSampler


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
                yield _block_of(pending, first, stop, cursor.epoch, index)
                first, begin, index = stop, int(pending.end[stop - 1]), index + 1
            rest = (pending.document[first:], pending.start[first:], pending.end[first:] - begin)
            pending, total = SegmentBatch(pending.ids[begin:], *rest), total + begin
        if len(pending.end):
            yield _block_of(pending, 0, len(pending.end), cursor.epoch, index)


def _concatenate(left: SegmentBatch, right: SegmentBatch) -> SegmentBatch:
    return SegmentBatch(
        ids=np.concatenate([left.ids, right.ids]),
        document=np.concatenate([left.document, right.document]),
        start=np.concatenate([left.start, right.start]),
        end=np.concatenate([left.end, len(left.ids) + right.end]),
    )


def _block_of(batch: SegmentBatch, first: int, stop: int, epoch: int, index: int) -> Block:
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


class _Epoch(IterableDataset):
    """What is left of the current epoch; its length is always the whole epoch's, as Lightning's resuming needs it."""

    def __init__(self, module: SkipGramDataModule) -> None:
        self.blocks, self.cursor, self.steps = module.blocks, module.cursor, module.steps
        self.rank, self.world = module.share

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Block]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        return self.blocks(self.cursor, self.rank, self.world, worker, workers)


class _Loader(DataLoader):
    """A loader that begins each epoch where the data module stands."""

    def __init__(self, module: SkipGramDataModule) -> None:
        super().__init__(_Epoch(module), batch_size=None, num_workers=module.workers)
        self.module = module

    def __iter__(self) -> Any:
        self.dataset.cursor = self.module.cursor  # type: ignore[attr-defined]
        return super().__iter__()


class SkipGramDataModule(lightning.LightningDataModule):
    """Blocks of a text, turned into windows on the device.

    Args:
        text: what `skiplight.corpus.prepare` made.
        sampler: makes the windows of a block.
        block_tokens: how many tokens a step consumes, on each rank.
        tokens: how many tokens an epoch has, where `text` does not know.
        workers: processes that read blocks ahead; the blocks and their order do not depend on it.
        takes_blocks: whether the engine takes blocks and draws the windows itself.
    """

    def __init__(
        self,
        text: TokenStore | TokenStream,
        sampler: WindowSampler,
        *,
        block_tokens: int,
        tokens: int | None = None,
        workers: int = 0,
        takes_blocks: bool = False,
    ) -> None:
        super().__init__()
        self.text, self.sampler, self.block_tokens = text, sampler, block_tokens
        self.workers, self.takes_blocks = workers, takes_blocks
        self.cursor = Cursor()
        self.blocks: StoredBlocks | StreamedBlocks
        if isinstance(text, TokenStore):
            self.tokens = text.train.tokens
            self.blocks = StoredBlocks(text.train, block_tokens, sampler.seed)
        else:
            known = text.tokens if tokens is None else tokens
            if known is None:
                raise ValueError("a stream of unknown size needs `tokens`")
            self.tokens = known
            self.blocks = StreamedBlocks(text, block_tokens, sampler.seed, -(-known // block_tokens))

    @property
    def share(self) -> tuple[int, int]:
        """This process's rank, and how many ranks share the blocks."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    @property
    def steps(self) -> int:
        """Steps of an epoch, the same on every rank."""
        return -(-len(self.blocks) // self.share[1])

    def train_dataloader(self) -> DataLoader:
        return _Loader(self)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch if self.takes_blocks or not isinstance(batch, Block) else self.windows(batch)

    def heldout_blocks(self) -> Iterator[Block]:
        """The held-out text, in an order drawn once and for all where it is stored, in small blocks."""
        if isinstance(self.text, TokenStore):
            split = self.text.heldout
            yield from StoredBlocks(split, SEGMENT_TOKENS, 0)(Cursor(EVALUATION_EPOCH), 0, 1, 0, 1)
        else:
            for batch in self.text.heldout_segments():
                if len(batch.end):
                    yield _block_of(batch, 0, len(batch.end), EVALUATION_EPOCH, 0)

    def windows(self, block: Block) -> Windows:
        """The windows of a block with their negatives, on the block's device."""
        return self.sampler(block)

    def consumed(self, block: Block) -> None:
        """Moves the cursor behind a block that has been trained on."""
        if block.index + 1 >= self.steps:
            self.cursor = Cursor(block.epoch + 1)
        elif isinstance(self.blocks, StoredBlocks):
            self.cursor = Cursor(block.epoch, block.index + 1)
        else:
            last = int(block.document[-1]), int(block.start[-1])
            self.cursor = Cursor(block.epoch, block.index + 1, self.cursor.tokens + len(block.ids), *last)

    def end_epoch(self) -> None:
        """Moves the cursor to the next epoch, where a stream had fewer blocks than announced."""
        if self.cursor.index > 0:
            self.cursor = Cursor(self.cursor.epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        return {
            "version": 1,
            "text": self.text.fingerprint,
            "block_tokens": self.block_tokens,
            "cursor": dataclasses.astuple(self.cursor),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where a checkpoint was made.

        Raises:
            RunError: the checkpoint is of another text or another size of block.
        """
        if state["version"] > 1:
            raise RunError("the checkpoint's data state is of a newer version: upgrade skiplight")
        if state["text"] != self.text.fingerprint:
            raise RunError(
                "the text is not the one that the run began with: its content, vocabulary or options changed"
            )
        if state["block_tokens"] != self.block_tokens:
            raise RunError(
                f"the run began with data.block_tokens={state['block_tokens']}, not {self.block_tokens}: keep it"
            )
        self.cursor = Cursor(*state["cursor"])
