"""A source of text: shards of documents, or of sequences of tokens, streamed by `datasets`.

Each shard, usually a file, can be read from any row on. A source is pickled as its description, and opens the data set
when it is first read; its fingerprint is known without opening it.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from skiplight.corpus.sources.loaders import Loader, first_line
from skiplight.corpus.sources.rows import split_lists, split_rows, split_text_chunks
from skiplight.corpus.text.documents import PIECE_BYTES, SHARD_ROWS, Documents, split_documents
from skiplight.errors import DataError

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


def hash_parts(*parts: str | None) -> str:
    """Return a fingerprint of texts, 32 hexadecimal digits."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
