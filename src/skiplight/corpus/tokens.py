"""Segments of tokens, the one container of encoded text, and what stored and streamed texts have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

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

    def drop_through(self, first: int, document: int, start: int) -> TokenSegments:
        """Return the segments without those from document `first` up to that of (document, start)."""
        earlier = (self.document < document) | ((self.document == document) & (self.start <= start))
        return self.select(int(np.sum((self.document >= first) & earlier)), len(self))


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


@dataclass(frozen=True)
class Cursor:
    """A position in training: the next block is number `index` in the order of epoch `epoch`, counted over all ranks.

    `tokens` tokens of the epoch come before it, the last of them in the segment (`document`, `start`). A stream is read
    from the segment after that one, while the blocks of a store are found by `index`.
    """

    epoch: int = 0
    index: int = 0
    tokens: int = 0
    document: int = -1
    start: int = -1


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

    def count_blocks(self, block_tokens: int, tokens: int) -> int:
        """Return the number of blocks per epoch, taking `tokens` for its tokens where it is streamed."""

    def read_blocks(self, block_tokens: int, permute: Permute, cursor: Cursor) -> Iterator[TokenSegments]:
        """Yield the training segments of each block of an epoch from the cursor on; see `find_block_bounds`.

        The order is drawn by `permute`: that of the blocks of a stored text, or of the shards of a streamed one.
        """

    def read_heldout(self, permute: Permute) -> Iterator[TokenSegments]:
        """Yield the held-out segments in small parts: ordered by `permute` where stored, else in the text's order."""
