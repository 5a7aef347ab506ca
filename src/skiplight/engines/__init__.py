"""How an objective moves the two tables: by autograd (the reference) or fused into one compiled kernel."""

from __future__ import annotations

import logging

from skiplight.engines.autograd import AutogradEngine
from skiplight.engines.base import Engine

log = logging.getLogger(__name__)

ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (AutogradEngine,)}
"""All engines by name, the fastest first."""


def choose(name: str) -> type[Engine]:
    """The engine called `name`; for "auto" the fastest that can do what is asked, said in the log."""
    if name != "auto":
        return ENGINES[name]
    engine = next(iter(ENGINES.values()))
    log.info("engine=%s: the only engine there is", engine.name)
    return engine
