"""Leases: which process, on which machine, is at work on a trial; a journal cannot tell, for it has no heartbeat.

A lease is a file in the trial's folder. On the machine of its holder the process is looked for; elsewhere it counts as
dead when it has not been refreshed for a minute, by the clock of the file system, which all machines share.
"""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from skiplight.files import open_regular, replacing

NAME = "heartbeat.json"

MAX_CHARACTERS = 10_000

REFRESH_SECONDS = 10

DEAD_SECONDS = 60
"""A holder on another machine that has not refreshed its lease for so long is dead."""


def machine() -> str:
    """What tells one system of processes from another: host, boot, and namespace of process ids."""
    parts = [platform.node()]
    for path, read in (
        ("/proc/sys/kernel/random/boot_id", lambda p: Path(p).read_text(encoding="ascii").strip()),
        ("/proc/self/ns/pid", os.readlink),
    ):
        try:
            parts.append(read(path))
        except OSError:  # not Linux
            parts.append("?")
    return "/".join(parts)


def process_start(pid: int) -> str | None:
    """When a process of this machine began, in a form that only equals itself; None if it does not live."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    try:  # no /proc here: any process of that number will have to do
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "?"


def claim_run(run: Path) -> None:
    """Writes down that this process is at work on the trial; to be called under the study's lock."""
    about = {
        "host": platform.node(),
        "machine": machine(),
        "pid": os.getpid(),
        "start": process_start(os.getpid()),
    }
    with replacing(run / NAME) as temporary:
        temporary.write_text(json.dumps(about, indent=2), encoding="utf-8")


def refresh(run: Path) -> None:
    """Says that the holder still lives."""
    os.utime(run / NAME)


def release_run(run: Path) -> None:
    """End the heartbeat, unless another process has taken the trial over."""
    if (about := _read(run)) is None or (about["machine"], about["pid"]) == (machine(), os.getpid()):
        (run / NAME).unlink(missing_ok=True)


def holder(run: Path) -> str | None:
    """Who is at work on the trial, for people; None if nobody is, or one that is dead."""
    about = _read(run)
    if about is None:
        return None
    if about["machine"] == machine():
        alive = process_start(about["pid"]) == about["start"]
    else:
        alive = _now(run) - (run / NAME).stat().st_mtime < DEAD_SECONDS
    return f"process {about['pid']} on {about['host']}" if alive else None


def _read(run: Path) -> dict[str, Any] | None:
    """Return what the holder has written down; None if there is no such file, or a damaged one, which nobody holds."""
    try:
        with open_regular(run / NAME) as file:
            about = json.loads(file.read(MAX_CHARACTERS))
        known = {name: str(about[name]) for name in ("machine", "host", "start")}
        return known | {"pid": int(about["pid"])}
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def _now(folder: Path) -> float:
    """The time by the clock that gives the folder's files theirs."""
    probe = folder / f".tmp-{os.getpid()}-{time.monotonic_ns()}-clock"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()
