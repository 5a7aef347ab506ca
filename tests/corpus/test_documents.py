"""Cutting text into pieces, chunks and segments never shows in what comes out."""

import io
import json
import re
from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from skiplight.corpus.sources.json_lines import read_json_range
from skiplight.corpus.sources.text_ranges import read_text_range
from skiplight.corpus.store.segments import (
    CHUNK_TOKENS,
    SEGMENT_TOKENS,
    ChunkCutter,
    HeldoutChunks,
    SegmentCutter,
    draw_heldout,
)
from skiplight.corpus.text.documents import Documents, batch_documents, split_documents
from skiplight.corpus.tokens import TokenSegments

TEXTS = st.lists(st.text("aé字 \n\t", max_size=40), max_size=8)


@given(TEXTS, st.integers(1, 20), st.booleans(), st.integers(0, 3))
def test_pieces_joined_are_the_texts(texts: list[str], limit: int, wide: bool, skip: int) -> None:
    array = pa.array(texts, pa.large_string() if wide else pa.string()).slice(skip)
    keys = np.arange(len(array)) * 7
    joined: dict[int, str] = {}
    words: dict[int, list[str]] = {}
    for part in split_documents(keys, array, limit):
        assert part.texts.type == pa.string()
        for key, text in zip(part.keys.tolist(), part.texts.to_pylist(), strict=True):
            joined[key] = joined.get(key, "") + text
            words.setdefault(key, []).extend(text.split())
    assert list(joined.values()) == array.to_pylist()
    assert list(words.values()) == [text.split() for text in array.to_pylist()]  # no word is cut


def test_pieces_are_no_longer_than_they_must_be() -> None:
    text = " ".join(["word"] * 10_000)
    parts = list(split_documents(np.array([3]), pa.array([text]), 1000))
    assert max(part.texts.nbytes for part in parts) < 1100
    assert {key for part in parts for key in part.keys.tolist()} == {3}


@given(TEXTS, st.integers(1, 50))
def test_batches_keep_order(texts: list[str], limit: int) -> None:
    single = [Documents(np.array([i]), pa.array([text])) for i, text in enumerate(texts)]
    joined = list(batch_documents(iter(single), limit))
    assert [text for part in joined for text in part.texts.to_pylist()] == texts
    assert [key for part in joined for key in part.keys.tolist()] == list(range(len(texts)))


class Reader(io.RawIOBase):
    """A binary file that returns less than it is asked for, as a connection does, and counts its bytes."""

    def __init__(self, data: bytes, most: int) -> None:
        super().__init__()
        self.data, self.most, self.place, self.bytes = data, most, 0, 0

    def seek(self, place: int, whence: int = 0) -> int:
        self.place = place
        return place

    def read(self, size: int = -1) -> bytes:
        found = self.data[self.place : self.place + min(size, self.most)]
        self.place += len(found)
        self.bytes += len(found)
        return found


SEPARATORS = {"line": r"\n", "paragraph": r"\n(?:[ \t\r]*\n)+"}


def documents_of(text: str, unit: str) -> dict[int, str]:
    """The documents by the byte that each begins at, by a search of the whole text."""
    ends = [match.end() for match in re.finditer(SEPARATORS[unit], text)] if unit != "document" else []
    bounds = [0, *ends, *([] if ends and ends[-1] == len(text) else [len(text)])]
    return {len(text[:begin].encode()): text[begin:end] for begin, end in pairwise(bounds) if end}


@given(
    st.text("ab字 \n\r\t", max_size=80) | st.text("a \n", max_size=80),
    st.integers(4, 30),
    st.integers(1, 30),
    st.lists(st.integers(1, 200), max_size=6),
)
def test_ranges_of_a_text_file_give_every_document_once(text: str, size: int, most: int, cuts: list[int]) -> None:
    data = text.encode()
    bounds = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
    for unit in SEPARATORS:
        for ranges in ([(0, None)], list(pairwise(bounds))):
            found: dict[int, str] = {}
            for begin, end in ranges:
                here: dict[int, str] = {}
                for keys, texts in read_text_range(Reader(data, most), begin, end, unit, "file", size):
                    for key, piece in zip(keys.tolist(), texts.to_pylist(), strict=True):
                        here[key] = here.get(key, "") + piece
                assert all(begin <= key and (end is None or key < end) for key in here)
                assert not here.keys() & found.keys()
                found |= here
            assert found == documents_of(text, unit)
            assert list(found) == sorted(found)
    whole = [
        text for _, texts in read_text_range(Reader(data, most), 0, None, "document", "file", size) for text in texts
    ]
    assert "".join(map(str, whole)) == text


@given(
    st.lists(st.text("a\n字\"", max_size=12) | st.none(), max_size=12), st.text("\n ", max_size=3),
    st.lists(st.integers(1, 200), max_size=6), st.integers(1, 30),
)  # fmt: skip
def test_ranges_of_json_lines_give_every_row_once(rows: list, blank: str, cuts: list[int], most: int) -> None:
    lines = [json.dumps({"n": 1, "text": row}, ensure_ascii=False).encode() for row in rows]
    data = blank.encode() + b"\n" * bool(blank) + b"".join(line + b"\n" + blank.encode() for line in lines)
    # A blank line may be indented: a row then begins where its line begins.
    position, expected = 0, {}
    for line in data.split(b"\n"):
        if line.strip():
            expected[position] = json.loads(line)["text"]
        position += len(line) + 1
    bounds = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
    for ranges in ([(0, None)], list(pairwise(bounds))):
        found: dict[int, object] = {}
        for begin, end in ranges:
            for keys, values in read_json_range(Reader(data, most), begin, end, "text", pa.string(), "file"):
                assert all(begin <= key and (end is None or key < end) for key in keys.tolist())
                found |= dict(zip(keys.tolist(), values.to_pylist(), strict=True))
        assert found == expected


