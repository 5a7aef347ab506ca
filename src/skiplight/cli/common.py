"""Arguments, loading and printing that several verbs share."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from skiplight.config.flags import add_config_flags
from skiplight.errors import ConfigError

if TYPE_CHECKING:
    from skiplight.vectors.word_vectors import WordVectors

RUN_HELP = (
    "folder of a run, or of its vectors; or a file of vectors: word2vec's (text, binary), GloVe's, fastText's .vec"
)


def query_parser(verb: str, description: str | None) -> argparse.ArgumentParser:
    """Return the parser of a verb that looks up words by vectors."""
    parser = argparse.ArgumentParser(f"skiplight {verb}", description=description)
    parser.add_argument("run", type=Path, help=RUN_HELP)
    parser.add_argument("-k", type=parse_positive, default=10, help="number of words (10)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    add_no_verify(parser)
    return parser


def parse_positive(text: str) -> int:
    """Parse a positive integer."""
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def add_no_verify(parser: argparse.ArgumentParser) -> None:
    """Add the option `--no-verify`."""
    parser.add_argument(
        "--no-verify", dest="verify", action="store_false", help="do not check the checksums of the vectors"
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verbs that train many runs."""
    parser.add_argument("override", nargs="*", help="options as for `skiplight train`: see `skiplight train --help`")
    add_config_flags(parser)
    parser.add_argument("--workers", type=int, default=1, help="runs at once, each with its share of the cores (1)")
    parser.add_argument("--devices-per-trial", type=int, help="GPUs that each worker owns; default: trainer.devices")


def check_devices(given: argparse.Namespace) -> None:
    """Check that `trainer.devices` and --devices-per-trial agree, where both are given.

    Raises:
        ConfigError: they do not.
    """
    for override in given.override:
        name, _, value = override.lstrip("+").partition("=")
        if name == "trainer.devices" and given.devices_per_trial is not None and value != str(given.devices_per_trial):
            raise ConfigError(
                f"`{override}` and --devices-per-trial {given.devices_per_trial} contradict each other: give either"
            )


def load_vectors(options: argparse.Namespace) -> WordVectors:
    """Load the vectors of a verb's run."""
    from skiplight.vectors.word_vectors import WordVectors

    return WordVectors.load(options.run, verify=options.verify)


def print_nearest(neighbors: dict[str, list[tuple[str, float]]], as_json: bool) -> None:
    """Print one column of words and cosines per query, or JSON."""
    if as_json:
        print(json.dumps(neighbors, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*map(escape, neighbors))
    for row in zip(*neighbors.values(), strict=True):
        table.add_row(*(escape(f"{word} {cosine:.3f}") for word, cosine in row))
    Console().print(table)


def print_summary(summary: dict, run_dir: Path) -> None:
    """Print the results of a run in a few lines; `summary` is empty on all ranks but the first."""
    if not summary:
        return
    from skiplight.training.run_folder import RunFolder
    from skiplight.vectors.results import describe_result

    print(
        f"{summary['tokens']:,} tokens in {summary['seconds']['train']:.1f} s of training "
        f"({summary['words_per_second']:,} words/s), loss {summary['loss']:.4f}"
    )
    for name, result in summary["evaluation"].items():
        if "error" not in result:  # which has been logged
            print(f"{name}: {describe_result(result)}")
    for word, nearest in summary["neighbors"].items():
        print(f"{word}: {', '.join(near for near, _ in nearest)}")
    print(f"run: {run_dir}")
    if (page := RunFolder(run_dir).report).exists():
        print(f"page: {page}")


def format_size(size: float) -> str:
    """Return bytes as text.

    >>> format_size(512), format_size(3_400_000)
    ('512 B', '3.4 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
