"""`prepare`: from a source to a token store, or to a stream of tokens with a vocabulary."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from skiplight.corpus.sources.source import Source
from skiplight.corpus.store.build import NumberedFile, build_once, write_manifest, write_tokens
from skiplight.corpus.store.segments import ChunkCutter
from skiplight.corpus.store.stream import TokenStream
from skiplight.corpus.store.token_store import FORMAT, VOCABULARY, TokenStore, load_vocabulary, read_manifest
from skiplight.corpus.text.counting import WordCounts, count_threads
from skiplight.corpus.text.documents import Documents
from skiplight.corpus.text.encoding import Numbered, number_tokens
from skiplight.corpus.text.normalise import find_normaliser
from skiplight.corpus.vocabulary import Vocabulary, find_vocabulary
from skiplight.errors import DataError

log = logging.getLogger(__name__)

BYTES_PER_TOKEN = 100
"""Text with more bytes per token is probably not in the script that the normaliser keeps."""

Progress = Callable[[str, int], None]


def prepare(
    source: Source,
    *,
    normalise: str,
    min_count: int,
    stores: Path,
    max_size: int | None = None,
    vocabulary: Path | None = None,
    grow: bool = False,
    heldout: float = 0.01,
    streaming: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> TokenStore | TokenStream:
    """Return a text encoded by a vocabulary: its token store, built where there is none, or a stream.

    Args:
        source: the text.
        normalise: the name of a normaliser, such as `text8`; sequences of tokens are taken as they are.
        min_count: words that occur less often are left out of the vocabulary.
        stores: folder of all stores, each in a folder named by its fingerprint.
        max_size: keep only this many of the most frequent words.
        vocabulary: a `vocabulary.tsv`, or the folder of a run that has one, to use instead of counting.
        grow: take all words of `vocabulary` and the new ones of this text, and add up their counts.
        heldout: fraction of the text to hold out for evaluation.
        streaming: store only the vocabulary, no tokens, and encode the text each time it is read.
        threads: threads to encode with; default: the cores of this process, at most 8.
        progress: called with the stage, `vocabulary` or `encode`, and the number of raw tokens done so far.

    Raises:
        ConfigError: there is no such normaliser.
        DataError: the text cannot be read or is empty, the vocabulary has fewer than two words, or the disk is full.
    """
    normaliser = find_normaliser("none" if source.sequences else normalise)
    normalise = normaliser.name
    threads = threads or count_threads()
    vocabulary = find_vocabulary(vocabulary) if vocabulary else None
    given = Vocabulary.load(vocabulary) if vocabulary else None
    if given is not None:
        _check_vocabulary(given, f"vocabulary.path={vocabulary}: give one that has more")
    words: dict[str, Any] = {"min_count": min_count, "max_size": max_size}
    if given is not None:
        words = {"given": hashlib.blake2b(Path(vocabulary or "").read_bytes(), digest_size=16).hexdigest()}
        if grow:
            words["grown"] = min_count
    elif grow:
        raise DataError("vocabulary.grow=true: give `vocabulary.path` the vocabulary that is to grow")
    if grow and streaming:
        raise DataError("vocabulary.grow=true: not with `data.streaming=true`, whose epoch would have no known size")
    options: dict[str, Any] = {"source": source.fingerprint, "normalise": normaliser.identity, "vocabulary": words}
    options |= {"heldout": float(heldout), "stored": not streaming}
    fingerprint, *older = (_fingerprint(version, options) for version in range(FORMAT, 1, -1))
    folder = Path(stores) / fingerprint
    if not folder.exists() and any((found := Path(stores) / name).exists() for name in older):
        log.info("%s has the keys of an older format: the text is prepared anew, and that folder can be deleted", found)
    report = progress or (lambda stage, done: None)

    def make(temporary: Path) -> None:
        begin = time.perf_counter()
        log.info("preparing %s", source.describe)
        cutter = ChunkCutter()
        counts = WordCounts()
        file = None if streaming else NumberedFile(temporary / "numbered.arrow")
        raw = 0
        read = _Measured(source.documents())
        for batch in number_tokens(read, normalise, threads, cutter):
            if given is None or grow:
                counts.add(batch.words, batch.train_counts(heldout))
            if file:
                file.write(batch)
            raw += len(batch.ids)
            report("vocabulary", raw)
        if normalise == "text8" and read.bytes > max(raw, 1) * BYTES_PER_TOKEN:
            lost = f"`data.normalise=text8` keeps a to z only, {raw} words of {read.bytes:,} bytes of {source.describe}"
            remedy = "`data.normalise=unicode` keeps the letters of every language"
            if not raw:
                raise DataError(f"{lost}: {remedy}")
            log.warning("%s: %s", lost, remedy)
        if not raw:
            raise DataError(f"{source.loader.option}: {source.describe} is empty: there is not one word in it")
        found = given
        if found is None or grow:
            table = counts.table()
            if not table.num_rows:
                raise DataError(f"data.heldout={heldout}: all {raw} words of this text are held out; give 0")
            columns = table["word"].combine_chunks(), table["count"].to_numpy()
            if given is not None:
                found = given.grown_by(Vocabulary(*columns), min_count)
            else:
                found = Vocabulary.from_counts(*columns, min_count, max_size)
            _check_vocabulary(found, f"vocabulary.min_count={min_count}: lower it, or give more text than {raw} words")
        counted = time.perf_counter()
        manifest: dict[str, Any] = {
            "fingerprint": fingerprint,
            "text": source.describe,
            "options": options,
            "documents": cutter.documents,
            "raw_tokens": raw,
            "pruned": counts.pruned,
        }
        if file:
            file.close()
            manifest["tokens"] = write_tokens(temporary, _reported(file.read(), report), found, heldout)
            if not manifest["tokens"]["train"]:
                raise DataError(f"vocabulary.path={vocabulary}: it has none of the words of {source.describe}")
            file.path.unlink()
        else:
            found.save(temporary / VOCABULARY)
            manifest["tokens"] = None
        manifest["seconds"] = {
            "vocabulary": round(counted - begin, 3),
            "encode": round(time.perf_counter() - counted, 3),
        }
        write_manifest(temporary, manifest)
        log.info("%d documents, %d words, vocabulary of %d", cutter.documents, raw, len(found))

    if not streaming:
        store = build_once(folder, make, TokenStore)
        log.info("token store %s: %d tokens, %d held out", store.path, store.train.tokens, store.heldout.tokens)
        return store
    if given is not None:
        return TokenStream(source, normalise, given, heldout, fingerprint, threads=threads)
    manifest = build_once(folder, make, read_manifest)
    counted = load_vocabulary(folder, manifest)
    # Where words were pruned, some counts are too low, so their sum is not the number of tokens.
    tokens = None if manifest["pruned"] else int(counted.counts.sum())
    return TokenStream(
        source,
        normalise,
        counted,
        heldout,
        fingerprint,
        tokens=tokens,
        threads=threads,
        seconds=manifest["seconds"],
    )


def _fingerprint(version: int, options: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps([version, options], sort_keys=True).encode(), digest_size=16).hexdigest()


class _Measured:
    """Iterates documents, and counts their bytes without white space at either end."""

    def __init__(self, documents: Iterator[Documents]) -> None:
        self.documents, self.bytes = documents, 0

    def __iter__(self) -> Iterator[Documents]:
        for part in self.documents:
            if pa.types.is_string(part.texts.type):
                self.bytes += pc.sum(pc.binary_length(pc.utf8_trim_whitespace(part.texts))).as_py() or 0
            yield part


def _reported(batches: Iterator[Numbered], report: Progress) -> Iterator[Numbered]:
    done = 0
    for batch in batches:
        yield batch
        done += len(batch.ids)
        report("encode", done)


def _check_vocabulary(vocabulary: Vocabulary, remedy: str) -> None:
    if len(vocabulary) < 2:
        size = {0: "no word", 1: "one word"}[len(vocabulary)]
        raise DataError(f"the vocabulary has {size}, and two are the least to train on: {remedy}")
