"""The token store: a text as ids in memory-mapped Arrow files, shared by all processes that train on it.

It is a folder, named by a fingerprint of the text and of the options that decide its ids:

    tokens.arrow, heldout-tokens.arrow        ids: int32, one record batch, uncompressed
    segments.arrow, heldout-segments.arrow    document, start, end: int64, one record batch
    vocabulary.tsv                            words and counts in id order
    manifest.json                             format version, options, counts, size and CRC-32s of each file

The manifest is written last, in a folder that is renamed when all is on disk (`build.py`), so a folder of that name is
complete unless it was damaged later. Sizes and segments are checked when the store is opened, the vocabulary when it is
first read, tokens in chunks of 1 MiB when they are first read, and everything by `verify`.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from skiplight.corpus.store.segments import SEGMENT_TOKENS
from skiplight.corpus.tokens import Permute, TokenSegments, find_block_bounds
from skiplight.corpus.vocabulary import Vocabulary
from skiplight.errors import DataError
from skiplight.files import read_json

FORMAT = 3
CHECKSUM_BYTES = 1 << 20
MANIFEST = "manifest.json"
VOCABULARY = "vocabulary.tsv"


class TokenSplit:
    """Training or held-out text of `tokens` tokens, memory-mapped; its length is its number of segments."""

    def __init__(self, folder: Path, checksums: dict[str, list[int]], prefix: str = "") -> None:
        self._folder, self._checksums, self._prefix = folder, checksums, prefix
        tokens, segments = (
            _CheckedFile(folder / f"{prefix}{name}.arrow", checksums) for name in ("tokens", "segments")
        )
        tokens.check(0, 1)  # Arrow reads the first and the last chunk to open the file
        tokens.check(tokens.size - 1, tokens.size)
        (self._ids,) = _columns(tokens, {"ids": pa.int32()})
        self._file = tokens
        segments.check(0, segments.size)
        self.document, self.start, self.end = _columns(
            segments, {"document": pa.int64(), "start": pa.int64(), "end": pa.int64()}
        )
        self.tokens = len(self._ids)
        if self.tokens != (int(self.end[-1]) if len(self) else 0):
            raise DataError(
                f"{folder / f'{prefix}segments.arrow'} does not fit its tokens: delete {folder}, it is made again"
            )

    def __len__(self) -> int:
        return len(self.end)

    def select(self, first: int, stop: int) -> TokenSegments:
        """Return segments `first` up to `stop`, whose `ids`, `document` and `start` are read-only views of the files.

        Reading `ids` raises a DataError where the part of the file that holds them is damaged.
        """
        return _MappedSegments(self, first, stop)

    def read_ids(self, begin: int, end: int) -> np.ndarray:
        """Return the ids of tokens `begin` up to `end`, a read-only view of the file.

        Raises:
            DataError: that part of the file is damaged.
        """
        ids = self._ids[begin:end]
        self._file.check_array(ids)
        return ids

    def block_bounds(self, block_tokens: int) -> np.ndarray:
        """Return the first segment of each block, and the number of segments, int64 [blocks + 1]."""
        return find_block_bounds(self.end, block_tokens)

    def read_blocks(self, block_tokens: int, permute: Permute, index: int = 0) -> Iterator[TokenSegments]:
        """Yield the segments of each block in the order of `permute`, from block `index` of that order on."""
        bounds = self.block_bounds(block_tokens)
        for block in permute(len(bounds) - 1)[index:]:
            yield self.select(int(bounds[block]), int(bounds[block + 1]))

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenSplit, (self._folder, self._checksums, self._prefix)


class _MappedSegments(TokenSegments):
    """Segments of mapped files, made when they are asked for: a rank asks only for the tokens of other ranks' blocks.

    The ids are compared with their checksums when they are first read.
    """

    def __init__(self, split: TokenSplit, first: int, stop: int) -> None:
        self._split, self._first, self._stop = split, first, stop
        self._begin = int(split.end[first - 1]) if first > 0 else 0

    def __len__(self) -> int:
        return self._stop - self._first

    @property
    def tokens(self) -> int:
        return (int(self._split.end[self._stop - 1]) if self._stop > 0 else 0) - self._begin

    @property
    def ids(self) -> np.ndarray:  # type: ignore[override]
        return self._split.read_ids(self._begin, self._begin + self.tokens)

    @property
    def segments(self) -> np.ndarray:  # type: ignore[override]
        return np.concatenate([np.zeros(1, np.int64), self._split.end[self._first : self._stop] - self._begin])

    @property
    def document(self) -> np.ndarray:  # type: ignore[override]
        return self._split.document[self._first : self._stop]

    @property
    def start(self) -> np.ndarray:  # type: ignore[override]
        return self._split.start[self._first : self._stop]


class _CheckedFile:
    """A memory-mapped file, of which each chunk of 1 MiB is compared with its checksum once."""

    def __init__(self, path: Path, checksums: dict[str, list[int]]) -> None:
        self.path = path
        try:
            self.map = pa.memory_map(str(path))
            self.size = self.map.size()
            self._buffer = self.map.read_buffer()
            self._expected = np.asarray(checksums[path.name], np.uint32)
        except (OSError, LookupError, ValueError, TypeError, OverflowError) as error:
            raise DataError(f"{path} cannot be read ({error}): {_remedy(path)}") from None
        if len(self._expected) != -(-self.size // CHECKSUM_BYTES):
            raise DataError(f"{path} has {self.size:,} bytes, which is not what was written: {_remedy(path)}")
        self._checked = np.zeros(len(self._expected), bool)

    def check(self, begin: int, stop: int) -> None:
        """Check the chunks that hold the bytes from `begin` up to `stop`.

        Raises:
            DataError: a chunk is damaged.
        """
        first, last = begin // CHECKSUM_BYTES, -(-stop // CHECKSUM_BYTES)
        if self._checked[first:last].all():
            return
        data = memoryview(self._buffer)
        for chunk in (first + np.flatnonzero(~self._checked[first:last])).tolist():
            if zlib.crc32(data[chunk * CHECKSUM_BYTES : (chunk + 1) * CHECKSUM_BYTES]) != self._expected[chunk]:
                raise DataError(f"{self.path} is damaged near byte {chunk * CHECKSUM_BYTES:,}: {_remedy(self.path)}")
            self._checked[chunk] = True

    def check_array(self, array: np.ndarray) -> None:
        """Check the chunks that hold an array, a view of the file."""
        if len(array):
            begin = array.ctypes.data - self._buffer.address
            self.check(begin, begin + array.nbytes)


class TokenStore:
    """A stored text; see `TokenText` for what it has in common with a streamed one. It is pickled as its path.

    Args:
        path: the folder.

    Raises:
        DataError: it is not a store, is damaged, or was written by a newer version.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.manifest = read_manifest(self.path)
        checksums = check_files(self.path, self.manifest)
        self.train = TokenSplit(self.path, checksums)
        self.heldout = TokenSplit(self.path, checksums, "heldout-")
        self.fingerprint: str = self.manifest["fingerprint"]
        self.seconds: dict[str, float] = self.manifest["seconds"]
        self.tokens = self.train.tokens

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The words of the ids; reading them raises a DataError where the file is damaged."""
        return load_vocabulary(self.path, self.manifest)

    def count_blocks(self, block_tokens: int) -> int:
        """Return the number of blocks per epoch."""
        return len(self.train.block_bounds(block_tokens)) - 1

    def read_blocks(self, block_tokens: int, permute: Permute, index: int = 0) -> Iterator[TokenSegments]:
        """Yield the segments of each block, in the order of `permute`, from block `index` of that order on."""
        return self.train.read_blocks(block_tokens, permute, index)

    def read_heldout(self, permute: Permute) -> Iterator[TokenSegments]:
        """Yield the held-out segments in blocks of one segment's size, in the order of `permute`."""
        return self.heldout.read_blocks(SEGMENT_TOKENS, permute)

    def verify(self) -> None:
        """Read all files and compare their checksums.

        Raises:
            DataError: naming the file that is damaged.
        """
        for name, entry in self.manifest["files"].items():
            found = compute_checksums(self.path / name)
            for chunk, expected in enumerate(entry["crc32"]):
                if found[chunk : chunk + 1] != [expected]:
                    path = self.path / name
                    raise DataError(f"{path} is damaged near byte {chunk * CHECKSUM_BYTES:,}: {_remedy(path)}")

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenStore, (self.path,)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a store, or of the vocabulary of a streamed text.

    Raises:
        DataError: there is none, it cannot be read, or a newer version wrote it.
    """
    try:
        manifest = read_json(folder / MANIFEST)
        version = int(manifest["format"])
        well_made = version > FORMAT or _well_made(manifest)
    except FileNotFoundError:
        raise DataError(
            f"{folder} is not a token store, it has no {MANIFEST}: if it was one, delete it, it is made again"
        ) from None
    except OSError as error:
        raise DataError(f"{folder / MANIFEST} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        well_made, version = False, 0
    if not well_made:
        raise DataError(f"{folder / MANIFEST} is damaged: delete {folder}, it is made again")
    if version > FORMAT:
        raise DataError(
            f"{folder} was written by a newer skiplight (format {version}, this one reads {FORMAT}): update"
            " it, or give `data.store` another folder"
        )
    return manifest


def _well_made(manifest: dict[str, Any]) -> bool:
    """Return whether a manifest has all entries that are read later, so that no reader need check them again."""
    files = {name: (int(entry["bytes"]), list(entry["crc32"])) for name, entry in manifest["files"].items()}
    entries = {"fingerprint", "tokens", "seconds", "pruned", "raw_tokens", "documents"}
    return entries <= manifest.keys() and VOCABULARY in files and all(Path(name).name == name for name in files)


def check_files(folder: Path, manifest: dict[str, Any]) -> dict[str, list[int]]:
    """Compare the sizes of all files with the manifest, and return the CRC-32s of the chunks of each file.

    Raises:
        DataError: a file is missing or of another size.
    """
    for name, entry in manifest["files"].items():
        path = folder / name
        try:
            found = path.stat().st_size
        except FileNotFoundError:
            raise DataError(f"{path} is missing: {_remedy(path)}") from None
        if found != entry["bytes"]:
            raise DataError(f"{path} has {found:,} bytes, not {entry['bytes']:,}: {_remedy(path)}")
    return {name: entry["crc32"] for name, entry in manifest["files"].items()}


def load_vocabulary(folder: Path, manifest: dict[str, Any]) -> Vocabulary:
    """Return the vocabulary of a store, or of a streamed text.

    Raises:
        DataError: it is damaged.
    """
    path = folder / VOCABULARY
    check_files(folder, manifest)
    if compute_checksums(path) != manifest["files"][VOCABULARY]["crc32"]:
        raise DataError(f"{path} is damaged: {_remedy(path)}")
    return Vocabulary.load(path)


def compute_checksums(path: Path) -> list[int]:
    """Return the CRC-32 of each chunk of a file."""
    with path.open("rb") as file:
        return [zlib.crc32(block) for block in iter(lambda: file.read(CHECKSUM_BYTES), b"")]


def _remedy(path: Path) -> str:
    return f"delete {path.parent}, it is made again"


def _columns(file: _CheckedFile, types: dict[str, pa.DataType]) -> list[np.ndarray]:
    """Return views of the columns of an Arrow file of one record batch."""
    try:
        reader = pa.ipc.open_file(file.map)
        batch = reader.get_batch(0)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file.path} is damaged ({error}): {_remedy(file.path)}") from None
    if reader.num_record_batches != 1 or reader.schema != pa.schema(list(types.items())):
        raise DataError(f"{file.path} is not a file of this format: {_remedy(file.path)}")
    return [batch.column(name).to_numpy() for name in types]
