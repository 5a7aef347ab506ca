"""How several ranks evaluate the same vectors together: each takes a share of the questions."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch.distributed as dist


class Ranks(NamedTuple):
    """This rank among those that evaluate together.

    Attributes:
        rank: which share this one takes, from 0; None if it cannot read the final vectors, and takes none.
        world: number of shares.
        group: process group of all ranks, of which some may take no share; None for a process that evaluates alone.
    """

    rank: int | None = 0
    world: int = 1
    group: Any = None

    def gather(self, message: Any) -> list[Any]:
        """Return the messages of all ranks of the group, in the order of ranks; all of them must call this."""
        if self.group is None:
            return [message]
        messages: list[Any] = [None] * dist.get_world_size(self.group)
        dist.all_gather_object(messages, message, self.group)
        return messages


ALONE = Ranks()
"""A process that evaluates by itself."""
