"""`skiplight cache`: list and remove prepared texts and compiled kernels."""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from skiplight.cli.common import format_size
from skiplight.files import KERNELS, STORES, cache_folder, disk_usage, remove

UNUSED_DAYS = 30

SHOWN_CHARACTERS = 10
"""Of the name of a folder, which is a hash, so that the table fits 80 columns; --json has it whole."""


class _Entry(NamedTuple):
    path: Path
    what: str
    size: int
    used: float
    remove: Callable[[], object]


def cache(arguments: list[str]) -> int:
    """List prepared texts and compiled kernels, with their sizes and last use; --prune removes those not used."""
    parser = argparse.ArgumentParser("skiplight cache", description=cache.__doc__)
    parser.add_argument("--store", type=Path, metavar="FOLDER", help="the folder that `data.store` names")
    parser.add_argument(
        "--prune", type=_parse_days, nargs="?", const=UNUSED_DAYS, metavar="DAYS",
        help=f"remove what has not been used for this many days ({UNUSED_DAYS}); it is made again when it is needed",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    folder = cache_folder()
    found = sorted(_list(folder, options.store or folder / STORES), key=lambda entry: entry.used, reverse=True)
    if options.prune is not None:
        found = _prune(found, time.time() - options.prune * 24 * 3600)
    if options.json:
        print(json.dumps([_as_json(entry) for entry in found], ensure_ascii=False))
    elif found:
        _print_table(found)
    elif options.prune is None:
        print(f"there is nothing in {options.store or folder}")
    if not options.json and (found or options.prune is not None):
        size = format_size(sum(entry.size for entry in found))
        print(f"{'removed' if options.prune is not None else 'in all'} {size}")
    return 0


def _list(folder: Path, stores: Path) -> list[_Entry]:
    from skiplight.corpus.store.stored import list_stored, remove_stored

    found = [_Entry(*stored, functools.partial(remove_stored, stored.path)) for stored in list_stored(stores)]
    kernels = folder / KERNELS
    for path in kernels.iterdir() if kernels.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            used = path.stat().st_mtime
            found.append(_Entry(path, "compiled kernels", disk_usage(path), used, functools.partial(remove, path)))
    return found


def _prune(entries: list[_Entry], since: float) -> list[_Entry]:
    """Remove the entries that have not been used since a time, and return them."""
    return [entry for entry in entries if entry.used < since and entry.remove() is not False]


def _print_table(entries: list[_Entry]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("folder", "what", "size", "last use", box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    table.columns[2].justify = "right"
    table.columns[2].no_wrap = table.columns[3].no_wrap = True
    for entry in entries:
        used = datetime.datetime.fromtimestamp(entry.used)
        name = f"{entry.path.parent.name}/{entry.path.name[:SHOWN_CHARACTERS]}"
        table.add_row(*map(escape, (name, entry.what, format_size(entry.size), f"{used:%Y-%m-%d}")))
    Console().print(table)


def _as_json(entry: _Entry) -> dict[str, object]:
    used = datetime.datetime.fromtimestamp(entry.used, datetime.UTC)
    return {"path": str(entry.path), "what": entry.what, "bytes": entry.size, "used": used.isoformat("T", "seconds")}


def _parse_days(text: str) -> int:
    if (days := int(text)) < 0:
        raise ValueError(text)
    return days
