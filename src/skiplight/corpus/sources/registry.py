"""Open a source by its registered name: one that the package brings, or a function of a user's own.

A function of a user's own returns documents or sequences of tokens: an iterable of texts or of lists of tokens, which
is asked anew at each pass, or a data set of `datasets`. It is a shard. What it returns must be a function of its
options, of the code of its module, and of the files that its option `path` names, since by these three a store of its
tokens is found again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import skiplight.corpus.sources.built_in  # noqa: F401  (registers the sources of the package)
from skiplight.corpus.sources import file_lists
from skiplight.corpus.sources.loaders import first_line
from skiplight.corpus.sources.source import Document, Source, hash_parts
from skiplight.errors import DataError
from skiplight.registry import SOURCES, Entry, load_plugins

COLUMN = "text"
"""The column of a data set that a function returns."""


def open_source(source: str, *, cache: Path, document: str = "document", **options: Any) -> Source:
    """Return the source of a text; only what its fingerprint needs is read.

    Args:
        source: a registered name: `hub` (a Hub data set), `files`, `sequences` (of tokens), `vital` (the demo text),
            `synthetic_sessions` (sequences with a known structure), or a user's own.
        cache: folder for hashes of files and for built-in texts.
        document: what one document is: a row or file (`document`), a `line`, or a `paragraph` between blank lines.
        options: those of the source, such as `path` of `files`; see `skiplight.corpus.sources.built_in`.

    Raises:
        DataError: the text does not exist or cannot be read; the message names the option.
        ConfigError: nothing is registered by the name `source`.
        ValueError: `document` is not one of those above.
    """
    if document not in get_args(Document):
        raise ValueError(f"document={document!r}: expected one of {', '.join(get_args(Document))}")
    entry = _find(source)
    own = vars(entry.options(**options))
    if entry.is_built_in:
        return entry.target(**own, cache=cache, unit=document)
    loader = FunctionLoader(source, tuple(own.items()))
    listed = isinstance(loader.first(), list)
    files = file_lists.find_files(own["path"]) if own.get("path") else []
    named = [f"{name}={value}" for name, value in own.items() if name != "path"]
    fingerprint = hash_parts("function", entry.identity, document, *named, *file_lists.hash_files(files, cache))
    unit: Document = document  # type: ignore[assignment]
    return Source(loader, fingerprint, f"data={source} of {entry.source}", COLUMN, unit, sequences=listed)


def _find(name: str) -> Entry:
    if name not in SOURCES:
        load_plugins()  # a process of its own has not yet loaded them
    return SOURCES[name]


@dataclass(frozen=True)
class FunctionLoader:
    """What a function of a user's own returns.

    Attributes:
        name: the name by which the function is registered.
        options: its options and their values.
    """

    name: str
    options: tuple[tuple[str, Any], ...]

    @property
    def option(self) -> str:
        return f"data={self.name}"

    def load(self, column: str) -> Any:
        import datasets

        found = self._call()
        if isinstance(found, datasets.Dataset):
            found = found.to_iterable_dataset()
        if isinstance(found, datasets.IterableDataset):
            names = found.column_names or [column]
            return found.select_columns(column) if column in names else found
        value = datasets.Value("large_string")
        listed = isinstance(self.first(), list)
        features = datasets.Features({column: datasets.List(value) if listed else value})
        return datasets.IterableDataset.from_generator(self._rows, features=features, gen_kwargs={"column": column})

    def shard_name(self, shard: int) -> str:
        return self.option

    def first(self) -> str | list[str]:
        """Return the first document or sequence.

        Raises:
            DataError: there is none, it is of another kind, or the function fails.
        """
        found = self._call()
        try:
            first = next(iter(found), None)
        except Exception as error:
            raise DataError(f"{self.option}: it fails at its first document ({first_line(error)})") from error
        if first is None:
            raise DataError(f"{self.option}: there is nothing in it")
        return self._document(first)

    def _call(self) -> Iterable[Any]:
        options = dict(self.options)
        if path := options.get("path"):
            options["path"] = path if not isinstance(path, str) else os.path.expanduser(path)
        try:
            found = _find(self.name).target(**options)
        except Exception as error:
            raise DataError(f"{self.option}: it fails ({type(error).__name__}: {first_line(error)})") from error
        if isinstance(found, str) or not isinstance(found, Iterable):
            raise DataError(
                f"{self.option}: it returns {type(found).__name__}, not texts; return an iterable of texts or of lists"
                " of tokens, or a data set of `datasets`"
            )
        return found

    def _rows(self, column: str) -> Iterator[dict[str, Any]]:
        for item in self._call():
            yield {column: self._document(item)}

    def _document(self, item: Any) -> str | list[str]:
        document = item[COLUMN] if isinstance(item, dict) and COLUMN in item else item
        if isinstance(document, list):
            return [str(token) for token in document]
        if isinstance(document, str):
            return document
        raise DataError(
            f"{self.option}: {str(item)[:80]!r} is {type(item).__name__}, neither a text (str) nor a sequence of tokens"
            f" (list), nor a row with a column `{COLUMN}`"
        )
