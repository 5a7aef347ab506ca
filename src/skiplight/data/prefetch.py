"""Copies blocks to a GPU ahead of use: a thread reads and pins them, and copies them on a CUDA stream of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from skiplight.sampling.batches import TokenBlock

AHEAD = 2
"""How many blocks are fetched while one is trained on."""


def prefetch_blocks(blocks: Iterator[TokenBlock], device: torch.device) -> Iterator[TokenBlock]:
    """Yield blocks in the same order, on `device`; the caller's CUDA stream waits for each copy, the host does not."""
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def fetch() -> tuple[TokenBlock, torch.cuda.Event | None] | None:
        block = next(blocks, None)
        if block is None:
            return None
        if stream is None:
            return block.to(device), None
        with torch.cuda.stream(stream):
            return block.map_tensors(Tensor.pin_memory).to(device, non_blocking=True), stream.record_event()

    with ThreadPoolExecutor(1, "skiplight-blocks") as pool:
        coming: deque[Future] = deque(pool.submit(fetch) for _ in range(AHEAD))
        while (found := coming.popleft().result()) is not None:
            coming.append(pool.submit(fetch))
            block, copied = found
            if copied is not None:
                using = torch.cuda.current_stream(device)
                using.wait_event(copied)
                for tensor in (block.ids, block.segments, block.document, block.start):
                    tensor.record_stream(using)
            yield block
