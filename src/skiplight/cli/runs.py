"""`skiplight runs`: list the runs in a folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from skiplight.cli.common import format_size

SHOWN_SCORES = 2
"""Scores in the table, so that it fits 80 columns."""


def runs(arguments: list[str]) -> int:
    """List the runs in a folder, with their text, engine, scores and state: `skiplight runs` lists those in runs/."""
    parser = argparse.ArgumentParser("skiplight runs", description=runs.__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs"), help="folder of runs or studies (runs)")
    parser.add_argument("--json", action="store_true", help="print JSON, with all scores, instead of a table")
    options = parser.parse_args(arguments)
    from skiplight.experiments.run_list import as_json, list_runs

    found = list_runs(options.folder)
    if options.json:
        print(json.dumps([as_json(run) for run in found], ensure_ascii=False))
        return 0
    if not found:
        print(f"there is no run in {options.folder}")
        return 0
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("run", "text", "engine", "scores", "began", "size", "state", box=None, pad_edge=False)
    table.columns[0].overflow = table.columns[1].overflow = "fold"  # a name is not cut
    table.columns[3].no_wrap = table.columns[4].no_wrap = True
    for run in found:
        scores = [f"{name.rpartition('/')[2]} {score:.4g}" for name, score in run.scores.items()]
        more = [f"and {len(scores) - SHOWN_SCORES} more"] if len(scores) > SHOWN_SCORES else []
        row = (
            run.name, run.text, run.engine, "\n".join(scores[:SHOWN_SCORES] + more), f"{run.began:%m-%d %H:%M}",
            format_size(run.size), run.state,
        )  # fmt: skip
        table.add_row(*map(escape, row))
    Console().print(table)
    return 0
