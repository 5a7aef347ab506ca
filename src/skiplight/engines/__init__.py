"""Engines move the two tables under an objective: by autograd (the reference), or in one fused, compiled kernel."""

from __future__ import annotations

import logging

from skiplight.engines.autograd import AutogradEngine
from skiplight.engines.base import Engine, Request
from skiplight.engines.fused_cpu import FusedCpuEngine
from skiplight.engines.fused_gpu import FusedGpuEngine
from skiplight.errors import ConfigError

log = logging.getLogger(__name__)

ENGINES: tuple[type[Engine], ...] = (FusedGpuEngine, FusedCpuEngine, AutogradEngine)
"""All engines, the fastest first. Engines of different devices may share a name."""


def choose(name: str, request: Request) -> type[Engine]:
    """Return the fastest engine of a name that supports a request, and log which one it is and why.

    Args:
        name: an engine's name, or "auto" for any engine.
        request: what the training needs.

    Raises:
        ConfigError: no engine of that name supports the request; the message names the engines that do.
    """
    refused: dict[str, str] = {}
    for engine in ENGINES:
        if name not in ("auto", engine.name) or engine.device not in (None, request.device):
            continue
        problems = engine.unsupported(request)
        if not problems:
            reason = "; ".join(f"{other} cannot do {what}" for other, what in refused.items())
            log.info("engine=%s: %s", engine.name, reason or ("as asked" if name != "auto" else "the fastest there is"))
            return engine
        refused[engine.name] = ", ".join(problems)
    if name == "auto":
        raise ConfigError(
            "no engine can do what is asked: "
            + "; ".join(f"{engine} cannot do {what}" for engine, what in refused.items())
        )
    able = [
        f"`engine={engine.name}`"
        for engine in ENGINES
        if engine.name != name and engine.device in (None, request.device) and not engine.unsupported(request)
    ]
    raise ConfigError(
        f"`engine={name}` cannot do {refused.get(name, f'the device {request.device}')}: "
        + (f"choose {' or '.join(able)}, which can" if able else "no engine can")
    )
