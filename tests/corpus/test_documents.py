"""Cutting text into pieces, chunks and segments never shows in what comes out."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from skiplight.corpus.sources.rows import split_rows, split_text_chunks
from skiplight.corpus.sources.text_chunks import read_text_chunks
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


class Reader:
    """A binary file that returns less than it is asked for, as a connection does."""

    def __init__(self, data: bytes, most: int) -> None:
        self.data, self.most = data, most

    def read(self, size: int) -> bytes:
        size = min(size, self.most)
        head, self.data = self.data[:size], self.data[size:]
        return head


@given(st.text("ab字 \n\r", max_size=80), st.integers(4, 30), st.integers(1, 30))
def test_documents_of_a_text_file_do_not_depend_on_its_blocks(text: str, size: int, most: int) -> None:
    blocks = list(read_text_chunks(Reader(text.encode(), most), "file", size))
    assert "".join(blocks) == text
    for unit in ("document", "line", "paragraph"):
        found: dict[int, str] = {}
        row = 0
        for block in blocks:
            rows, texts, row = split_text_chunks(pa.array([block]), unit, row)
            for key, piece in zip(rows.tolist(), texts.to_pylist(), strict=True):
                found[key] = found.get(key, "") + piece
        _, whole, _ = split_rows(pa.array([text]), unit, 0)
        words = [value.split() for value in found.values()]
        assert list(found) == list(range(len(found)))
        documents = whole.to_pylist()
        if len(documents) > 1 and documents[-1] == "":  # a separator at the end of a file begins no document
            documents.pop()
        assert (words or [[]]) == [document.split() for document in documents]


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