def test_a_range_reads_little_more_than_itself() -> None:
    lines = [b"word " * 50 + b"\n"] * 4000  # 1 MB
    data = b"".join(lines)
    for begin, end in pairwise(range(0, len(data) + 1, len(data) // 16)):
        file = Reader(data, 1 << 16)
        assert sum(len(keys) for keys, _ in read_text_range(file, begin, end, "line", "file")) in (250, 251)
        assert file.bytes < 1.1 * (end - begin)


def test_a_line_over_several_ranges_is_in_the_first_and_no_other_reads_on() -> None:
    data = b"one\n" + b"word " * 100_000 + b"\ntwo\n"
    for begin, end in pairwise(range(0, len(data) + 1, len(data) // 5)):
        file = Reader(data, 1 << 16)
        found = {key for keys, _ in read_text_range(file, begin, end, "line", "file", 1 << 16) for key in keys.tolist()}
        assert found == ({0, 4} if begin == 0 else {500_005} if begin <= 500_005 < end else set())
        assert file.bytes <= (len(data) if begin == 0 else end - begin + (1 << 13))


LENGTHS = st.sampled_from([0, 1, 999, 1000, 1001, 2500, 9_999, 10_000, 10_001, 25_000])


@settings(deadline=None)
@given(st.lists(LENGTHS, max_size=6), st.integers(0, 2**32 - 1))
def test_segments_do_not_depend_on_batches(lengths: list[int], seed: int) -> None:
    """Documents cut into random pieces in random batches, against a loop over chunks and segments."""
    random = np.random.default_rng(seed)
    known = [random.random(n) < 0.8 for n in lengths]
    expected: dict[bool, list[tuple[int, int, int]]] = {False: [], True: []}  # (document, start, tokens)
    for document, flags in enumerate(known):
        offset = 0
        for chunk in range(-(-len(flags) // CHUNK_TOKENS)):
            held = bool(draw_heldout(np.array([document]), np.array([chunk]), 0.4)[0])
            left = int(flags[chunk * CHUNK_TOKENS : (chunk + 1) * CHUNK_TOKENS].sum())
            while left:
                size = min(left, SEGMENT_TOKENS)
                expected[held].append((document, offset, size))
                offset, left = offset + size, left - size

    cut = [(document, piece) for document, flags in enumerate(known) for piece in cut_up(flags, random)]
    chunk_cutter, segment_cutter = ChunkCutter(), SegmentCutter()
    found = {False: TokenSegments.empty(), True: TokenSegments.empty()}
    told = 0
    while cut:
        size = int(random.integers(0, 4))
        batch, cut = cut[:size], cut[size:]
        chunks = chunk_cutter.cut(
            np.array([document for document, _ in batch], dtype=np.int64),
            np.array([len(piece) for _, piece in batch], dtype=np.int64),
        )
        flags = np.concatenate([piece for _, piece in batch]) if batch else np.zeros(0, dtype=bool)
        tokens = np.array([part.sum() for part in np.split(flags, np.cumsum(chunks.raw))[:-1]], dtype=np.int64)
        held = draw_heldout(chunks.document, chunks.chunk, 0.4)
        ids = np.arange(told, told + tokens.sum(), dtype=np.int32)  # each token by its number in the text
        told += len(ids)
        for split, part in zip((False, True), segment_cutter.cut(chunks, tokens, held, ids), strict=True):
            found[split] = found[split].concatenate(part)
    numbers = np.cumsum([0, *(flags.sum() for flags in known)])
    for split in (False, True):
        part = found[split]
        sizes = np.diff(part.segments)
        assert list(zip(part.document.tolist(), part.start.tolist(), sizes.tolist(), strict=True)) == expected[split]
        assert part.ids.tolist() == [
            numbers[document] + start + i for document, start, size in expected[split] for i in range(size)
        ]
    assert chunk_cutter.documents == len(lengths)


def cut_up(flags: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
    return np.split(flags, np.sort(random.integers(0, len(flags) + 1, random.integers(0, 4))))


def test_nothing_is_cut_from_nothing() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    chunks = ChunkCutter().cut(nothing, nothing)
    assert len(chunks.raw) == 0
    chunks = HeldoutChunks(nothing, nothing, nothing)
    train, held = SegmentCutter().cut(chunks, nothing, nothing.astype(bool), nothing.astype(np.int32))
    assert len(train) == len(held) == train.tokens == held.tokens == 0


def test_held_out_text_is_the_wanted_share_and_grows_with_it() -> None:
    document, chunk = np.divmod(np.arange(200_000), 3)
    tenth, half = draw_heldout(document, chunk, 0.1), draw_heldout(document, chunk, 0.5)
    assert abs(tenth.mean() - 0.1) < 0.003
    assert abs(half.mean() - 0.5) < 0.005
    assert half[tenth].all()
    assert not draw_heldout(document, chunk, 0.0).any()
