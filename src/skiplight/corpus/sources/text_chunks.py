"""A `datasets` builder that reads plain text in chunks of a few MB, cut at white space.

The `text` loader of `datasets` holds a whole line, paragraph or file in memory, several times. Here a row is a chunk,
however long lines are, and `rows.py` divides chunks into documents. Downloads, URLs and decompression are left to
`datasets`, which replaces `open` in this module by a function that supports them.

This module imports `datasets`, which takes about a second: import it inside a function.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import datasets
import pyarrow as pa
from datasets.builder import Key

from skiplight.corpus.text.documents import PIECE_BYTES
from skiplight.errors import DataError

_WHITE_SPACE = b" \t\n\v\f\r"


class TextChunks(datasets.ArrowBasedBuilder):
    """Rows {"text": a chunk}; the chunks of a file, joined, are the file, and each file is a shard."""

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=datasets.Features({"text": datasets.Value("string")}))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        dl_manager.download_config.extract_on_the_fly = True
        extracted = dl_manager.extract(dl_manager.download(self.config.data_files))
        return [
            datasets.SplitGenerator(name=split, gen_kwargs={"files": [dl_manager.iter_files(file) for file in files]})
            for split, files in extracted.items()
        ]

    def _generate_tables(self, files: list[Any]) -> Iterator[tuple[Key, pa.Table]]:
        for shard, members in enumerate(files):
            for member in members:
                with open(member, "rb") as file:
                    for index, chunk in enumerate(read_text_chunks(file, str(member))):
                        yield Key(shard, index), pa.table({"text": pa.array([chunk], pa.string())})


def read_text_chunks(file: Any, name: str, size: int = PIECE_BYTES) -> Iterator[str]:
    """Yield chunks of about `size` bytes of a file, cut before white space, so never within a token or separator.

    Raises:
        DataError: the file is not text in UTF-8; the message has the position.
    """
    rest, position = b"", 0
    while True:
        data = file.read(max(size - len(rest), size // 2))
        chunk = rest + data
        cut = _last_cut(chunk) if data else len(chunk)
        text, rest = chunk[:cut], chunk[cut:]
        if b"\0" in text:
            raise DataError(
                f"data.path: {name} is not a text file, it has a NUL byte at {position + text.index(0):,};"
                " give text in UTF-8, or name Parquet and JSON Lines files .parquet and .jsonl"
            )
        try:
            decoded = text.decode()
        except UnicodeDecodeError as error:
            raise DataError(
                f"data.path: {name} is not text in UTF-8 (byte {position + error.start:,}): convert it, for"
                " instance with `iconv -t UTF-8`"
            ) from None
        position += len(text)
        if decoded:
            yield decoded.removeprefix("\ufeff") if position == len(text) else decoded
        if not data:
            return


def _last_cut(chunk: bytes) -> int:
    """Return where the last white space of a chunk begins; 0 where there is none."""
    end = len(chunk.rstrip(_WHITE_SPACE))
    if end < len(chunk):
        return end
    last = max(chunk.rfind(bytes([character])) for character in _WHITE_SPACE)
    return len(chunk[: last + 1].rstrip(_WHITE_SPACE)) if last >= 0 else 0
