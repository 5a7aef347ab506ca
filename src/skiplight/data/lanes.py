"""Lanes: how a stream is dealt to ranks and their workers, and where each of them is.

The units of a text are dealt to lanes, as evenly as their sizes allow, in an order drawn by seed and epoch. A block is
cut from one lane, so what is in the blocks of an epoch does not depend on ranks, workers or machines. These, the
*consumers*, own lanes and read them one after the other: each has one unit open, however many lanes there are. A
position in an epoch is a position in each lane, so another number of consumers goes on with the lanes that are left.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from skiplight.corpus.tokens import Cursor, LanePosition

MIN_LANES, MAX_LANES = 60, 960
"""More than ranks times workers, say 64 x 8, and multiples of many numbers. A lane has a short block at its end."""

LANE_BYTES = 2 << 20


def count_lanes(sizes: np.ndarray) -> int:
    """Return the number of lanes for units of these sizes in bytes, int64 [units]; it depends on the text only."""
    return min(len(sizes), max(MIN_LANES, min(int(sizes.sum()) // LANE_BYTES, MAX_LANES)))


class LanePlan:
    """The lanes of an epoch.

    Args:
        sizes: bytes of each unit, int64 [units].
        order: the units in the order drawn for the epoch.

    Attributes:
        units: the numbers of the units of each lane, in the order in which they are read.

    >>> plan = LanePlan(np.array([5, 5, 5, 90, 5]), [4, 2, 0, 3, 1], lanes=2)
    >>> plan.units, plan.begin(2)[1]
    ([[3], [4, 2, 0, 1]], LanePosition(owner=1, unit=0, segments=0, tokens=0))
    """

    def __init__(self, sizes: np.ndarray, order: Sequence[int], lanes: int | None = None) -> None:
        weights = np.maximum(sizes, 1)
        drawn = np.asarray(order, np.int64)
        largest_first = drawn[np.argsort(-weights[drawn], kind="stable")].tolist()
        owners = dict(zip(largest_first, _deal(weights[largest_first], lanes or count_lanes(sizes)), strict=True))
        self.units: list[list[int]] = [[] for _ in range(lanes or count_lanes(sizes))]
        for unit in drawn.tolist():
            self.units[owners[unit]].append(unit)
        # What is left of each lane from its n-th unit on.
        self._left = [np.append(np.cumsum(weights[lane][::-1])[::-1], 0) for lane in self.units]

    def begin(self, consumers: int) -> tuple[LanePosition, ...]:
        """Return the positions at the beginning of an epoch."""
        return self._dealt([LanePosition(0, 0, 0, 0)] * len(self.units), consumers)

    def positions(self, cursor: Cursor, consumers: int) -> tuple[LanePosition, ...]:
        """Return the positions of a cursor, dealt anew where it was saved by another number of consumers."""
        if not cursor.lanes:
            return self.begin(consumers)
        return cursor.lanes if cursor.consumers == consumers else self._dealt(cursor.lanes, consumers)

    def is_done(self, lane: int, position: LanePosition) -> bool:
        """Return whether all units of a lane were consumed."""
        return position.unit >= len(self.units[lane])

    def _dealt(self, positions: Sequence[LanePosition], consumers: int) -> tuple[LanePosition, ...]:
        left = np.array([self._left[lane][position.unit] for lane, position in enumerate(positions)], np.int64)
        order = np.argsort(-left, kind="stable")
        owners = np.empty(len(left), np.int64)
        owners[order] = _deal(left[order], consumers)
        return tuple(position._replace(owner=int(owner)) for position, owner in zip(positions, owners, strict=True))


def _deal(weights: np.ndarray, count: int) -> list[int]:
    """Give each weight to the one of `count` that has least so far, and return which, [weights]."""
    heap = [(0, number) for number in range(count)]
    owners = []
    for weight in weights.tolist():
        least, number = heap[0]
        owners.append(number)
        heapq.heapreplace(heap, (least + weight, number))
    return owners


class LaneProgress:
    """The positions of all lanes, as the blocks of all consumers are consumed step by step.

    Args:
        plan: the lanes of the epoch.
        positions: where they are.
    """

    def __init__(self, plan: LanePlan, positions: Sequence[LanePosition]) -> None:
        self.positions, self._plan = list(positions), plan
        self._owned: dict[int, list[int]] = {}
        for lane, position in enumerate(positions):
            if not plan.is_done(lane, position):
                self._owned.setdefault(position.owner, []).append(lane)

    def lanes_of(self, consumer: int) -> list[int]:
        """Return the lanes that a consumer has still to read, in that order."""
        return self._owned.get(consumer, [])

    def advance(self, consumer: int, more: bool, lane: int, unit: int, segments: int, tokens: int) -> None:
        """Note that a block was consumed.

        Args:
            consumer: who read it.
            more: whether that consumer has another block.
            lane: which it is of, -1 for an empty block.
            unit, segments, tokens: the position in the lane after it.
        """
        owned = self._owned.get(consumer, [])
        while owned and (not more or owned[0] < lane):  # lanes are read in order
            done = owned.pop(0)
            self.positions[done] = self.positions[done]._replace(unit=len(self._plan.units[done]), segments=0)
        if more and lane >= 0:
            self.positions[lane] = LanePosition(consumer, unit, segments, tokens)
