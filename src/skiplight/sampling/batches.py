"""Blocks of tokens, which a loader delivers, and their windows with negatives, which an objective takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor


@dataclasses.dataclass
class TokenBlock:
    """Whole segments of a text, the unit that a loader delivers.

    Attributes:
        ids: int32 [tokens], ids of words.
        segments: int64 [s + 1], where each segment begins in `ids`, and the end.
        document: int64 [s], the key of each segment's document.
        start: int64 [s], the offset of each segment in its document, in in-vocabulary tokens.
        epoch, index: which block of which epoch this is.
        tokens: how many tokens the step consumes over all ranks; by default, those of this block.
    """

    ids: Tensor
    segments: Tensor
    document: Tensor
    start: Tensor
    epoch: int = 0
    index: int = 0
    tokens: int = -1

    def __post_init__(self) -> None:
        if self.tokens < 0:
            self.tokens = len(self.ids)

    @classmethod
    def of(cls, documents: list[list[int]], epoch: int = 0) -> TokenBlock:
        """Return a block of documents of one segment each, given as lists of ids."""
        lengths = [0] + [len(document) for document in documents]
        return cls(
            ids=torch.tensor([token for document in documents for token in document], dtype=torch.int32),
            segments=torch.tensor(lengths).cumsum(0),
            document=torch.arange(len(documents)),
            start=torch.zeros(len(documents), dtype=torch.int64),
            epoch=epoch,
        )

    def map_tensors(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Return the same block with `function` applied to its tensors."""
        names = ("ids", "segments", "document", "start")
        mapped: dict[str, Any] = {name: function(getattr(self, name)) for name in names}
        return dataclasses.replace(self, **mapped)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """Return the same block with its tensors on `device`."""
        return self.map_tensors(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def first_tokens(self, tokens: int) -> TokenBlock:
        """Return the block of the first segments, with at least so many tokens if there are as many."""
        stop = min(int(torch.searchsorted(self.segments, tokens)), len(self.start))
        ids, segments = self.ids[: int(self.segments[stop])], self.segments[: stop + 1]
        return TokenBlock(ids, segments, self.document[:stop], self.start[:stop], self.epoch, self.index)


@dataclasses.dataclass
class Windows:
    """The windows of a block that have a context.

    Attributes:
        inputs: int32 [pairs], the ids of the context words.
        offsets: int64 [windows + 1], where the pairs of each window begin, and the end.
        target: int32 [windows], the ids of the centres.
        negatives: int32 [windows, K] (shared by the window) or [pairs, K].
        mask: bool, shaped like `negatives`; False where a slot has no negative and does not count.
        block: the block that they are the windows of.
    """

    inputs: Tensor
    offsets: Tensor
    target: Tensor
    negatives: Tensor
    mask: Tensor
    block: TokenBlock

    @property
    def pairs(self) -> int:
        """The number of (context word, centre) pairs."""
        return len(self.inputs)

    @property
    def shared(self) -> bool:
        """Whether a row of negatives belongs to a window, rather than to a pair."""
        return len(self.negatives) == len(self.target)  # where these are as many as the pairs, each window has one pair

    def window_of_pair(self) -> Tensor:
        """Return the window of each pair, int64 [pairs]."""
        sizes = self.offsets.diff()
        return torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)

    def center_as_input(self) -> Windows:
        """Return the same pairs with the centre as input and its context words as targets.

        Each pair is then a window of its own. Negatives that the pairs of a window shared are repeated for each.
        """
        window_of = self.window_of_pair()
        rows = window_of if self.shared else torch.arange(self.pairs, device=window_of.device)
        return dataclasses.replace(
            self,
            inputs=self.target[window_of],
            offsets=torch.arange(self.pairs + 1, device=window_of.device),
            target=self.inputs,
            negatives=self.negatives[rows],
            mask=self.mask[rows],
        )
