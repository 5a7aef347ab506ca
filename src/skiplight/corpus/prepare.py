"""`prepare`: from a source to a token store, or to a stream of tokens with a vocabulary."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from skiplight.corpus.sources.file_lists import is_url
from skiplight.corpus.sources.source import Source
from skiplight.corpus.sources.units import FileReader, Listing
from skiplight.corpus.store.build import build_once, write_manifest, write_tokens
from skiplight.corpus.store.parts import Part, PartMaker, merge_counts, remove_parts
from skiplight.corpus.store.stream import TokenStream
from skiplight.corpus.store.token_store import FORMAT, VOCABULARY, TokenStore, load_vocabulary, read_manifest
from skiplight.corpus.text.counting import count_threads
from skiplight.corpus.text.encoding import Numbered
from skiplight.corpus.text.normalise import find_normaliser
from skiplight.corpus.vocabulary import Vocabulary, find_vocabulary
from skiplight.errors import DataError

log = logging.getLogger(__name__)

BYTES_PER_TOKEN = 100
"""Text with more bytes per token is probably not in the script that the normaliser keeps."""

UNITS = "units.json"

_UNDERSCORE = re.compile(r"[^\W_]_[^\W_]")

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
        vocabulary: a `vocabulary.tsv`, the folder of a run that has one, or a file of a word and a count per line, to
            use instead of counting.
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

    parts = folder.with_name(f"{fingerprint}.parts")
    counted = given is None or grow
    started = time.perf_counter()

    def make_parts() -> list[Part]:
        maker = PartMaker(
            source, normalise, heldout, parts, counted, not streaming, threads, lambda done: report("vocabulary", done)
        )
        try:
            return maker.make(folder.exists)
        except Exception:
            remove_parts(parts, unless_done=True)
            raise

    def make(temporary: Path) -> None:
        try:
            merge(temporary)
        except DataError:  # by which other options, so other parts, are wanted
            remove_parts(parts)
            raise

    def merge(temporary: Path) -> None:
        made = make_parts()  # none is left to make, unless another process gave up
        raw, read_bytes = sum(part.raw for part in made), sum(part.bytes for part in made)
        report("vocabulary", raw)
        if normalise == "text8" and read_bytes > max(raw, 1) * BYTES_PER_TOKEN:
            lost = f"`data.normalise=text8` keeps a to z only, {raw} words of {read_bytes:,} bytes of {source.describe}"
            remedy = "`data.normalise=unicode` keeps the letters of every language"
            if not raw:
                raise DataError(f"{lost}: {remedy}")
            log.warning("%s: %s", lost, remedy)
        _log_underscores(source, normalise)
        if not raw:
            raise DataError(f"{source.loader.option}: {source.describe} is empty: there is not one word in it")
        found, pruned = given, 0
        if found is None or grow:
            counts, table = merge_counts(made)
            pruned = counts.pruned
            if not table.num_rows:
                raise DataError(f"data.heldout={heldout}: all {raw} words of this text are held out; give 0")
            columns = table["word"].combine_chunks(), table["count"].to_numpy()
            _check_separator(source, columns[0], raw, sum(part.documents for part in made))
            if given is not None:
                found = given.grown_by(Vocabulary(*columns), min_count)
            else:
                found = Vocabulary.from_counts(*columns, min_count, max_size)
            _check_vocabulary(found, f"vocabulary.min_count={min_count}: lower it, or give more text than {raw} words")
        counted_at = time.perf_counter()
        manifest: dict[str, Any] = {
            "fingerprint": fingerprint,
            "text": source.describe,
            "options": options,
            "documents": (documents := sum(part.documents for part in made)),
            "raw_tokens": raw,
            "pruned": pruned,
        }
        if not streaming:
            numbered = itertools.chain.from_iterable(part.numbered() for part in made)
            sizes, occurring = write_tokens(temporary, _reported(numbered, report), found, heldout)
            if not sizes["train"]:
                raise DataError(f"vocabulary.path={vocabulary}: it has none of the words of {source.describe}")
            manifest |= {"tokens": sizes, "occurring": occurring}
        else:
            found.save(temporary / VOCABULARY)
            source.units.save(temporary / UNITS)
            manifest["tokens"] = None
        manifest["seconds"] = {
            "vocabulary": round(counted_at - started, 3),
            "encode": round(time.perf_counter() - counted_at, 3),
        }
        write_manifest(temporary, manifest)
        log.info("%d documents, %d words, vocabulary of %d", documents, raw, len(found))

    if not streaming:
        store = build_once(folder, make, TokenStore, make_parts)
        remove_parts(parts)
        log.info("token store %s: %d tokens, %d held out", store.path, store.train.tokens, store.heldout.tokens)
        if given is not None and not grow:
            _log_overlap(f"vocabulary.path={vocabulary}", store)
        return store
    if given is not None:
        return TokenStream(source, normalise, given, heldout, fingerprint, threads=threads)
    manifest = build_once(folder, make, read_manifest, make_parts)
    remove_parts(parts)
    words_counted = load_vocabulary(folder, manifest)
    source.units = Listing.load(folder / UNITS)
    # Where words were pruned, some counts are too low, so their sum is not the number of tokens.
    tokens = None if manifest["pruned"] else int(words_counted.counts.sum())
    return TokenStream(
        source,
        normalise,
        words_counted,
        heldout,
        fingerprint,
        tokens=tokens,
        threads=threads,
        seconds=manifest["seconds"],
    )


def _fingerprint(version: int, options: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps([version, options], sort_keys=True).encode(), digest_size=16).hexdigest()


def _reported(batches: Iterator[Numbered], report: Progress) -> Iterator[Numbered]:
    done = 0
    for batch in batches:
        yield batch
        done += len(batch.ids)
        report("encode", done)


def _log_overlap(option: str, store: TokenStore) -> None:
    """Log how far a given vocabulary and the text agree; stores of older versions do not know it."""
    occurring, raw = (store.manifest.get(name) for name in ("occurring", "raw_tokens"))
    if isinstance(occurring, int) and isinstance(raw, int) and raw > 0:
        log.info(
            "%s: %s of its %s words occur in the text, and are %.1f %% of its words",
            option,
            f"{occurring:,}",
            f"{len(store.vocabulary):,}",
            100 * (store.train.tokens + store.heldout.tokens) / raw,
        )


def _check_separator(source: Source, words: pa.Array, raw: int, documents: int) -> None:
    """Raise a DataError if the words look like several, since something else than white space separates them."""
    marked = pc.match_substring_regex(words, r"[^,;|][,;|][^,;|]")
    if (len(words) >= 2 and not (source.sequences and raw <= documents)) or not pc.any(marked).as_py():
        return
    word = words.filter(marked)[0].as_py()
    mark = {",": "comma", ";": "semicolon", "|": "pipe"}[next(character for character in word if character in ",;|")]
    kinds = "sequence is one word" if source.sequences else "word is the same"
    raise DataError(
        f"data.separator: each {kinds}, such as {word!r}, which looks like several: give `data=sequences"
        f" data.separator={mark}`"
    )


def _log_underscores(source: Source, normalise: str) -> None:
    """Log that a normaliser splits words at underscores, if the beginning of the text has many such words."""
    loader = source.loader
    if normalise not in ("text8", "unicode") or not isinstance(loader, FileReader) or not len(source.units):
        return
    if is_url(loader.files[0]):  # which is not fetched again for this
        return
    first = next(iter(loader.read(source.units[0], source.units)), None)
    words = [] if first is None else " ".join(filter(None, first[1][:1000].to_pylist()))[:1_000_000].split()
    joined = [word for word in words if _UNDERSCORE.search(word)]
    if joined and len(joined) * 1000 >= len(words):
        log.info(
            "data.normalise=%s splits words at underscores, such as %r: `data.normalise=none` keeps them",
            normalise,
            joined[0],
        )


def _check_vocabulary(vocabulary: Vocabulary, remedy: str) -> None:
    if len(vocabulary) < 2:
        size = {0: "no word", 1: "one word"}[len(vocabulary)]
        raise DataError(f"the vocabulary has {size}, and two are the least to train on: {remedy}")
