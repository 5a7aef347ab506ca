"""Building a token store, or only a vocabulary: once, and completely or not at all.

One pass over the text, in parts (`parts.py`), numbers its tokens batch by batch, each batch by its own dictionary,
writes them to temporary Arrow files, and counts words. Once the vocabulary is known, a pass over these files, which
have a fifth of the text's size and need no normalising, translates the dictionaries and writes the store.

All is written to `<fingerprint>.building`, which is renamed to `<fingerprint>` when it is complete. A lock on
`<fingerprint>.lock`, removed afterwards, lets one of several processes build while the others wait. The system releases
the lock of a killed process, and the next process removes the incomplete folder.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from skiplight.corpus.store.segments import HeldoutChunks
from skiplight.corpus.store.token_store import FORMAT, MANIFEST, VOCABULARY, compute_checksums
from skiplight.corpus.text.encoding import Indexer, Numbered
from skiplight.corpus.tokens import TokenSegments
from skiplight.corpus.vocabulary import Vocabulary
from skiplight.errors import DataError
from skiplight.files import locked, refuse_shared, sync

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_NUMBERED = pa.schema(
    [
        ("words", pa.list_(pa.string())),
        ("ids", pa.list_(pa.int32())),
        ("document", pa.list_(pa.int64())),
        ("chunk", pa.list_(pa.int64())),
        ("raw", pa.list_(pa.int64())),
    ]
)


def build_once(
    folder: Path, make: Callable[[Path], None], load: Callable[[Path], _T], share: Callable[[], object] | None = None
) -> _T:
    """Load `folder`. Where it does not exist, first let `make` fill a temporary folder, and rename that.

    Args:
        folder: to load.
        make: fills a folder; called by one process, while the others wait.
        load: returns what the folder holds.
        share: called before, by all processes, to share the work.

    Raises:
        ConfigError: every user may write to the folder that it is in, and could change it.
        DataError: the disk is full or cannot be written to; no incomplete folder is left.
    """
    refuse_shared(folder.parent, "give `data.store` a folder of your own")
    if folder.exists():
        with contextlib.suppress(OSError):  # the folder of another user
            os.utime(folder)  # the time of the last use
        return load(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if share is not None:
            share()
        waiting = functools.partial(log.info, "another process is preparing the same text; waiting for it")
        with locked(folder.with_name(f"{folder.name}.lock"), wait=waiting):
            if not folder.exists():
                _make(folder, make)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise DataError(
            f"data.store={folder.parent}: cannot be written ({reason}); free some space,"
            " or give `data.store` a folder on another disk"
        ) from error
    return load(folder)


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    temporary = folder.with_name(f"{folder.name}.building")
    if temporary.exists():
        log.warning("removing %s, which an interrupted run left", temporary)
        shutil.rmtree(temporary)
    temporary.mkdir()
    try:
        make(temporary)
        for path in (*temporary.iterdir(), temporary):
            sync(path)
        temporary.rename(folder)
        sync(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Write `manifest.json` with the format version and the size and checksums of all files of the folder."""
    files = {
        path.name: {"bytes": path.stat().st_size, "crc32": compute_checksums(path)} for path in sorted(folder.iterdir())
    }
    text = json.dumps({"format": FORMAT, **manifest, "files": files}, indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


class NumberedFile:
    """The temporary file between the passes: a record batch of one row, whose columns are lists, per batch of text."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, _NUMBERED)

    def write(self, batch: Numbered) -> None:
        values = (batch.words, batch.ids, batch.chunks.document, batch.chunks.chunk, batch.chunks.raw)
        columns = [pa.ListArray.from_arrays(pa.array([0, len(value)], pa.int32()), pa.array(value)) for value in values]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=_NUMBERED))

    def close(self) -> None:
        self._writer.close()
        self._sink.close()

    @staticmethod
    def read_from(path: Path) -> Iterator[Numbered]:
        """Yield the batches again, in order; the file is read rather than mapped, so that memory stays bounded."""
        with pa.OSFile(str(path)) as file:
            reader = pa.ipc.open_file(file)
            for index in range(reader.num_record_batches):
                batch = reader.get_batch(index)
                words, *arrays = [batch.column(name).flatten() for name in _NUMBERED.names]
                ids, document, chunk, raw = [array.to_numpy() for array in arrays]
                yield Numbered(words, ids, HeldoutChunks(document, chunk, raw))


def write_tokens(
    folder: Path, batches: Iterable[Numbered], vocabulary: Vocabulary, heldout: float
) -> tuple[dict[str, int], int]:
    """Write the token and segment files and the vocabulary.

    Returns:
        the number of tokens of each split, and how many words of the vocabulary occur among them.
    """
    indexer = Indexer(vocabulary, heldout)
    train, aside = _SplitWriter(folder, ""), _SplitWriter(folder, "heldout-")
    occurs = np.zeros(len(vocabulary), dtype=bool)
    for train_part, heldout_part in indexer.index(batches):
        train.write(train_part)
        aside.write(heldout_part)
        occurs[train_part.ids] = occurs[heldout_part.ids] = True
    vocabulary.save(folder / VOCABULARY)
    return {"train": train.finish(), "heldout": aside.finish()}, int(occurs.sum())


class _SplitWriter:
    """Writes one split: plain columns while parts arrive, then all of them as one Arrow record batch.

    In one record batch every range of tokens is a view of the mapped file, but its size is known only at the end.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder, self._prefix = folder, prefix
        self._files = {
            name: (folder / f"{prefix}{name}.raw").open("wb") for name in ("ids", "document", "start", "begin")
        }
        self._tokens = 0

    def write(self, part: TokenSegments) -> None:
        columns = (part.ids, part.document, part.start, part.segments[:-1] + self._tokens)
        for file, values in zip(self._files.values(), columns, strict=True):
            file.write(np.ascontiguousarray(values).data)
        self._tokens += part.tokens

    def finish(self) -> int:
        # A segment ends where the next one begins, so `end` is `begin` without its first, and the total.
        self._files["begin"].write(np.int64(self._tokens).tobytes())
        for file in self._files.values():
            file.close()
        self._write("tokens", {"ids": self._read("ids", np.int32)})
        segments = {name: self._read(name, np.int64) for name in ("document", "start")}
        self._write("segments", {**segments, "end": self._read("begin", np.int64)[1:]})
        for file in self._files.values():
            os.unlink(file.name)
        return self._tokens

    def _read(self, name: str, dtype: type) -> np.ndarray:
        path = Path(self._files[name].name)
        return np.memmap(path, dtype, "r") if path.stat().st_size else np.zeros(0, dtype)

    def _write(self, name: str, columns: dict[str, np.ndarray]) -> None:
        batch = pa.RecordBatch.from_pydict({key: pa.array(value) for key, value in columns.items()})
        options = pa.ipc.IpcWriteOptions(allow_64bit=True)
        with (
            pa.OSFile(str(self._folder / f"{self._prefix}{name}.arrow"), "wb") as sink,
            pa.ipc.new_file(sink, batch.schema, options=options) as writer,
        ):
            writer.write_batch(batch)
