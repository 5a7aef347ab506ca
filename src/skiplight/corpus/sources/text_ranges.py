"""Reads documents of plain text from a range of a file's bytes: lines, paragraphs or the whole file.

A document belongs to the range that its first byte lies in, and its key is the position of that byte. So ranges that
cover a file give every document once, and none of them reads more of the file than itself and the rest of its last
document. Long documents come in pieces, cut before white space, so never within a token or a separator.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from skiplight.corpus.sources.byte_ranges import read_fully
from skiplight.corpus.text.documents import PIECE_BYTES
from skiplight.errors import DataError

BLANK_LINES = r"\n(?:[ \t\r]*\n)+"
_BLANK_BYTES = re.compile(BLANK_LINES.encode())
_WHITE_SPACE = b" \t\n\v\f\r"
_MARK = b"\xef\xbb\xbf"  # the byte order mark of UTF-8
_STEP = 512

Part = tuple[np.ndarray, pa.Array]
"""Positions of documents, int64 [n], and their texts or pieces of texts, [n]."""


def read_text_range(
    file: Any, begin: int, end: int | None, unit: str, name: str, size: int = PIECE_BYTES
) -> Iterator[Part]:
    """Yield the documents that begin in a range, in parts of about `size` bytes.

    Args:
        file: of bytes; `read` and, where `begin` is not 0, `seek`.
        begin, end: positions of the first byte and of the byte after the last; `end` None: the end of the file.
        unit: what one document is: `line`, `paragraph` or `document`, the whole file, which needs a range that is all.
        name: of the file, for errors.
        size: bytes of a part.

    Raises:
        DataError: the file is not text in UTF-8; the message has the position.

    >>> import io
    >>> for keys, texts in read_text_range(io.BytesIO(b"a b\\nc d\\ne"), 2, 6, "line", "x"):
    ...     print(keys.tolist(), texts.to_pylist())
    [4] ['c d']
    [4] ['\\n']
    """
    position, rest = find_document(file, begin, end, unit)
    if position is None:
        return
    document, step = position, tail_step(begin, end)
    while True:
        ahead = position + len(rest)
        if end is None or ahead < end:
            wanted = max(size - len(rest), size // 2)
            wanted = wanted if end is None else min(wanted, end - ahead)
        else:  # only the rest of the last document
            wanted = step = min(2 * step, size)
        data = read_fully(file, wanted)
        chunk = rest + data if rest else data
        cut = _last_cut(chunk) if data else len(chunk)
        text, rest = chunk[:cut], chunk[cut:]
        ends = _document_ends(text, unit)
        last = end is not None and len(ends) > 0 and position + int(ends[-1]) >= end
        if last and end is not None:  # what follows begins outside the range
            ends = ends[: int(np.searchsorted(ends, end - position)) + 1]
            text = text[: int(ends[-1])]
        if text:
            array = _split(text, ends, position, name)
            starts = np.concatenate(([document], position + ends))
            yield starts[: len(array)], array
            document = int(starts[-1])
            position += len(text)
        if last or not data:
            return


def tail_step(begin: int, end: int | None) -> int:
    """Return how many bytes to read at a time where the end of a document is near: few beside those of the range."""
    return min(max(((end or 0) - begin) // 64, _STEP), 64 << 10)


def find_document(file: Any, begin: int, end: int | None, unit: str) -> tuple[int | None, bytes]:
    """Return where the first document at or after `begin` begins, None where none does before `end`.

    Also returns what of the file was read from there on; the rest is read next.

    >>> import io
    >>> file = io.BytesIO(b"one\\n\\n\\ntwo\\nthree")
    >>> [find_document(file, begin, None, "line")[0] for begin in (0, 1, 4, 5, 8)]
    [0, 4, 4, 5, 10]
    >>> [find_document(file, begin, None, "paragraph")[0] for begin in (1, 5, 6, 7)]
    [6, 6, 6, None]
    """
    if begin == 0:
        return 0, b""
    if unit == "document":
        return None, b""
    back = _STEP if unit == "paragraph" else 1
    while True:
        start = max(begin - back, 0)
        file.seek(start)
        data = read_fully(file, begin - start)
        # Whether a document begins here depends on the line before, unless nothing of that line is to be seen.
        if unit == "line" or start == 0 or data.strip(b" \t\r\n"):
            break
        back *= 4
    step = tail_step(begin, end)
    while True:
        ahead = start + len(data)
        more = read_fully(file, step if end is None or ahead >= end else min(step, end - ahead))
        data += more
        step = min(2 * step, PIECE_BYTES)
        # A line ends where its end is; blank lines, where something follows them.
        whole = len(data) if not more or unit == "line" else _last_cut(data)
        ends = _document_ends(data[:whole], unit)
        ends = ends[ends >= begin - start]
        if len(ends) and (more or ends[0] < len(data)):
            first = start + int(ends[0])
            return (first, data[int(ends[0]) :]) if end is None or first < end else (None, b"")
        if not more or (end is not None and start + whole >= end):
            return None, b""


def _document_ends(text: bytes, unit: str) -> np.ndarray:
    """Return the positions after the separators of documents, int64 [n]."""
    if unit == "document":
        return np.zeros(0, np.int64)
    if unit == "line":
        return np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")) + 1
    return np.asarray([match.end() for match in _BLANK_BYTES.finditer(text)], np.int64)


def _split(text: bytes, ends: np.ndarray, position: int, name: str) -> pa.Array:
    """Return a chunk as pieces of documents, each with the separator that ends it, which counts as white space."""
    if b"\0" in text:
        raise DataError(
            f"data.path: {name} is not a text file, it has a NUL byte at {position + text.index(0):,};"
            " give text in UTF-8, or name Parquet and JSON Lines files .parquet and .jsonl"
        )
    # After a separator at the end of a chunk there is no piece: the next chunk begins the next document.
    offsets = np.concatenate(([0], ends, [len(text)] if not len(ends) or ends[-1] < len(text) else []))
    if position == 0 and text.startswith(_MARK):
        offsets[0] = len(_MARK)
        offsets = np.maximum(offsets, len(_MARK))
    data = pa.py_buffer(text)
    whole = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, len(text)], np.int32)), data)
    try:
        whole.validate(full=True)
    except pa.ArrowInvalid:
        try:
            text.decode()
        except UnicodeDecodeError as error:
            raise DataError(
                f"data.path: {name} is not text in UTF-8 (byte {position + error.start:,}): convert it, for"
                " instance with `iconv -t UTF-8`"
            ) from None
    return pa.StringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets.astype(np.int32)), data)


def _last_cut(chunk: bytes) -> int:
    """Return where the last white space of a chunk begins; 0 where there is none."""
    end = len(chunk.rstrip(_WHITE_SPACE))
    if end < len(chunk):
        return end
    last = max(chunk.rfind(bytes([character])) for character in _WHITE_SPACE)
    return len(chunk[: last + 1].rstrip(_WHITE_SPACE)) if last >= 0 else 0
