"""`SkipGramDataModule`: the blocks of a text, shared out by rank, turned into windows on the device, resumable.

Its state is that of the last block *consumed*, never what a loader has fetched ahead.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from skiplight.corpus.tokens import TokenText
from skiplight.data.blocks import BlockSchedule, Cursor, LoadedBlock, draw_order
from skiplight.data.prefetch import prefetch_blocks
from skiplight.errors import DataError, RunError
from skiplight.sampling.batches import TokenBlock, Windows
from skiplight.sampling.draws import EVALUATION_EPOCH
from skiplight.sampling.windows import WindowSampler

log = logging.getLogger(__name__)


class _Epoch(IterableDataset):
    """What is left of the current epoch; its length is always the whole epoch's, as Lightning's resuming needs it."""

    def __init__(self, module: SkipGramDataModule) -> None:
        self.blocks, self.cursor, self.steps = module.blocks, module.cursor, module.steps
        self.rank, self.world = module.share

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[TokenBlock]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        return self.blocks(self.cursor, self.rank, self.world, worker, workers)


class _Loader(DataLoader):
    """A loader that begins each epoch where the data module stands."""

    def __init__(self, module: SkipGramDataModule) -> None:
        super().__init__(_Epoch(module), batch_size=None, num_workers=module.workers, worker_init_fn=module.init_worker)
        self.module = module

    def __iter__(self) -> Any:
        self.dataset.cursor = self.module.cursor  # type: ignore[attr-defined]
        blocks, trainer = super().__iter__(), self.module.trainer
        device = trainer.strategy.root_device if trainer is not None else torch.device("cpu")
        return prefetch_blocks(blocks, device) if device.type == "cuda" else blocks


class SkipGramDataModule(lightning.LightningDataModule):
    """Blocks of a text, turned into windows on the device.

    Args:
        text: what `skiplight.corpus.prepare` made.
        sampler: makes the windows of a block.
        block_tokens: how many tokens a step consumes, on each rank.
        tokens: how many tokens the run consumes, where `text` does not know how many an epoch has.
        workers: processes that read blocks ahead; the blocks and their order do not depend on it.
        takes_blocks: whether the engine takes blocks and draws the windows itself.
        init_worker: called in each of the `workers` with its number, before it reads.
    """

    def __init__(
        self,
        text: TokenText,
        sampler: WindowSampler,
        *,
        block_tokens: int,
        tokens: int | None = None,
        workers: int = 0,
        takes_blocks: bool = False,
        init_worker: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__()
        self.text, self.sampler, self.block_tokens = text, sampler, block_tokens
        self.workers, self.takes_blocks, self.init_worker = workers, takes_blocks, init_worker
        self.cursor = Cursor()
        # Where the text does not know, the run is its length: passes over it end where the stream ends.
        known = tokens if text.tokens is None else text.tokens
        if known is None:
            raise ValueError("a stream of unknown size needs `tokens`")
        self.tokens = known
        self.blocks = BlockSchedule(text, block_tokens, sampler.seed, known)

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
        return batch if self.takes_blocks or not isinstance(batch, TokenBlock) else self.windows(batch)

    def heldout_blocks(self) -> Iterator[TokenBlock]:
        """The held-out text in small blocks: in an order drawn once and for all where it is stored, else as it comes.

        Who takes only some of it therefore gets other pairs from a stream than from the store of the same text: a
        stream would have to be read to its end for a fair share of them.
        """
        for index, part in enumerate(self.text.read_heldout(draw_order(0, EVALUATION_EPOCH))):
            yield LoadedBlock.from_segments(part, epoch=EVALUATION_EPOCH, index=index)

    def verify(self) -> None:
        """Compares all of a stored text with its checksums.

        Raises:
            DataError: naming the file that is damaged.
        """
        self.text.verify()

    def windows(self, block: TokenBlock) -> Windows:
        """The windows of a block with their negatives, on the block's device."""
        return self.sampler(block)

    def consumed(self, block: LoadedBlock) -> None:
        """Moves the cursor behind the step of a block that has been trained on."""
        self.cursor = block.after

    def end_epoch(self) -> None:
        """Moves the cursor to the next epoch, where a stream came to its end before the announced number of blocks.

        Raises:
            DataError: the stream has not one block.
        """
        if self.cursor.index > 0:
            log.info("the stream ended after %s tokens: it begins anew", f"{self.cursor.tokens:,}")
            self.cursor = Cursor(self.cursor.epoch + 1)
        elif self.cursor.epoch == 0:
            raise DataError("the stream has no words of the vocabulary: give `vocabulary.path` one that fits the text")

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
