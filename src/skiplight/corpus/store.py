"""The token store: a text as ids in memory-mapped Arrow files, shared by all processes that train on it.

A folder, named by the fingerprint of the text and of all that decides its ids:

    tokens.arrow, heldout-tokens.arrow        ids: int32, one record batch, uncompressed
    segments.arrow, heldout-segments.arrow    document, start, end: int64, one record batch
    vocabulary.tsv                            words and counts in id order
    manifest.json                             format version, options, counts, size and CRC-32 of each file

The manifest is written last, in a folder that gets its name only when all is on disk (`build.py`), so a
folder of that
name is whole unless something damaged it later: sizes are checked when it is opened, checksums by `verify`.
"""

from __future__ import annotations

import functools
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skiplight.corpus.vocabulary import Vocabulary
from skiplight.errors import DataError

FORMAT = 1
MANIFEST = "manifest.json"
VOCABULARY = "vocabulary.tsv"


class TokenSplit:
    """Training or held-out text, memory-mapped.

    Attributes:
        tokens: number of tokens, t.
        document: key of each segment's document, int64 [s].
        start: offset of its first token in the document, in in-vocabulary tokens, int64 [s].
        end: tokens of the split up to its end, int64 [s]: segment i is `ids(end[i - 1], end[i])`.
    """

    document: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def __init__(self, folder: Path, prefix: str = "") -> None:
        self._folder, self._prefix = folder, prefix
        (self._ids,) = _columns(folder / f"{prefix}tokens.arrow", {"ids": pa.int32()})
        self.document, self.start, self.end = _columns(
            folder / f"{prefix}segments.arrow",
            {"document": pa.int64(), "start": pa.int64(), "end": pa.int64()},
        )
        self.tokens = len(self._ids)
        if self.tokens != (int(self.end[-1]) if len(self.end) else 0):
            raise DataError(
                f"{folder / f'{prefix}segments.arrow'} does not fit its tokens: delete {folder}, it is made again"
            )

    def ids(self, begin: int, stop: int) -> np.ndarray:
        """Ids of the tokens from `begin` up to `stop`, int32 [stop - begin]: a read-only view of the file."""
        return self._ids[begin:stop]

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenSplit, (self._folder, self._prefix)


class TokenStore:
    """An opened token store; pickles as its path.

    Args:
        path: the folder.

    Raises:
        DataError: it is not a store, is damaged, or was written by a newer version.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.manifest = read_manifest(self.path)
        for name, entry in self.manifest["files"].items():
            _check_size(self.path / name, entry["bytes"])
        self.train = TokenSplit(self.path)
        self.heldout = TokenSplit(self.path, "heldout-")

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The words of the ids."""
        return Vocabulary.load(self.path / VOCABULARY)

    @property
    def fingerprint(self) -> str:
        """Hash of the text's content and of the options that decide its ids."""
        return self.manifest["fingerprint"]

    @property
    def tokens(self) -> int:
        """Training tokens of one epoch."""
        return self.train.tokens

    @property
    def seconds(self) -> dict[str, float]:
        """What building took: `vocabulary` (reading, normalising, counting) and `encode`."""
        return self.manifest["seconds"]

    def verify(self) -> None:
        """Reads all files and compares their checksums.

        Raises:
            DataError: naming the file that is damaged.
        """
        for name, entry in self.manifest["files"].items():
            if checksum(self.path / name) != entry["crc32"]:
                raise DataError(f"{self.path / name} is damaged: delete {self.path}, it is made again")

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenStore, (self.path,)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a store or of a counted vocabulary.

    Raises:
        DataError: there is none, it cannot be read, or a newer version wrote it.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version = int(manifest["format"])
    except FileNotFoundError:
        raise DataError(
            f"{folder} is not a token store, it has no {MANIFEST}: if it was one, delete it, it is made again"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{folder / MANIFEST} is damaged: delete {folder}, it is made again") from None
    if version > FORMAT:
        raise DataError(
            f"{folder} was written by a newer skiplight (format {version}, this one reads {FORMAT}): update"
            " it, or give `data.store` another folder"
        )
    return manifest


def checksum(path: Path) -> int:
    """CRC-32 of a file."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return crc


def _check_size(path: Path, size: int) -> None:
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        raise DataError(f"{path} is missing: delete {path.parent}, it is made again") from None
    if found != size:
        raise DataError(f"{path} has {found:,} bytes, not {size:,}: delete {path.parent}, it is made again")


def _columns(path: Path, types: dict[str, pa.DataType]) -> list[np.ndarray]:
    """Views of the columns of an Arrow file of one record batch."""
    try:
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        batch = reader.get_batch(0)
    except FileNotFoundError:
        raise DataError(f"{path} is missing: delete {path.parent}, it is made again") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged ({error}): delete {path.parent}, it is made again") from None
    if reader.num_record_batches != 1 or reader.schema != pa.schema(list(types.items())):
        raise DataError(f"{path} is not a file of this format: delete {path.parent}, it is made again")
    return [batch.column(name).to_numpy() for name in types]
