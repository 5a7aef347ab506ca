"""Blocks that are fetched ahead come in order, once each, and an error comes where its block would have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from skiplight.data.prefetch import AHEAD, prefetch_blocks
from skiplight.sampling.batches import TokenBlock

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def counted(stop: int, read: list[int], fail: bool = False) -> Iterator[TokenBlock]:
    for i in range(stop):
        read.append(i)
        yield TokenBlock.of([[i, i + 1], [i]], epoch=i)
    if fail:
        raise OSError("the disk is gone")


@pytest.mark.parametrize("stop", [0, 1, AHEAD, 9])
def test_blocks_come_in_order(stop: int) -> None:
    blocks = list(prefetch_blocks(counted(stop, []), DEVICE))
    assert [block.epoch for block in blocks] == list(range(stop))
    for i, block in enumerate(blocks):
        assert block.ids.device.type == DEVICE.type
        assert block.ids.tolist() == [i, i + 1, i]
        assert block.segments.tolist() == [0, 2, 3]


def test_no_more_is_read_than_a_few_blocks_ahead() -> None:
    read: list[int] = []
    blocks = prefetch_blocks(counted(50, read), DEVICE)
    assert next(blocks).epoch == 0
    blocks.close()  # type: ignore[attr-defined]
    assert max(read) <= AHEAD + 1


def test_an_error_comes_where_its_block_would_have() -> None:
    blocks = prefetch_blocks(counted(3, [], fail=True), DEVICE)
    assert [next(blocks).epoch for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="disk is gone"):
        next(blocks)
