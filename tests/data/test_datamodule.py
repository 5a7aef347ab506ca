"""An epoch is the same windows whatever shares it out, and goes on exactly where it was left."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skiplight.corpus.store.stream import TokenStream
from skiplight.corpus.store.token_store import TokenStore
from skiplight.corpus.tokens import Cursor
from skiplight.data.datamodule import SkipGramDataModule
from skiplight.data.heldout import heldout_pairs
from skiplight.errors import RunError
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.draws_torch import draw_permutation
from skiplight.sampling.windows import WindowSampler
from tests.sampling.test_windows import examples
from tests.support.texts import prepared, write_texts


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[TokenStore, TokenStream]:
    folder = tmp_path_factory.mktemp("texts")
    glob = write_texts(folder / "texts")
    return prepared(glob, folder), prepared(glob, folder, streaming=True)


def sampler(text: TokenStore | TokenStream) -> WindowSampler:
    return WindowSampler(text.vocabulary.counts, seed=7, subsample=1e-2, negatives=3)


def data_module(text: TokenStore | TokenStream, block_tokens: int = 2000, **options) -> SkipGramDataModule:
    return SkipGramDataModule(text, sampler(text), block_tokens=block_tokens, **options)


def windows_of(data: SkipGramDataModule, blocks: list[TokenBlock]) -> Counter:
    return sum((examples(data.windows(block)) for block in blocks), Counter())


def same(left: TokenBlock, right: TokenBlock) -> bool:
    return all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in ((getattr(left, f.name), getattr(right, f.name)) for f in dataclasses.fields(TokenBlock))
    )


@settings(max_examples=15)
@given(st.integers(50, 30_000), st.integers(1, 5), st.integers(1, 3), st.integers(0, 2))
def test_an_epoch_is_the_same_windows_for_any_blocks_ranks_and_workers(
    texts: tuple[TokenStore, TokenStream], block_tokens: int, world: int, workers: int, epoch: int
) -> None:
    store = texts[0]
    data = data_module(store, block_tokens)
    shares = [
        list(data.blocks.read(Cursor(epoch), rank, world, worker, workers))
        for rank in range(world)
        for worker in range(workers)
    ]
    expected = windows_of(data, list(data_module(store, 10**9).blocks(Cursor(epoch), 0, 1, 0, 1)))
    assert sum((windows_of(data, share) for share in shares), Counter()) == expected
    # Every rank has the same steps, and a step says how many tokens all ranks consume in it.
    steps = [sum(len(shares[rank * workers + w]) for w in range(workers)) for rank in range(world)]
    assert set(steps) == {-(-len(data.blocks) // world)}
    first_rank = [block for share in shares[:workers] for block in share]
    assert sum(block.tokens for block in first_rank) == store.train.tokens


@settings(max_examples=10)
@given(st.integers(1000, 30_000), st.integers(0, 2))
def test_a_stream_gives_the_windows_of_the_store(
    texts: tuple[TokenStore, TokenStream], block_tokens: int, epoch: int
) -> None:
    store, stream = (data_module(text, block_tokens) for text in texts)
    streamed = list(stream.blocks(Cursor(epoch), 0, 1, 0, 1))
    assert len(stream.blocks) <= len(streamed) <= stream.blocks.count_steps(1)
    assert [block.index for block in streamed] == list(range(len(streamed)))
    stored = list(store.blocks(Cursor(epoch), 0, 1, 0, 1))
    assert windows_of(stream, streamed) == windows_of(store, stored)


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_restored_state_goes_on_with_the_next_block(
    texts: tuple[TokenStore, TokenStream], kind: int, workers: int
) -> None:
    straight = data_module(texts[kind], workers=workers)
    epochs = []
    for _ in range(2):
        epochs.append(list(straight.train_dataloader()))
        for block in epochs[-1]:
            straight.consumed(block)
    assert straight.cursor.epoch == 2
    assert not same(epochs[0][0], epochs[1][0])

    for epoch, stop in ((0, 1), (0, len(epochs[0])), (1, 0), (1, 3)):
        before = data_module(texts[kind], workers=workers)
        for block in [*epochs[0], *epochs[1]][: epoch * len(epochs[0]) + stop]:
            before.consumed(block)
        after = data_module(texts[kind], workers=workers)
        after.load_state_dict(before.state_dict())
        rest = list(after.train_dataloader())
        expected = epochs[epoch][stop:] or epochs[epoch + 1]
        assert len(rest) == len(expected)
        assert all(same(a, b) for a, b in zip(rest, expected, strict=True))


def test_the_loaders_length_is_always_the_whole_epochs(texts: tuple[TokenStore, TokenStream]) -> None:
    data = data_module(texts[0])
    whole = len(data.train_dataloader())
    data.consumed(next(iter(data.train_dataloader())))
    assert len(data.train_dataloader()) == whole == len(data.blocks)


def test_workers_deliver_the_blocks_in_the_same_order(texts: tuple[TokenStore, TokenStream]) -> None:
    alone, helped = (list(data_module(texts[0], 500, workers=workers).train_dataloader()) for workers in (0, 2))
    assert all(same(a, b) for a, b in zip(alone, helped, strict=True))


def test_the_order_of_blocks_is_drawn_anew_each_epoch() -> None:
    orders = {tuple(draw_permutation(50, (seed, epoch)).tolist()) for seed in (1, 2) for epoch in (0, 1)}
    assert len(orders) == 4
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert torch.equal(draw_permutation(50, (1, 0)), draw_permutation(50, (1, 0)))


def test_a_state_of_another_text_or_block_size_is_refused(
    texts: tuple[TokenStore, TokenStream], tmp_path: Path
) -> None:
    state = data_module(texts[0]).state_dict()
    with pytest.raises(RunError, match=r"data\.block_tokens=2000, not 3000"):
        data_module(texts[0], 3000).load_state_dict(state)
    other = prepared(write_texts(tmp_path / "other", seed=1), tmp_path)
    with pytest.raises(RunError, match="not the one that the run began with"):
        data_module(other).load_state_dict(state)


def test_a_stream_of_unknown_size_must_be_told_it(texts: tuple[TokenStore, TokenStream]) -> None:
    stream = texts[1]
    unknown = TokenStream(stream.source, "text8", stream.vocabulary, 0.1, "f")
    with pytest.raises(ValueError, match="tokens"):
        data_module(unknown)
    assert len(data_module(unknown, tokens=5000).train_dataloader()) >= 3


def test_held_out_pairs_are_the_same_stored_and_streamed_where_all_are_taken(
    texts: tuple[TokenStore, TokenStream],
) -> None:
    def pairs(text: TokenStore | TokenStream) -> Counter:
        data = data_module(text)
        found = heldout_pairs(data.heldout_blocks(), data.sampler, limit=10**9)
        return Counter(zip(found.inputs.tolist(), found.outputs.tolist(), found.weights.tolist(), strict=True))

    stored, streamed = map(pairs, texts)
    assert stored.total() > 1000
    assert stored == streamed
