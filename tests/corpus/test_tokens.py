"""The token store and the stream against a plain Python encoder, and against each other."""

import logging
import pickle
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skiplight.corpus import Source, TokenSegments, TokenSplit, TokenStore, TokenStream, TokenText, open_source, prepare
from skiplight.corpus.store.segments import CHUNK_TOKENS, SEGMENT_TOKENS, draw_heldout
from skiplight.corpus.text.documents import SHARD_ROWS
from skiplight.errors import DataError

Segment = tuple[int, int, list[str]]  # document, start, words


def naive(shards: list[list[str]], min_count: int, heldout: float) -> dict[str, list[Segment]]:
    """The segments of both splits, words split on white space, word by word."""
    chunks = []
    for shard, documents in enumerate(shards):
        for row, text in enumerate(documents):
            words = text.split()
            for chunk in range(-(-len(words) // CHUNK_TOKENS)):
                key = shard * SHARD_ROWS + row
                held = bool(draw_heldout(np.array([key]), np.array([chunk]), heldout)[0])
                chunks.append((key, held, words[chunk * CHUNK_TOKENS : (chunk + 1) * CHUNK_TOKENS]))
    counts = Counter(word for _, held, words in chunks if not held for word in words)
    segments: dict[str, list[Segment]] = {"train": [], "heldout": []}
    offsets: Counter[int] = Counter()
    for key, held, words in chunks:
        known = [word for word in words if counts[word] >= min_count]
        for begin in range(0, len(known), SEGMENT_TOKENS):
            segment = known[begin : begin + SEGMENT_TOKENS]
            segments["heldout" if held else "train"].append((key, offsets[key], segment))
            offsets[key] += len(segment)
    return segments


def listed(text: TokenText, part: TokenSegments) -> list[Segment]:
    words = text.vocabulary.words
    assert part.ids.dtype == np.int32
    assert part.segments.dtype == part.document.dtype == part.start.dtype == np.int64
    assert (part.segments[0], part.segments[-1]) == (0, len(part.ids))
    columns = zip(part.document.tolist(), part.start.tolist(), pairwise(part.segments.tolist()), strict=True)
    return [(document, start, [words[i] for i in part.ids[begin:end]]) for document, start, (begin, end) in columns]


def stored(store: TokenStore, split: TokenSplit) -> list[Segment]:
    return listed(store, split.select(0, len(split)))


def streamed(stream: TokenStream, parts: Iterable[TokenSegments]) -> list[Segment]:
    return [segment for part in parts for segment in listed(stream, part)]


def write(folder: Path, shards: list[list[str]]) -> Path:
    folder.mkdir(parents=True)
    for index, documents in enumerate(shards):
        pq.write_table(pa.table({"text": pa.array(documents, pa.string())}), folder / f"{index:03}.parquet")
    return folder


def text_of(length: int, seed: int) -> str:
    generator = random.Random(seed)
    return " ".join(generator.choices(["a", "b", "c", "d", "e", "f", "g"] + [f"rare{i}" for i in range(50)], k=length))


def source_of(folder: Path) -> Source:
    return open_source("files", path=folder, cache=folder.parent / "cache")


DOCUMENTS = st.builds(text_of, st.sampled_from([0, 0, 1, 3, 20, 999, 1001, 3000, 10_001, 25_000]), st.integers(0, 1000))
SHARDS = st.lists(st.lists(DOCUMENTS, max_size=4), min_size=1, max_size=3).filter(
    lambda shards: any(text for shard in shards for text in shard)
)


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(SHARDS, st.sampled_from([0.0, 0.3]), st.integers(1, 12))
def test_store_and_stream_are_what_python_makes_of_the_text(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[str]], heldout: float, min_count: int
) -> None:
    expected = naive(shards, min_count, heldout)
    if len({word for _, _, words in expected["train"] for word in words}) < 2:
        return
    folder = tmp_path_factory.mktemp("corpus")
    source = source_of(write(folder / "text", shards))
    options = {"normalise": "none", "min_count": min_count, "heldout": heldout, "stores": folder / "stores"}
    store = prepare(source, **options)
    assert isinstance(store, TokenStore)
    assert stored(store, store.train) == expected["train"]
    assert stored(store, store.heldout) == expected["heldout"]
    assert store.train.tokens == sum(store.vocabulary.counts)
    assert store.manifest["documents"] == sum(map(len, shards))
    store.verify()

    stream = prepare(source, **options, streaming=True)
    assert isinstance(stream, TokenStream)
    assert stream.vocabulary.words == store.vocabulary.words
    assert stream.tokens == store.train.tokens
    assert streamed(stream, stream.segments(range(len(stream.units)))) == expected["train"]
    assert streamed(stream, stream.segments(range(len(stream.units)), heldout=True)) == expected["heldout"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shards = [[text_of(n, 100 * shard + n) for n in (30, 2500, 0, 12_000, 700)] for shard in range(3)]
    return write(tmp_path_factory.mktemp("resume") / "text", shards)


def test_pickled_stores_and_streams_give_the_same(corpus: Path) -> None:
    source = source_of(corpus)
    options = {"normalise": "none", "min_count": 3, "heldout": 0.2, "stores": corpus.parent / "stores"}
    store = prepare(source, **options)
    stream = prepare(source, **options, streaming=True)
    assert isinstance(store, TokenStore)
    assert isinstance(stream, TokenStream)
    expected = streamed(stream, stream.segments([1]))
    assert len(pickle.dumps(store)) < 1000
    assert stored(pickle.loads(pickle.dumps(store)), store.train) == stored(store, store.train)
    split = pickle.loads(pickle.dumps(store.heldout))
    assert stored(store, split) == stored(store, store.heldout)
    again = pickle.loads(pickle.dumps(stream))
    assert streamed(again, again.segments([1])) == expected


def test_ids_are_views_of_the_file(corpus: Path) -> None:
    store = prepare(source_of(corpus), normalise="none", min_count=1, stores=corpus.parent / "stores")
    assert isinstance(store, TokenStore)
    part = store.train.select(1, 5)
    ids = part.ids
    assert (ids.dtype, len(ids)) == (np.int32, part.tokens)
    assert not ids.flags.owndata
    assert not ids.flags.writeable


def test_the_second_time_the_store_is_opened_not_built(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        first = prepare(source_of(corpus), normalise="text8", min_count=2, stores=tmp_path)
        assert "preparing" in caplog.text
        caplog.clear()
        begin = time.perf_counter()
        second = prepare(source_of(corpus), normalise="text8", min_count=2, stores=tmp_path)
        assert time.perf_counter() - begin < 1
    assert "preparing" not in caplog.text
    assert second.fingerprint == first.fingerprint
    for option in ({"min_count": 3}, {"normalise": "none"}, {"max_size": 9}, {"heldout": 0.5}):
        changed = {"normalise": "text8", "min_count": 2, "stores": tmp_path, **option}
        assert prepare(source_of(corpus), **changed).fingerprint != first.fingerprint


def test_a_store_of_an_older_format_is_built_anew_and_the_log_says_so(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"normalise": "text8", "min_count": 2, "stores": tmp_path}
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["skiplight.corpus.prepare"], "FORMAT", 2)
        old = prepare(source_of(corpus), **options)
    with caplog.at_level(logging.INFO):
        new = prepare(source_of(corpus), **options)
    assert isinstance(old, TokenStore)
    assert isinstance(new, TokenStore)
    assert new.path != old.path
    assert f"{old.path} has the keys of an older format" in caplog.text


def test_moved_files_are_the_same_text(corpus: Path, tmp_path: Path) -> None:
    before = source_of(corpus)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in corpus.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    after = open_source("files", path=moved, cache=tmp_path)
    assert after.fingerprint == before.fingerprint
    pq.write_table(pa.table({"text": ["another text"]}), moved / "001.parquet")
    assert open_source("files", path=moved, cache=tmp_path).fingerprint != before.fingerprint


def test_a_vocabulary_is_reused_as_it_is(corpus: Path, tmp_path: Path) -> None:
    first = prepare(source_of(corpus), normalise="none", min_count=5, max_size=6, stores=tmp_path)
    path = tmp_path / "kept.tsv"
    first.vocabulary.save(path)
    words = [first.vocabulary.words[i] for i in (3, 0, 1, 1, 3)]
    (tmp_path / "other.txt").write_text(" zebra ".join(words))
    other = open_source("files", path=tmp_path / "other.txt", cache=tmp_path)
    for streaming in (False, True):
        second = prepare(
            other,
            normalise="none",
            min_count=1,
            vocabulary=path,
            heldout=0,
            stores=tmp_path,
            streaming=streaming,
        )
        assert second.vocabulary.words == first.vocabulary.words
        assert second.vocabulary.counts.tolist() == first.vocabulary.counts.tolist()
        found = (
            stored(second, second.train) if isinstance(second, TokenStore) else streamed(second, second.segments([0]))
        )
        assert found == [(0, 0, words)]
    (tmp_path / "foreign.txt").write_text("none of these")
    foreign = open_source("files", path=tmp_path / "foreign.txt", cache=tmp_path)
    with pytest.raises(DataError, match=r"vocabulary\.path=.*none of the words"):
        prepare(foreign, normalise="none", min_count=1, vocabulary=path, heldout=0, stores=tmp_path)


def test_many_small_shards(tmp_path: Path) -> None:
    shards = [[text_of(5, shard)] for shard in range(150)]
    folder = tmp_path / "text"
    folder.mkdir()
    for index, (text,) in enumerate(shards):
        (folder / f"{index:04}.txt").write_text(text)
    store = prepare(source_of(folder), normalise="none", min_count=1, heldout=0.1, stores=tmp_path)
    assert isinstance(store, TokenStore)
    assert stored(store, store.train) == naive(shards, 1, 0.1)["train"]
    assert stored(store, store.heldout) == naive(shards, 1, 0.1)["heldout"]


@pytest.mark.parametrize("suffix", ["txt", "jsonl"])
def test_one_long_line_is_one_document(tmp_path: Path, suffix: str) -> None:
    words = np.random.default_rng(0).choice(["alpha", "beta", "gamma", "delta"], 2_000_000).tolist()
    text = " ".join(words)  # 11 MB, so three blocks
    path = tmp_path / f"line.{suffix}"
    path.write_text(text if suffix == "txt" else f'{{"text": "{text}"}}\n')
    source = open_source("files", path=path, cache=tmp_path, document="line")
    assert len(list(source.read(source.units[0]))) >= 3
    store = prepare(source, normalise="text8", min_count=1, heldout=0.1, stores=tmp_path)
    assert isinstance(store, TokenStore)
    assert store.manifest["documents"] == 1
    assert store.train.tokens + store.heldout.tokens == len(words)
    assert 0.05 < store.heldout.tokens / len(words) < 0.15
    # Held-out and training segments, put together by their offsets, are the line again.
    ids = np.full(len(words), -1)
    for split in (store.train, store.heldout):
        part = split.select(0, len(split))
        offset = np.arange(split.tokens) - np.repeat(part.segments[:-1] - part.start, np.diff(part.segments))
        ids[offset] = part.ids
    assert (ids == store.vocabulary.encode(pa.array(words))).all()


def test_progress_is_told_in_words(corpus: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    store = prepare(
        source_of(corpus),
        normalise="none",
        min_count=1,
        stores=tmp_path,
        progress=lambda stage, done: told.append((stage, done)),
    )
    assert isinstance(store, TokenStore)
    assert told[-1] == ("encode", store.manifest["raw_tokens"])
    assert ("vocabulary", store.manifest["raw_tokens"]) in told
    assert set(store.seconds) == {"vocabulary", "encode"}
