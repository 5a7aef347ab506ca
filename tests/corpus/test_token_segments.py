"""The container of segments against lists of (document, start, ids)."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiplight.corpus.store.token_store import TokenStore
from skiplight.corpus.tokens import TokenSegments, find_block_bounds
from tests.support.texts import prepared, write_texts

Segment = tuple[int, int, list[int]]  # document, start, ids

IDS = st.lists(st.integers(0, 99), min_size=1, max_size=5)
DOCUMENTS = st.lists(st.lists(IDS, min_size=1, max_size=4), max_size=5)


def segments_of(documents: list[list[list[int]]]) -> list[Segment]:
    return [
        (10 * key, sum(map(len, document[:index])), ids)
        for key, document in enumerate(documents)
        for index, ids in enumerate(document)
    ]


def packed(segments: list[Segment], begin: int = 0, stop: int | None = None) -> TokenSegments:
    """Return tokens `begin` up to `stop` of the text, with the segments that begin among them."""
    ids = [token for *_, segment in segments for token in segment]
    stop = len(ids) if stop is None else stop
    firsts = [0, *itertools.accumulate(len(segment) for *_, segment in segments)]
    # A last segment without a token would begin where the text ends.
    inside = [(d, s, first) for (d, s, _), first in zip(segments, firsts, strict=False) if begin <= first < stop]
    document, start, first = ([row[column] for row in inside] for column in range(3))
    return TokenSegments(
        np.array(ids[begin:stop], np.int32),
        np.array([*first, stop], np.int64) - begin,
        np.array(document, np.int64),
        np.array(start, np.int64),
    )


def unpacked(text: TokenSegments) -> list[Segment]:
    """Return the segments of a whole text, and check its types and bounds."""
    assert text.ids.dtype == np.int32
    assert {array.dtype for array in (text.segments, text.document, text.start)} == {np.dtype(np.int64)}
    assert len(text.segments) == len(text) + 1 == len(text.document) + 1 == len(text.start) + 1
    assert (text.segments[0], text.segments[-1], text.tokens) == (0, len(text.ids), len(text.ids))
    bounds = itertools.pairwise(text.segments.tolist())
    columns = zip(text.document.tolist(), text.start.tolist(), bounds, strict=True)
    return [(document, start, text.ids[begin:end].tolist()) for document, start, (begin, end) in columns]


@given(DOCUMENTS, st.data())
def test_selecting_is_slicing_and_concatenating_undoes_it(documents: list, data: st.DataObject) -> None:
    segments = segments_of(documents)
    text = packed(segments)
    assert unpacked(text) == segments
    cuts = data.draw(st.lists(st.integers(0, len(segments)), max_size=4))
    parts = [text.select(*span) for span in itertools.pairwise([0, *sorted(cuts), len(segments)])]
    assert [segment for part in parts for segment in unpacked(part)] == segments
    assert unpacked(functools.reduce(TokenSegments.concatenate, parts, TokenSegments.empty())) == segments
    first, stop = sorted(data.draw(st.tuples(*2 * [st.integers(0, len(segments))])))
    assert unpacked(text.select(first, stop)) == segments[first:stop]


@given(DOCUMENTS, st.data())
def test_parts_cut_within_segments_are_joined(documents: list, data: st.DataObject) -> None:
    segments = segments_of(documents)
    tokens = sum(len(ids) for *_, ids in segments)
    cuts = data.draw(st.lists(st.integers(0, tokens), max_size=8))
    parts = [packed(segments, *span) for span in itertools.pairwise([0, *sorted(cuts), tokens])]
    assert sum(part.tokens for part in parts) == tokens
    assert unpacked(functools.reduce(TokenSegments.concatenate, parts, TokenSegments.empty())) == segments


@given(DOCUMENTS, st.data())
def test_segments_are_taken_in_any_order_and_parts_joined(documents: list, data: st.DataObject) -> None:
    segments = segments_of(documents)
    order = data.draw(st.permutations(range(len(segments))))
    taken = packed(segments).take(np.array(order, np.int64))
    assert unpacked(taken) == [segments[number] for number in order]
    cuts = data.draw(st.lists(st.integers(0, len(segments)), max_size=4))
    parts = [taken.select(*span) for span in itertools.pairwise([0, *sorted(cuts), len(segments)])]
    assert unpacked(TokenSegments.joined(parts)) == unpacked(taken)


@given(st.lists(st.integers(1, 30), max_size=30), st.integers(1, 40), st.integers(0, 100))
def test_blocks_hold_the_segments_that_end_in_a_cell(lengths: list[int], block_tokens: int, before: int) -> None:
    ends = list(itertools.accumulate(lengths, initial=before))[1:]
    cells = [list(group) for _, group in itertools.groupby(ends, lambda end: (end - 1) // block_tokens)]
    bounds = find_block_bounds(np.array(ends, np.int64), block_tokens)
    assert bounds.tolist() == [0, *itertools.accumulate(map(len, cells))]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    folder = tmp_path_factory.mktemp("store")
    return prepared(write_texts(folder / "texts"), folder)


@given(st.data())
def test_a_stored_text_is_selected_like_one_in_memory(store: TokenStore, data: st.DataObject) -> None:
    split = data.draw(st.sampled_from([store.train, store.heldout]))
    whole = split.select(0, len(split))
    assert whole.tokens == split.tokens
    first, stop = sorted(data.draw(st.tuples(*2 * [st.integers(0, len(split))])))
    assert unpacked(split.select(first, stop)) == unpacked(whole.select(first, stop)) == unpacked(whole)[first:stop]
    block_tokens = data.draw(st.integers(1, 5000))
    blocks = list(split.read_blocks(block_tokens, range))
    assert unpacked(functools.reduce(TokenSegments.concatenate, blocks)) == unpacked(whole)
    cells = [{(end - 1) // block_tokens for end in ends} for ends in _ends(blocks)]
    assert all(len(cell) == 1 for cell in cells)
    assert len(set.union(*cells)) == len(cells)


def _ends(blocks: list[TokenSegments]) -> list[list[int]]:
    begins = itertools.accumulate((block.tokens for block in blocks), initial=0)
    return [(begin + block.segments[1:]).tolist() for begin, block in zip(begins, blocks, strict=False)]
