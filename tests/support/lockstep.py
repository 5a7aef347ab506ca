"""The ranks and workers of a stream in one process: each rank is a thread, and every step waits for all of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np

from skiplight.corpus.tokens import Cursor
from skiplight.data.blocks import LoadedBlock
from skiplight.data.streams import StreamSchedule


def in_turns(workers: list[Iterator[LoadedBlock]]) -> Iterator[LoadedBlock]:
    """The blocks of a rank's workers as a DataLoader yields them: in turns, without those that have ended."""
    place = 0
    while workers:
        place %= len(workers)
        block = next(workers[place], None)
        if block is None:
            workers.pop(place)
        else:
            yield block
            place += 1


def run_ranks(
    schedule: StreamSchedule, cursor: Cursor, world: int, workers: int, steps: int | None = None
) -> tuple[Cursor, list[list[LoadedBlock]]]:
    """Consume `steps` steps, or the rest of the epoch; returns the position afterwards and the blocks of each rank."""
    barrier = threading.Barrier(world, timeout=60)
    told: list[list[int]] = [[] for _ in range(world)]
    blocks: list[list[LoadedBlock]] = [[] for _ in range(world)]

    def run(rank: int) -> None:
        def gather(own: list[int]) -> np.ndarray:
            told[rank] = own
            barrier.wait()
            found = np.array(told)
            barrier.wait()
            return found

        own = in_turns([schedule.read(cursor, rank, world, worker, workers) for worker in range(workers)])
        try:
            for block in schedule.agree(own, cursor, rank, world, workers, gather):
                blocks[rank].append(block)
                if len(blocks[rank]) == steps:
                    return
        except BaseException:
            barrier.abort()
            raise

    schedule.plan(cursor.epoch)  # made once, not by each thread
    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ends = {part[-1].after for part in blocks}
    assert len(ends) == 1
    assert len({len(part) for part in blocks}) == 1
    return ends.pop(), blocks
