"""A source of text: units of documents, or of sequences of tokens, each of which can be read on its own.

Files are read here; data sets of the Hub and those of a user's function, by `datasets`, shard by shard. A source is
pickled as its description and its list of units, and opens the data set when it is first read; its fingerprint is known
without opening it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from skiplight.corpus.sources.loaders import Loader, first_line
from skiplight.corpus.sources.rows import split_lists, split_rows
from skiplight.corpus.sources.units import FileReader, Listing, Unit, whole_shards
from skiplight.corpus.text.documents import PIECE_BYTES, Documents, split_documents
from skiplight.errors import DataError

Document = Literal["document", "line", "paragraph"]

_MAX_ROWS = 4096


@dataclass
class Source:
    """A text, in units.

    Attributes:
        loader: reads files or opens the data set; it can be pickled.
        fingerprint: hash of the content and of the options that divide it into documents.
        describe: description for logs.
        column: the column of the text or the tokens.
        document: what one document is.
        sequences: whether the text is sequences of tokens, which are taken as they are.
    """

    loader: Loader | FileReader
    fingerprint: str
    describe: str
    column: str = "text"
    document: Document = "document"
    sequences: bool = False

    @functools.cached_property
    def units(self) -> Listing:
        """The units, in the order of the text; looks at the sizes of files, or opens the data set."""
        if isinstance(self.loader, FileReader):
            return self.loader.list_units(self._check)
        return whole_shards(self._dataset.num_shards)

    def read(self, unit: Unit) -> Iterator[Documents]:
        """Yield the documents of a unit, in order, in pieces of a few MB.

        Raises:
            DataError: the unit cannot be read, or is not of the format that its file's name says.
        """
        name = self.loader.shard_name(unit.shard)
        try:
            for keys, texts in self._parts(unit):
                yield from split_lists(keys, texts) if pa.types.is_list(texts.type) else split_documents(keys, texts)
        except (DataError, GeneratorExit):
            raise
        except Exception as error:  # readers, decompressors and protocols raise errors of their own
            raise DataError(f"{self.loader.option}: {name} cannot be read ({first_line(error)})") from error

    def documents(self) -> Iterator[Documents]:
        """Yield all documents."""
        for unit in self.units:
            yield from self.read(unit)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        state.pop("_dataset", None)
        return state

    def _parts(self, unit: Unit) -> Iterator[tuple[np.ndarray, pa.Array]]:
        if isinstance(self.loader, FileReader):
            return self.loader.read(unit, self.units)
        return self._rows(unit)

    @functools.cached_property
    def _dataset(self) -> Any:
        assert not isinstance(self.loader, FileReader)
        dataset = self.loader.load(self.column)
        try:
            _check_column(dataset, self.column, self.loader.option, self.sequences)
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"{self.loader.option}: {self.describe} cannot be read ({first_line(error)})") from error
        return dataset

    def _check(self, schema: pa.Schema) -> None:
        _check_schema(schema, self.column, self.sequences)

    @functools.cached_property
    def _batch_rows(self) -> int:
        """How many rows have about PIECE_BYTES, judged by the first rows: `datasets` batches by rows only."""
        for table in self._dataset.with_format("arrow").iter(batch_size=16):
            mean = table[self.column].nbytes / max(len(table), 1)
            return int(min(max(PIECE_BYTES / max(mean, 1), 1), _MAX_ROWS))
        return _MAX_ROWS

    def _rows(self, unit: Unit) -> Iterator[tuple[np.ndarray, pa.Array]]:
        """Yield (keys int64 [n], texts [n]) of a shard of a data set, whose documents are numbered."""
        dataset = self._dataset
        shard = dataset.shard(num_shards=dataset.num_shards, index=unit.shard, contiguous=True).with_format("arrow")
        key = unit.key
        for table in shard.iter(batch_size=self._batch_rows):
            for chunk in table[self.column].chunks:
                chunk.validate(full=True)  # a damaged file may hold strings that are not UTF-8
                # A sequence is a row.
                texts, _ = split_rows(chunk, "document" if self.sequences else self.document)
                yield np.arange(key, key + len(texts)), texts
                key += len(texts)


def _check_column(dataset: Any, column: str, option: str, sequences: bool) -> None:
    if dataset.features is not None:
        schema = dataset.features.arrow_schema
    else:  # JSON that is one list: its columns are known once it is read
        table = next(dataset.with_format("arrow").iter(batch_size=1), None)
        if table is None:
            raise DataError(f"{option}: there is nothing in it")
        schema = table.schema
    _check_schema(schema, column, sequences)


def _check_schema(schema: pa.Schema, column: str, sequences: bool) -> None:
    names = schema.names
    if column not in names:
        raise DataError(f"data.column={column}: there is no such column; there are {', '.join(names)}")
    found = schema.field(column).type
    listed = pa.types.is_list(found) or pa.types.is_large_list(found)
    inner = found.value_type if listed else found
    text = pa.types.is_string(inner) or pa.types.is_large_string(inner)
    described = textwrap.shorten(str(found), 100, placeholder=" ...")  # a nested type may have thousands of fields
    if listed and not sequences:
        raise DataError(f"data.column={column} has lists ({described}), not text: train on tokens with data=sequences")
    if not text and not (listed and pa.types.is_integer(inner)):
        wanted = "text, or lists of strings or integers" if sequences else "text"
        raise DataError(f"data.column={column} has {described}, not {wanted}; the columns are {', '.join(names)}")


def hash_parts(*parts: str | None) -> str:
    """Return a fingerprint of texts, 32 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
