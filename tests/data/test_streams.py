"""A stream's epoch is the same blocks whatever ranks and workers share it out, and each reads its part."""

from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skiplight.corpus import open_source, prepare
from skiplight.corpus.sources.units import Unit
from skiplight.corpus.store.stream import TokenStream
from skiplight.corpus.store.token_store import TokenStore
from skiplight.corpus.tokens import Cursor
from skiplight.data import streams
from skiplight.data.blocks import LoadedBlock
from skiplight.data.datamodule import SkipGramDataModule
from skiplight.data.lanes import MAX_LANES, MIN_LANES, LanePlan, LaneProgress, count_lanes
from skiplight.data.streams import StreamSchedule
from skiplight.errors import DataError
from skiplight.sampling.draws_torch import draw_permutation
from skiplight.sampling.windows import WindowSampler
from tests.sampling.test_windows import examples
from tests.support.lockstep import run_ranks
from tests.support.texts import prepared, write_texts

Texts = tuple[TokenStore, TokenStream]


@pytest.fixture(scope="module", params=[1, 12], ids=["one file", "twelve files"])
def texts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Texts:
    folder = tmp_path_factory.mktemp("streams")
    glob = write_texts(folder / "texts", files=request.param, documents=240 // request.param, words=300)
    return prepared(glob, folder), prepared(glob, folder, streaming=True)


def schedule_of(stream: TokenStream, block_tokens: int = 1500, seed: int = 7) -> StreamSchedule:
    assert stream.tokens is not None
    return StreamSchedule(dataclasses.replace(stream, threads=1), block_tokens, seed, stream.tokens)


def segments_of(blocks: list[list[LoadedBlock]]) -> Counter:
    """How often each segment comes, by its position and content."""
    found: Counter = Counter()
    for block in (block for rank in blocks for block in rank):
        bounds = block.segments.tolist()
        for number, (document, start) in enumerate(zip(block.document.tolist(), block.start.tolist(), strict=True)):
            found[document, start, tuple(block.ids[bounds[number] : bounds[number + 1]].tolist())] += 1
    return found


def stored_segments(store: TokenStore) -> Counter:
    return segments_of([[LoadedBlock.from_segments(store.train.select(0, len(store.train)))]])


def contents(blocks: list[list[LoadedBlock]]) -> Counter:
    """How often each block comes, by what is in it."""
    parts = (block for rank in blocks for block in rank if len(block.ids))
    return Counter(
        (*block.document.tolist(), *block.start.tolist(), *block.segments.tolist(), *block.ids.tolist())
        for block in parts
    )


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_the_blocks_of_an_epoch_do_not_depend_on_ranks_and_workers(texts: Texts, world: int, workers: int) -> None:
    store, stream = texts
    schedule = schedule_of(stream)
    after, blocks = run_ranks(schedule, Cursor(1), world, workers)
    assert after == Cursor(2)
    assert segments_of(blocks) == stored_segments(store)
    assert contents(blocks) == contents([list(schedule(Cursor(1), 0, 1, 0, 1))])
    # A step says how many tokens all ranks consume in it, and no block is of more than it should be.
    assert [block.tokens for block in blocks[0]] == [
        sum(len(block.ids) for block in step) for step in zip(*blocks, strict=True)
    ]
    assert max(len(block.ids) for rank in blocks for block in rank) < schedule.block_tokens + 1000
    assert len(blocks[0]) <= schedule.count_steps(world)


def test_windows_and_negatives_are_the_stores(texts: Texts) -> None:
    store, stream = texts

    def windows(text: TokenStore | TokenStream, blocks: list[LoadedBlock]) -> Counter:
        sampler = WindowSampler(text.vocabulary.counts, seed=7, subsample=1e-2, negatives=3)
        return sum((examples(sampler(block)) for block in blocks), Counter())

    data = SkipGramDataModule(
        store, WindowSampler(store.vocabulary.counts, seed=7, subsample=1e-2, negatives=3), block_tokens=10**9
    )
    _, blocks = run_ranks(schedule_of(stream), Cursor(1), 3, 2)
    assert windows(stream, [block for rank in blocks for block in rank]) == windows(
        store, list(data.blocks.read(Cursor(1), 0, 1, 0, 1))
    )


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 40)), min_size=1, max_size=4),
    st.integers(200, 5000),
    st.integers(0, 1),
)
def test_other_ranks_go_on_where_killed_ones_were(
    texts: Texts, runs: list[tuple[int, int, int]], block_tokens: int, epoch: int
) -> None:
    """Each run (ranks, workers, steps) begins where the one before it was killed; the last one ends the epoch."""
    store, stream = texts
    schedule, cursor, found = schedule_of(stream, block_tokens), Cursor(epoch), []
    for number, (world, workers, steps) in enumerate(runs):
        cursor, blocks = run_ranks(schedule, cursor, world, workers, steps if number + 1 < len(runs) else None)
        found += blocks
        if cursor.epoch > epoch:
            break
    assert cursor == Cursor(epoch + 1)
    assert segments_of(found) == stored_segments(store)


