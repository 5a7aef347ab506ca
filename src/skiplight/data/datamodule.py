"""`SkipGramDataModule`: loads the blocks of a text for each rank, and makes their windows on the device.

Its state is the position after the last block *consumed*, whatever a loader has fetched ahead.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from typing import Any, Self

import lightning
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from skiplight.config.schema import Config
from skiplight.corpus.store.stream import TokenStream
from skiplight.corpus.store.token_store import TokenStore
from skiplight.corpus.tokens import Cursor, LanePosition, TokenSegments, TokenText
from skiplight.data.blocks import BlockSchedule, LoadedBlock, draw_order
from skiplight.data.from_config import STEPS, choose_engine, is_plain, make_sampler, prepare_text, total_tokens
from skiplight.data.heldout import HeldoutPairs, heldout_pairs
from skiplight.data.prefetch import prefetch_blocks
from skiplight.data.streams import Gather, StreamSchedule, alone
from skiplight.engines.base import Engine
from skiplight.errors import EvaluationError, RunError
from skiplight.registry import OBJECTIVES
from skiplight.sampling.batches import TokenBlock, Windows
from skiplight.sampling.draws import EVALUATION_EPOCH
from skiplight.sampling.windows import WindowSampler

log = logging.getLogger(__name__)

STATE = 2
"""Version of the state of a data module."""


class _Epoch(IterableDataset):
    """The rest of the current epoch; its length is that of the whole epoch, as Lightning needs it to resume."""

    def __init__(self, module: SkipGramDataModule) -> None:
        self.blocks, self.cursor, self.steps = module.blocks, module.cursor, module.steps
        self.rank, self.world = module.share

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[LoadedBlock]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        return self.blocks.read(self.cursor, self.rank, self.world, worker, workers)


class _One(Dataset):
    """A data set of one batch."""

    def __init__(self, batch: HeldoutPairs) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> HeldoutPairs:
        return self.batch


class _Loader(DataLoader):
    """A loader that begins each epoch at the cursor of the data module."""

    def __init__(self, module: SkipGramDataModule) -> None:
        super().__init__(_Epoch(module), batch_size=None, num_workers=module.workers, worker_init_fn=module.init_worker)
        self.module = module

    def __iter__(self) -> Any:
        self.dataset.cursor = self.module.cursor  # type: ignore[attr-defined]
        blocks: Iterator[Any] = super().__iter__()
        trainer = self.module.trainer
        device = trainer.strategy.root_device if trainer is not None else torch.device("cpu")
        if device.type == "cuda":
            blocks = prefetch_blocks(blocks, device)
        return self._agreed(blocks) if isinstance(self.module.blocks, StreamSchedule) else blocks

    def _agreed(self, blocks: Iterator[LoadedBlock]) -> Iterator[LoadedBlock]:
        """Yield the blocks of a stream as all ranks agree on each step."""
        (rank, world), trainer = self.module.share, self.module.trainer
        cursor, schedule, gather = self.module.cursor, self.module.blocks, _gather(trainer) if world > 1 else alone
        assert isinstance(schedule, StreamSchedule)
        device = trainer.strategy.root_device if trainer is not None else torch.device("cpu")
        for block in schedule.agree(blocks, cursor, rank, world, max(self.module.workers, 1), gather):
            last = block.after
            yield block if block.ids.device.type == device.type else block.to(device)
        while trainer is not None and trainer.enable_validation:
            # Lightning validates at the announced end of the epoch, which is never earlier than the stream's.
            yield LoadedBlock.from_segments(TokenSegments.empty(), epoch=cursor.epoch, after=last).to(device)


def _gather(trainer: Any) -> Gather:
    """Return a function that exchanges the integers of all ranks of a trainer."""
    if hasattr(trainer.strategy, "gather_counts"):  # a strategy of skiplight, which does not wait for a GPU
        return lambda own: trainer.strategy.gather_counts(own).numpy()
    device = trainer.strategy.root_device
    return lambda own: trainer.strategy.all_gather(torch.tensor(own, device=device)).cpu().numpy()


class SkipGramDataModule(lightning.LightningDataModule):
    """Blocks of a text, turned into windows on the device.

    Args:
        text: a stored or streamed text, such as `skiplight.corpus.prepare` returns.
        sampler: makes the windows of a block.
        block_tokens: how many tokens each rank consumes per step.
        tokens: how many tokens the run consumes, needed where `text` does not know its tokens per epoch.
        workers: processes that read blocks ahead; the blocks and their order do not depend on it.
        takes_blocks: whether the engine takes blocks and draws the windows itself.
        init_worker: called in each worker with its number, before it reads.
        validation_pairs: the most pairs of held-out text in `val_dataloader`; 0 for no validation.
        validation_share: the share of held-out text that only chooses between runs; see `skiplight.data.heldout`.
        engine: the engine class that `block_tokens` is for, which `SkipGramModule.from_config` uses.

    Raises:
        ValueError: neither `text` nor `tokens` gives the number of tokens.
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
        validation_pairs: int = 0,
        validation_share: float = 0.0,
        engine: type[Engine] | None = None,
    ) -> None:
        super().__init__()
        self.validation_pairs, self.validation_share = validation_pairs, validation_share
        self.engine = engine
        self._heldout: HeldoutPairs | None = None
        self.text, self.sampler, self.block_tokens = text, sampler, block_tokens
        self.workers, self.takes_blocks, self.init_worker = workers, takes_blocks, init_worker
        self.cursor, self.repeats_blocks = Cursor(), False
        # Where the text does not know its tokens, an epoch has those of the run, and may end earlier with the stream.
        known = tokens if text.tokens is None else text.tokens
        if known is None:
            raise ValueError("a stream of unknown size needs `tokens`")
        self.tokens = known
        self.blocks: BlockSchedule | StreamSchedule
        if isinstance(text, TokenStore):
            self.blocks = BlockSchedule(text, block_tokens, sampler.seed)
        else:
            assert isinstance(text, TokenStream)
            # The workers of a rank share its cores.
            text = dataclasses.replace(text, threads=max(text.threads // max(workers, 1), 1))
            self.blocks = StreamSchedule(text, block_tokens, sampler.seed, known)

    @classmethod
    def from_config(
        cls,
        config: Config,
        *,
        world: int = 1,
        threads: int | None = None,
        init_worker: Callable[[int], None] | None = None,
    ) -> Self:
        """Prepare the text of a run, and return its data module.

        Args:
            config: all options, as `skiplight.compose` returns them.
            world: how many ranks train.
            threads: threads that read and encode the text; default: `trainer.threads`.
            init_worker: as for the class.

        Raises:
            ConfigError: options contradict each other.
            DataError: the text cannot be read, or holds nothing to train on.
        """
        engine = choose_engine(config, world)
        compiling = engine.warm_up(is_plain(config))
        text = prepare_text(config, threads)
        if compiling is not None:  # the compiler changes filters of warnings, which are those of the whole process
            compiling.join()
        total = total_tokens(config, text)
        block_tokens = config.data.block_tokens
        if block_tokens == "auto":
            block_tokens = max(1, min(engine.block_tokens, total // (STEPS * world)))
        data = cls(
            text,
            make_sampler(config, text, OBJECTIVES[config.objective.name].target),
            block_tokens=block_tokens,
            tokens=total,
            workers=config.data.workers,
            takes_blocks=engine.takes_blocks,
            init_worker=init_worker,
            validation_pairs=config.evaluation.heldout_pairs if config.data.heldout > 0 else 0,
            validation_share=config.evaluation.validation,
            engine=engine,
        )
        if isinstance(data.blocks, StreamSchedule):
            data.blocks.log_shares(world * max(config.data.workers, 1))
        log.info(
            "%s tokens in steps of about %s%s",
            f"{total:,}",
            f"{round(data.tokens / len(data.blocks)):,}" + (f" on each of {world} ranks" if world > 1 else ""),
            f", chosen for the {engine.name} engine" if config.data.block_tokens == "auto" else "",
        )
        return data

    @property
    def share(self) -> tuple[int, int]:
        """The rank of this process, and the number of ranks."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    @property
    def steps(self) -> int:
        """Steps per epoch, the same on every rank; of a stream, the most that there may be."""
        return self.blocks.count_steps(self.share[1])

    def train_dataloader(self) -> DataLoader:
        return _Loader(self)

    def val_dataloader(self) -> Any:
        """Return a loader of one batch, all pairs of held-out text; an empty list without any."""
        if not self.validation_pairs:
            return []
        try:
            return DataLoader(_One(self.heldout_pairs()), batch_size=None)
        except EvaluationError as error:
            log.warning("no validation: %s", error)
            return []

    def heldout_pairs(self) -> HeldoutPairs:
        """Return the pairs of held-out text, drawn at the first call, at most `validation_pairs`.

        Raises:
            EvaluationError: there is no held-out text, or it has no pairs.
        """
        if self._heldout is None:
            limit, share = self.validation_pairs, self.validation_share
            self._heldout = heldout_pairs(self.heldout_blocks(), self.sampler, limit, share)
        return self._heldout

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        # Held-out pairs are moved chunk by chunk.
        return (
            batch
            if isinstance(batch, HeldoutPairs)
            else super().transfer_batch_to_device(batch, device, dataloader_idx)
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return batch if self.takes_blocks or not isinstance(batch, TokenBlock) else self.windows(batch)

    def heldout_blocks(self) -> Iterator[TokenBlock]:
        """Yield the held-out text in small blocks: in a fixed random order if it is stored, else in the text's order.

        So the first pairs of a stream differ from those of a store of the same text: to draw a random part of the
        held-out text, a stream would have to be read to its end.
        """
        for index, part in enumerate(self.text.read_heldout(draw_order(0, EVALUATION_EPOCH))):
            yield LoadedBlock.from_segments(part, epoch=EVALUATION_EPOCH, index=index)

    def verify(self) -> None:
        """Compare all of a stored text with its checksums.

        Raises:
            DataError: a file is damaged; the message names it.
        """
        self.text.verify()

    def windows(self, block: TokenBlock) -> Windows:
        """Return the windows of a block with their negatives, on the block's device."""
        return self.sampler(block)

    def consumed(self, block: LoadedBlock) -> None:
        """Move the cursor to the position after the step of a block that was trained on."""
        self.cursor = block.after

    def end_epoch(self) -> None:
        """Move the cursor where the Trainer ended an epoch before its last block.

        After `limit_train_batches` the next epoch begins; with `overfit_batches` the same blocks come again, with the
        same windows and negatives.
        """
        trainer = self.trainer
        if trainer is None:
            return
        if self.repeats_blocks or getattr(trainer, "overfit_batches", False):
            self.cursor = Cursor()
        elif trainer.fit_loop.max_batches < self.steps and self.cursor != Cursor(self.cursor.epoch):
            self.cursor = Cursor(self.cursor.epoch + 1)

    def state_dict(self) -> dict[str, Any]:
        return {
            "version": STATE,
            "text": self.text.fingerprint,
            "block_tokens": self.block_tokens,
            "cursor": {**vars(self.cursor), "lanes": [tuple(lane) for lane in self.cursor.lanes]},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Move the cursor to the position of a checkpoint.

        Raises:
            RunError: the checkpoint is of another text or block size, or of a newer version.
        """
        if state["version"] > STATE:
            raise RunError("the checkpoint's data state is of a newer version: upgrade skiplight")
        if state["version"] < STATE:
            raise RunError("the checkpoint's data state is of an older version: train anew, or with that version")
        if state["text"] != self.text.fingerprint:
            raise RunError(
                "the text is not the one that the run began with: its content, vocabulary or options changed"
            )
        if state["block_tokens"] != self.block_tokens:
            raise RunError(
                f"the run began with data.block_tokens={state['block_tokens']}, not {self.block_tokens}: keep it"
            )
        lanes = tuple(LanePosition(*lane) for lane in state["cursor"]["lanes"])
        self.cursor = Cursor(**{**state["cursor"], "lanes": lanes, "turns": tuple(state["cursor"]["turns"])})
