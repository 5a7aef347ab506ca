"""Reads vectors that other tools wrote: word2vec's text and binary files, GloVe's, and the .vec files of fastText.

    word2vec, fastText   a line `V d`, then V rows: the word and d numbers on a line, or in binary files the word, a
                         space and d float32 numbers in little-endian order
    GloVe                lines of a word and d numbers, without the first line

Content decides which it is, not the name; a name that ends in .gz, .bz2 or .xz is of a compressed file. The last d
fields of a line are its numbers, so that words may contain spaces, as those of glove.840B do. There are no counts and
no output vectors in these files. Rows are by convention in the order of frequency.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import itertools
import logging
import lzma
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

import numpy as np

from skiplight.corpus.sources.decompression import FLOOR, RATIO, Bounded
from skiplight.errors import DataError, RunError
from skiplight.files import open_regular

log = logging.getLogger(__name__)

_OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
_OTHERS = {
    b"\xba\x16\x4f\x2f": "is a model of fastText: give the .vec file that fastText wrote beside it",
    b"PK\x03\x04": "is a zip archive: unpack it",
    b"\x1f\x8b": "is compressed: give it the ending .gz",
    b"BZh": "is compressed: give it the ending .bz2",
    b"\x80": "is a pickle, which is never read: export it with gensim's `save_word2vec_format`",
}
"""How files begin that are no such files, and what to do with them."""

_MAX_DIM = 65_536
_LONGEST_ROW = 1 << 22
_LONGEST_WORD = 1 << 16
_LINES = 4096
_CHUNK = 1 << 24
"""Bytes of a binary file that are read at a time; more than a row can have."""

_COPY = "copy it again"

Rows = tuple[list[str], np.ndarray]
"""Words [n] and their vectors, float32 [n, d]."""


class Layout(NamedTuple):
    """What the first lines of a file of vectors show.

    Attributes:
        rows: number of rows by the header; None without a header.
        dim: the dimension d.
        is_binary: whether numbers are float32 in bytes.
    """

    rows: int | None
    dim: int
    is_binary: bool


def read_vector_file(path: Path) -> Rows:
    """Return the words of a file, all different, and their vectors, float32 [V, d]; of a repeated word the first.

    Raises:
        DataError: the file is of no format that is read, or damaged; the message has the line or row.
        RunError: it cannot be opened.
    """
    layout = read_layout(path)
    words: list[str] = []
    # A header has been held against the size of the file, so it cannot ask for more memory than the file justifies.
    table = None if layout.rows is None else np.empty((layout.rows, layout.dim), np.float32)
    parts = []
    with _opened(path) as file:
        for found, vectors in (_binary_rows if layout.is_binary else _text_rows)(file, path, layout):
            if table is None:
                parts.append(vectors)
            else:
                table[len(words) : len(words) + len(found)] = vectors
            words += found
    if layout.rows is not None and len(words) < layout.rows:
        _refuse(path, f"it ends after {len(words):,} of the {layout.rows:,} rows of its first line; {_COPY}")
    return _without_repeated(path, words, np.concatenate(parts) if table is None else table)


def read_layout(path: Path) -> Layout:
    """Return the layout of a file, by its first two lines and its size; the errors are those of `read_vector_file`."""
    with _opened(path) as file:
        first, second = file.readline(_LONGEST_ROW), file.readline(_LONGEST_ROW)
    for begin, what in _OTHERS.items():
        if first.startswith(begin):
            raise DataError(f"{path} {what}")
    fields = first.split()
    if len(fields) != 2 or not all(field.isdigit() and len(field) < 16 for field in fields):
        if len(fields) < 2 or not _is_row(first, len(fields) - 1):
            _refuse(
                path,
                "line 1 is neither `V d`, the numbers of words and dimensions, nor a word and its numbers: give a file"
                " in the format of word2vec, GloVe or fastText (.vec), or a run folder",
            )
        return Layout(None, _checked_dim(path, len(fields) - 1), False)
    rows, dim = int(fields[0]), _checked_dim(path, int(fields[1]))
    is_binary = not _is_row(second, dim) and not _is_text(second)
    least = rows * (4 * dim + 2 if is_binary else 2 * dim + 1)
    if not rows or least > (limit := _size_limit(path)):
        says = f"line 1 says {rows:,} words of {dim:,} numbers"
        _refuse(path, f"{says}, at least {least:,} bytes, and it has {limit:,}; {_COPY}" if rows else says)
    return Layout(rows, dim, is_binary)


def _checked_dim(path: Path, dim: int) -> int:
    if not 1 <= dim <= _MAX_DIM:
        _refuse(path, f"line 1 says vectors of {dim:,} numbers: 1 to {_MAX_DIM:,} are read")
    return dim


def _text_rows(file: IO[bytes], path: Path, layout: Layout) -> Iterator[Rows]:
    """Yield the rows of some thousand lines at a time."""
    begin = 1 if layout.rows is None else 2
    lines = ((number, line) for number, line in enumerate(file, 1) if number >= begin and line.strip())
    left = layout.rows
    while part := list(itertools.islice(lines, _LINES)):
        if left is not None and len(part) > left:
            _refuse(path, f"line {part[left][0]}: there are more rows than the {layout.rows:,} of its first line")
        left = None if left is None else left - len(part)
        yield _parse_lines(path, part, layout.dim)


def _parse_lines(path: Path, lines: list[tuple[int, bytes]], dim: int) -> Rows:
    """Return the rows of numbered lines.

    Raises:
        DataError: a line is no word and `dim` finite numbers.
    """
    rows = [line.rsplit(None, dim) for _, line in lines]
    try:
        vectors = _as_float32(value for row in rows for value in row[1:]).reshape(len(rows), dim)
        words = [row[0].decode() for row in rows]
    except ValueError:  # of numbers, of their count, or of UTF-8
        vectors, words = np.full((1, dim), np.nan, np.float32), []
    if words and np.isfinite(vectors).all() and all(len(row) == dim + 1 for row in rows):
        return words, vectors
    number, line = next((number, line) for number, line in lines if not _is_row(line, dim))
    shown = line[:60].decode(errors="replace").rstrip()
    _refuse(path, f"line {number}: expected a word in UTF-8 and {dim} numbers, got {shown!r}; {_COPY}, or remove it")


def _is_row(line: bytes, dim: int) -> bool:
    """Return whether a line is a word and `dim` finite numbers."""
    row = line.rsplit(None, dim)
    try:
        row[0].decode()
        numbers = _as_float32(row[1:])
    except (ValueError, IndexError):
        return False
    return len(row) == dim + 1 and bool(np.isfinite(numbers).all())


def _as_float32(values: Iterable[bytes]) -> np.ndarray:
    with np.errstate(over="ignore"):  # what is too large is infinite, and refused as such
        return np.array([float(value) for value in values], np.float32)


def _is_text(line: bytes) -> bool:
    """Return whether bytes are UTF-8 without control characters, which float32 numbers hardly ever are."""
    with contextlib.suppress(UnicodeDecodeError):
        return all(character.isprintable() or character.isspace() for character in line.decode())
    return False


def _binary_rows(file: IO[bytes], path: Path, layout: Layout) -> Iterator[Rows]:
    """Yield the rows of some megabytes at a time."""
    assert layout.rows is not None
    file.readline(_LONGEST_ROW)
    width, done, buffer = 4 * layout.dim, 0, b""
    while done < layout.rows:
        buffer += file.read(_CHUNK)
        words: list[bytes] = []
        vectors: list[bytes] = []
        position = 0
        while done + len(words) < layout.rows:
            begin = 1 + buffer.find(b" ", position, position + _LONGEST_WORD)
            if not begin or begin + width > len(buffer):
                break
            words.append(buffer[position : begin - 1].removeprefix(b"\n"))  # which the original tool ends rows with
            vectors.append(buffer[begin : begin + width])
            position = begin + width
        buffer = buffer[position:]
        if not words:
            _refuse(path, f"it ends, or is damaged, in row {done + 1:,} of {layout.rows:,}; {_COPY}")
        yield _decoded(path, words, done), _finite(path, b"".join(vectors), layout.dim, done)
        done += len(words)
    if (buffer + file.read(1)).strip(b"\n"):
        _refuse(path, f"there is more after the {layout.rows:,} rows of its first line; {_COPY}")


def _decoded(path: Path, words: list[bytes], done: int) -> list[str]:
    for number, word in enumerate(words, done + 1):
        try:
            if not word.decode():
                _refuse(path, f"row {number:,} has no word; {_COPY}")
        except UnicodeDecodeError:
            _refuse(path, f"the word of row {number:,}, {word[:40]!r}, is not UTF-8; convert the file, or {_COPY}")
    return [word.decode() for word in words]


def _finite(path: Path, content: bytes, dim: int, done: int) -> np.ndarray:
    vectors = np.frombuffer(content, "<f4").reshape(-1, dim)
    finite = np.isfinite(vectors).all(1)
    if not finite.all():
        _refuse(path, f"row {done + 1 + int(finite.argmin()):,} has numbers that are not finite; {_COPY}")
    return vectors


def _without_repeated(path: Path, words: list[str], table: np.ndarray) -> Rows:
    first: dict[str, int] = {}
    for row, word in enumerate(words):
        first.setdefault(word, row)
    if len(first) == len(words):
        return words, table
    example = next(word for row, word in enumerate(words) if first[word] != row)
    log.warning(
        "%s: %d rows repeat a word, such as %r: the first of each counts", path, len(words) - len(first), example
    )
    return list(first), table[list(first.values())]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for reading its unpacked bytes.

    Raises:
        DataError: it cannot be unpacked, or unpacks to an implausible size.
        RunError: it cannot be opened or read.
    """
    try:
        with open_regular(path, "rb") as file:
            opener = _OPENERS.get(path.suffix.lower())
            if opener is None:
                yield file
            else:
                remedy = "if it is meant to, unpack it first"
                yield io.BufferedReader(Bounded(opener(file), _size_limit(path), str(path), remedy), 1 << 20)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise DataError(f"{path} cannot be unpacked ({error}); {_COPY}") from None
    except OSError as error:
        if error.errno is None:  # of bz2
            raise DataError(f"{path} cannot be unpacked ({error}); {_COPY}") from None
        raise RunError(f"{path} cannot be read: {error.strerror}") from None


def _size_limit(path: Path) -> int:
    """Return how many bytes a file may unpack to; the size of one that is not compressed."""
    size = os.path.getsize(path)
    return max(FLOOR, RATIO * size) if path.suffix.lower() in _OPENERS else size


def _refuse(path: Path, reason: str) -> NoReturn:
    raise DataError(f"{path}: {reason}")