@pytest.mark.parametrize(("world", "workers"), [(1, 1), (1, 3), (3, 2)])
def test_the_same_ranks_go_on_exactly(texts: Texts, world: int, workers: int) -> None:
    schedule = schedule_of(texts[1])
    _, straight = run_ranks(schedule, Cursor(), world, workers)
    for steps in (1, 4, 11):
        cursor, _ = run_ranks(schedule, Cursor(), world, workers, steps)
        _, rest = run_ranks(schedule, cursor, world, workers)
        for rank in range(world):
            expected = straight[rank][steps:]
            assert len(rest[rank]) == len(expected)
            for left, right in zip(rest[rank], expected, strict=True):
                assert torch.equal(left.ids, right.ids)
                assert torch.equal(left.document, right.document)
                assert (left.index, left.tokens, left.after) == (right.index, right.tokens, right.after)


@dataclasses.dataclass(eq=False)
class Watched(TokenStream):
    """Notes the units that are read."""

    def __post_init__(self) -> None:
        self.read: list[int] = []
        known = {unit: number for number, unit in enumerate(self.source.units)}
        source = dataclasses.replace(self.source)
        source.units = self.source.units
        original = self.source.read

        def read(unit: Unit):
            self.read.append(known[unit])
            yield from original(unit)

        source.read = read  # type: ignore[method-assign]
        self.source = source


def test_each_rank_reads_its_share_and_resuming_a_unit_a_lane(texts: Texts) -> None:
    watched = Watched(**{field.name: getattr(texts[1], field.name) for field in dataclasses.fields(TokenStream)})
    sizes, schedule = watched.units.sizes, StreamSchedule(watched, 1500, 7, 100_000)
    watched.threads = 1
    for world in (2, 3, 4):
        for rank in range(world):
            watched.read.clear()
            for _ in schedule.read(Cursor(), rank, world, 0, 1):
                pass
            assert len(set(watched.read)) == len(watched.read)
            assert sizes[watched.read].sum() <= 1.15 / world * sizes.sum()
    watched.read.clear()
    cursor, _ = run_ranks(schedule, Cursor(), 2, 1, 12)
    first = list(watched.read)
    watched.read.clear()
    run_ranks(schedule, cursor, 3, 1)
    # Of every lane that was begun, at most the unit where it was left is read again.
    plan = schedule.plan(0)
    consumed = {unit for lane, place in enumerate(cursor.lanes) for unit in plan.units[lane][: place.unit]}
    assert not consumed & set(watched.read)
    assert consumed <= set(first)
    assert len(watched.read) == len(set(watched.read)) == len(sizes) - len(consumed)


def test_the_order_of_segments_is_drawn_anew_each_epoch(texts: Texts) -> None:
    schedule = schedule_of(texts[1], 10**9)
    orders = []
    for epoch in (0, 1):
        document = torch.cat([block.document for block in schedule(Cursor(epoch), 0, 1, 0, 1)])
        orders.append(document.tolist())
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]
    assert orders[0] != sorted(orders[0])


def test_a_long_unit_is_mixed_part_by_part(texts: Texts, monkeypatch: pytest.MonkeyPatch) -> None:
    store, stream = texts
    whole = contents([list(schedule_of(stream)(Cursor(), 0, 1, 0, 1))])
    monkeypatch.setattr(streams, "MIXED_TOKENS", 2000)
    schedule = schedule_of(stream)
    cursor, first = run_ranks(schedule, Cursor(), 2, 1, 9)
    _, rest = run_ranks(schedule, cursor, 1, 1)
    assert segments_of([*first, *rest]) == stored_segments(store)
    assert contents([*first, *rest]) != whole


def test_a_stream_without_a_word_of_the_vocabulary_is_an_error(texts: Texts) -> None:
    stream = texts[1]
    vocabulary = type(stream.vocabulary)(["zebra", "quagga"], [2, 1])
    schedule = schedule_of(dataclasses.replace(stream, vocabulary=vocabulary))
    with pytest.raises(DataError, match=r"no words of the vocabulary: give `vocabulary\.path`"):
        list(schedule(Cursor(), 0, 1, 0, 1))


