"""Heartbeats: which process, on which machine, is training a trial. (Optuna's journal storage has no heartbeats.)

A heartbeat is a file in the trial's folder, written by the process that claims the trial. On the same machine, the
trial is claimed while this process exists; on others, while the file was refreshed within the last minute, by the clock
of the file system, which all machines share.
"""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path
from typing import Any

from skiplight.files import open_regular, replacing

HEARTBEAT_FILE = "heartbeat.json"

MAX_CHARACTERS = 10_000

REFRESH_SECONDS = 10

DEAD_SECONDS = 60
"""Seconds without a refresh after which a process on another machine counts as dead."""


def machine_id() -> str:
    """Return an identifier of this host, boot and namespace of process ids, within which a process id is unique."""
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


def process_start_time(pid: int) -> str | None:
    """Return when a process of this machine started, in clock ticks since boot, or None if it is not alive.

    Where there is no /proc, any process with this id counts, and the result is "?".
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "?"


def claim_run(run: Path) -> None:
    """Write that this process is training the run; the caller holds the experiment's lock."""
    about = {
        "host": platform.node(),
        "machine": machine_id(),
        "pid": os.getpid(),
        "start": process_start_time(os.getpid()),
    }
    with replacing(run / HEARTBEAT_FILE) as temporary:
        temporary.write_text(json.dumps(about, indent=2), encoding="utf-8")


def refresh_heartbeat(run: Path) -> None:
    """Update the time of the heartbeat, to show that its process is alive."""
    os.utime(run / HEARTBEAT_FILE)


def release_run(run: Path) -> None:
    """Delete the heartbeat of a run that this process no longer trains, unless another process has taken it over."""
    if (about := _read(run)) is None or (about["machine"], about["pid"]) == (machine_id(), os.getpid()):
        (run / HEARTBEAT_FILE).unlink(missing_ok=True)


def find_holder(run: Path) -> str | None:
    """Return the process that is training a run, as text for messages, or None if there is none that is alive."""
    about = _read(run)
    if about is None:
        return None
    if about["machine"] == machine_id():
        alive = process_start_time(about["pid"]) == about["start"]
    else:
        alive = _file_system_time(run) - (run / HEARTBEAT_FILE).stat().st_mtime < DEAD_SECONDS
    return f"process {about['pid']} on {about['host']}" if alive else None


def _read(run: Path) -> dict[str, Any] | None:
    """Return what the holder has written; None without a file, or with a damaged one, which nobody holds."""
    try:
        with open_regular(run / HEARTBEAT_FILE) as file:
            about = json.loads(file.read(MAX_CHARACTERS))
        known = {name: str(about[name]) for name in ("machine", "host", "start")}
        return known | {"pid": int(about["pid"])}
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, LookupError, RecursionError):
        return None


def _file_system_time(folder: Path) -> float:
    """Return the current time by the clock of a folder's file system, in seconds."""
    probe = folder / f".tmp-{os.getpid()}-{time.monotonic_ns()}-clock"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()
