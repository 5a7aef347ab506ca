"""Segments of tokens, the one container of encoded text, and what stored and streamed texts have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from skiplight.corpus.vocabulary import Vocabulary

Permute = Callable[[int], Sequence[int]]
"""From n to an order of the numbers 0 to n - 1."""


@dataclass(eq=False)
class TokenSegments:
    """Consecutive segments of a text.

    `segments[0]` is 0 where all segments are whole. In a part of a text that was cut anywhere, the tokens before
    `segments[0]` continue the last segment of the part before, and `concatenate` joins them to it.

    Attributes:
        ids: int32 [tokens], ids of words.
        segments: int64 [s + 1], where each segment begins in `ids`, and the end.
        document: int64 [s], the key of each segment's document.
        start: int64 [s], the offset of each segment in its document, in in-vocabulary tokens.

    >>> text = TokenSegments(np.array([4, 5, 6]), np.array([0, 2, 3]), np.array([7, 8]), np.array([0, 0]))
    >>> text.select(1, 2)
    TokenSegments(ids=array([6]), segments=array([0, 1]), document=array([8]), start=array([0]))
    """

    ids: np.ndarray
    segments: np.ndarray
    document: np.ndarray
    start: np.ndarray

    @classmethod
    def empty(cls) -> TokenSegments:
        """Return no segments."""
        return cls(np.zeros(0, np.int32), np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.document)

    @property
    def tokens(self) -> int:
        """The number of tokens."""
        return int(self.segments[-1])

    def select(self, first: int, stop: int) -> TokenSegments:
        """Return segments `first` up to `stop`."""
        begin, end = self.segments[first], self.segments[stop]
        document, start = self.document[first:stop], self.start[first:stop]
        return TokenSegments(self.ids[begin:end], self.segments[first : stop + 1] - begin, document, start)

    def concatenate(self, following: TokenSegments) -> TokenSegments:
        """Return these segments and those that follow."""
        return TokenSegments(
            np.concatenate([self.ids, following.ids]),
            np.concatenate([self.segments[:-1], self.tokens + following.segments]),
            np.concatenate([self.document, following.document]),
            np.concatenate([self.start, following.start]),
        )

    def take(self, order: np.ndarray) -> TokenSegments:
        """Return the segments of numbers `order`, int64 [n], in that order."""
        lengths = np.diff(self.segments)[order]
        ends = np.cumsum(lengths)
        ids = self.ids[np.arange(lengths.sum()) + np.repeat(self.segments[:-1][order] - (ends - lengths), lengths)]
        return TokenSegments(ids, np.concatenate(([0], ends)), self.document[order], self.start[order])

    @classmethod
    def joined(cls, parts: Sequence[TokenSegments]) -> TokenSegments:
        """Return the segments of several parts, all of them whole."""
        if len(parts) < 2:
            return parts[0] if parts else cls.empty()
        ends = np.cumsum([0, *(part.tokens for part in parts)])
        segments = [part.segments[:-1] + end for part, end in zip(parts, ends[:-1], strict=True)]
        return cls(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([*segments, ends[-1:]]),
            np.concatenate([part.document for part in parts]),
            np.concatenate([part.start for part in parts]),
        )


def find_block_bounds(ends: np.ndarray, block_tokens: int) -> np.ndarray:
    """Cut segments into blocks: a block holds the segments that end in the same cell of a grid.

    Args:
        ends: int64 [s], where each segment ends, in tokens since the beginning of the grid.
        block_tokens: tokens per cell.

    Returns:
        int64 [blocks + 1], the first segment of each block, and the number of segments.

    >>> find_block_bounds(np.array([4, 10, 11, 35]), 10)
    array([0, 2, 3, 4])
    """
    return np.flatnonzero(np.diff((ends - 1) // block_tokens, prepend=-1, append=-2))


TokenParts = tuple[TokenSegments, TokenSegments]
"""A part of the training text and one of the held-out text."""


class LanePosition(NamedTuple):
    """A position in a lane of a stream; see `skiplight.data.lanes`.

    Attributes:
        owner: the consumer that reads the lane.
        unit: the number of the unit in the lane, of which the next segment is read.
        segments: how many segments of that unit were consumed.
        tokens: how many tokens of the lane were consumed.
    """

    owner: int
    unit: int
    segments: int
    tokens: int


@dataclass(frozen=True)
class Cursor:
    """A position in training.

    Attributes:
        epoch: the epoch.
        index: how many blocks of the epoch were consumed over all ranks; of a store, the next block is that number in
            the order of the epoch.
        tokens: how many tokens of the epoch were consumed.
        consumers: of a stream, for how many ranks times workers the lanes were dealt.
        lanes: of a stream, the position in each lane; empty at the beginning of an epoch.
        turns: of a stream, which worker of each rank is next.
    """

    epoch: int = 0
    index: int = 0
    tokens: int = 0
    consumers: int = 0
    lanes: tuple[LanePosition, ...] = ()
    turns: tuple[int, ...] = ()


class TokenText(Protocol):
    """A text encoded by a vocabulary, stored or streamed, as segments of tokens."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The words of the ids."""

    @property
    def fingerprint(self) -> str:
        """A hash of the text's content and of the options that decide its ids."""

    @property
    def tokens(self) -> int | None:
        """Training tokens per epoch, None where unknown."""

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds that preparing the text took, by stage."""

    def verify(self) -> None:
        """Compare all that is stored with its checksums.

        Raises:
            DataError: a file is damaged; the message names it.
        """

    def read_heldout(self, permute: Permute) -> Iterator[TokenSegments]:
        """Yield the held-out segments in small parts: ordered by `permute` where stored, else in the text's order."""