def test_a_text_that_is_one_document_is_one_unit_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "text8").write_text("one two three " * 100_000)
    source = open_source("files", path=tmp_path / "text8", cache=tmp_path)
    stream = prepare(source, normalise="text8", min_count=1, heldout=0, stores=tmp_path, streaming=True)
    assert isinstance(stream, TokenStream)
    schedule = schedule_of(stream)
    caplog.clear()
    schedule.log_shares(1)
    assert not caplog.text
    schedule.log_shares(2)
    assert "2 ranks times workers share this stream, and it has 1 units" in caplog.text
    after, blocks = run_ranks(schedule, Cursor(), 2, 1)
    assert after == Cursor(1)
    assert sum(len(block.ids) for block in blocks[0]) + sum(len(block.ids) for block in blocks[1]) == 300_000


SIZES = st.lists(st.integers(0, 10**6), min_size=1, max_size=300)


@settings(max_examples=60, deadline=None)
@given(
    SIZES,
    st.integers(0, 3),
    st.lists(st.tuples(st.integers(1, 64), st.integers(1, 8)), min_size=1, max_size=3),
    st.integers(0, 2**32 - 1),
)
@example([0, 0], 0, [(1, 1), (1, 2)], 7)  # killed after the last segment of a lane, and before the next lane
def test_every_unit_is_read_once_whatever_ranks_and_workers_come_and_go(
    sizes: list[int], epoch: int, runs: list[tuple[int, int]], seed: int
) -> None:
    """Consumers read blocks of half a unit until they are killed, and are dealt anew, up to 64 ranks of 8 workers."""
    plan = LanePlan(np.array(sizes), draw_permutation(len(sizes), (1, epoch)).tolist())
    assert sorted(unit for lane in plan.units for unit in lane) == list(range(len(sizes)))
    cursor, halves, random = Cursor(epoch), Counter(), Random(seed)
    for number, (world, workers) in enumerate(runs):
        consumers = world * workers
        positions = plan.positions(cursor, consumers)
        progress = LaneProgress(plan, positions)
        owned = {consumer: list(progress.lanes_of(consumer)) for consumer in range(consumers)}
        assert sorted(lane for lanes in owned.values() for lane in lanes) == [
            lane for lane, place in enumerate(positions) if not plan.is_done(lane, place)
        ]
        for consumer, lanes in owned.items():
            todo = [
                (lane, unit, half)
                for lane in lanes
                for unit in range(positions[lane].unit, len(plan.units[lane]))
                for half in range(positions[lane].segments if unit == positions[lane].unit else 0, 2)
            ]
            stop = len(todo) if number + 1 == len(runs) else random.randint(0, len(todo))
            for step, (lane, unit, half) in enumerate(todo[:stop]):
                halves[plan.units[lane][unit], half] += 1
                progress.advance(consumer, step + 1 < len(todo), lane, unit, half + 1, 0)
            if not todo:  # all of its lanes' segments were read before the kill: it reads an empty block, the last
                progress.advance(consumer, False, -1, 0, 0, 0)
        cursor = Cursor(epoch, 1, 1, consumers, tuple(progress.positions), (0,) * world)
    assert halves == {(unit, half): 1 for unit in range(len(sizes)) for half in (0, 1)}
    assert all(plan.is_done(lane, place) for lane, place in enumerate(cursor.lanes))


@pytest.mark.parametrize(("world", "workers"), [(64, 8), (64, 1), (3, 8), (7, 5)])
def test_a_large_text_is_dealt_evenly(world: int, workers: int) -> None:
    sizes = np.random.default_rng(0).integers(3 << 20, 5 << 20, 25_000)  # 100 GB in units of about 4 MB
    plan = LanePlan(sizes, draw_permutation(len(sizes), (1, 0)).tolist())
    assert len(plan.units) == MAX_LANES
    loads = np.array([sizes[lane].sum() for lane in plan.units])
    assert loads.max() < 1.05 * loads.mean()
    owners = np.array([place.owner for place in plan.begin(world * workers)])
    shares = np.bincount(owners, loads, world * workers).reshape(world, workers).sum(1)
    assert shares.max() <= (1.15 if world * workers < 400 else 1.2) * shares.mean()


def test_lanes_are_those_of_the_text() -> None:
    assert count_lanes(np.array([100])) == 1
    assert count_lanes(np.full(400, 10_000)) == MIN_LANES
    assert count_lanes(np.full(400, 1 << 20)) == 200
    assert count_lanes(np.full(10**6, 4 << 20)) == MAX_LANES


def test_blocks_of_several_ranks_come_with_their_agreement_only(texts: Texts) -> None:
    with pytest.raises(ValueError, match="agree"):
        next(islice(schedule_of(texts[1])(Cursor(), 0, 2, 0, 1), 1))
