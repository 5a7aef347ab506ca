"""Windows are word2vec's, on every path, whatever the blocks."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from skiplight.sampling.batches import TokenBlock, Windows
from skiplight.sampling.draws import Purpose, mix64
from skiplight.sampling.draws_torch import draw_bits
from skiplight.sampling.windows import WindowSampler

FIELDS = ("inputs", "offsets", "target", "negatives", "mask")

documents = st.lists(st.lists(st.integers(0, 7), max_size=30), min_size=1, max_size=6)
samplers = st.builds(
    WindowSampler,
    st.just(np.array([500, 200, 100, 50, 20, 10, 5, 2])),
    seed=st.integers(0, 2**32 - 1),
    window=st.integers(1, 8),
    subsample=st.sampled_from([0, 1e-1, 1e-2]),
    exponent=st.sampled_from([-1.0, 0.0, 0.75]),
    negatives=st.integers(1, 9),
    shared=st.sampled_from(["window", "pair"]),
    exclude=st.sampled_from(["none", "target", "window"]),
)


def by_the_book(sampler: WindowSampler, block: TokenBlock) -> list[tuple[int, list[int]]]:
    """(centre, context words) of every window, by plain loops over plain lists."""
    out = []
    for s in range(len(block.start)):
        ids = block.ids[block.segments[s] : block.segments[s + 1]].tolist()
        begin = int(mix64(block.document[s : s + 1].numpy()).view(np.int64)[0])
        kept = []
        for i, word in enumerate(ids):
            place = torch.tensor(begin) + int(block.start[s]) + i
            words = draw_bits((sampler.seed, block.epoch), place, Purpose.TOKEN)
            if int(words[0]) <= sampler.keep[word]:
                kept.append((word, 1 + (int(words[1]) * sampler.window >> 32)))
        for c, (word, half) in enumerate(kept):
            context = [kept[i][0] for i in range(max(0, c - half), min(len(kept), c + half + 1)) if i != c]
            if context:
                out.append((word, context))
    return out


def listed(windows: Windows) -> list[tuple[int, list[int]]]:
    bounds = windows.offsets.tolist()
    inputs = windows.inputs.tolist()
    return [(t, inputs[a:b]) for t, (a, b) in zip(windows.target.tolist(), itertools.pairwise(bounds), strict=True)]


def examples(windows: Windows) -> Counter:
    """The multiset of (centre, context, negatives, mask) of all windows."""
    out: Counter = Counter()
    for i, (target, context) in enumerate(listed(windows)):
        rows = slice(i, i + 1) if windows.shared else slice(int(windows.offsets[i]), int(windows.offsets[i + 1]))
        out[target, tuple(context), str(windows.negatives[rows].tolist()), str(windows.mask[rows].tolist())] += 1
    return out


@settings(max_examples=60)
@given(samplers, documents, st.integers(0, 3))
def test_windows_are_those_of_the_book(sampler: WindowSampler, texts: list[list[int]], epoch: int) -> None:
    block = TokenBlock.of(texts, epoch)
    assert listed(sampler(block)) == by_the_book(sampler, block)


@settings(max_examples=150)
@given(samplers, documents, st.integers(0, 2**32 - 1))
def test_compiled_windows_equal_the_tensor_reference(
    sampler: WindowSampler, texts: list[list[int]], epoch: int
) -> None:
    block = TokenBlock.of(texts, epoch)
    block.start += 12345
    compiled, reference = sampler(block), sampler.reference(block)
    for field in FIELDS:
        torch.testing.assert_close(getattr(compiled, field), getattr(reference, field), rtol=0, atol=0)


@settings(max_examples=60)
@given(samplers, documents, st.data())
def test_how_segments_are_cut_into_blocks_changes_nothing(
    sampler: WindowSampler, texts: list[list[int]], data: st.DataObject
) -> None:
    whole = TokenBlock.of(texts)
    expected = examples(sampler(whole))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(texts)))) | {0, len(texts)})
    got: Counter = Counter()
    for first, stop in itertools.pairwise(cuts):
        begin, end = int(whole.segments[first]), int(whole.segments[stop])
        part = TokenBlock(
            whole.ids[begin:end],
            whole.segments[first : stop + 1] - begin,
            whole.document[first:stop],
            whole.start[first:stop],
        )
        got += examples(sampler(part))
    assert got == expected


@given(samplers, documents)
@settings(max_examples=60)
def test_excluded_negatives_are_masked_or_absent(sampler: WindowSampler, texts: list[list[int]]) -> None:
    windows = sampler(TokenBlock.of(texts))
    window_of = windows.window_of_pair()
    for row, (negatives, mask) in enumerate(zip(windows.negatives.tolist(), windows.mask.tolist(), strict=True)):
        window = row if windows.shared else int(window_of[row])
        target = int(windows.target[window])
        context = windows.inputs[windows.offsets[window] : windows.offsets[window + 1]].tolist()
        forbidden = {"none": set(), "target": {target}, "window": {target, *context}}[sampler.exclude]
        assert not forbidden & {n for n, used in zip(negatives, mask, strict=True) if used}
        if sampler.exclude == "none":
            assert all(mask)


def test_a_word_that_is_all_the_noise_is_masked() -> None:
    sampler = WindowSampler(np.array([1, 1]), window=1, subsample=0, negatives=3, exclude="window")
    windows = sampler(TokenBlock.of([[0, 1]]))
    assert len(windows.target) == 2
    assert not windows.mask.any()


def test_windows_are_as_wide_as_they_should_be() -> None:
    # Six pairs a word on average at W = 5, not ten.
    sampler = WindowSampler(np.array([1, 1]), window=5, subsample=0)
    windows = sampler(TokenBlock.of([[0, 1] * 10_000]))
    assert windows.pairs / len(windows.target) == pytest.approx(6, abs=0.05)
    sizes = np.bincount(windows.offsets.diff()[5:-5].numpy() // 2)[1:]
    assert chisquare(sizes).pvalue > 1e-4


@pytest.mark.parametrize("shared", ["window", "pair"])
@pytest.mark.parametrize("exclude", ["none", "target"])
def test_negatives_of_windows_have_the_noise_distribution(shared: str, exclude: str) -> None:
    counts = np.array([60, 25, 10, 5])
    rng = np.random.default_rng(0)
    text = rng.choice(4, size=20_000, p=counts / 100).tolist()
    sampler = WindowSampler(counts, window=2, subsample=0, negatives=4, shared=shared, exclude=exclude)  # type: ignore[arg-type]
    windows = sampler(TokenBlock.of([text]))
    target = windows.target if windows.shared else windows.target[windows.window_of_pair()]
    p = sampler.noise.probabilities
    for word in range(4):
        drawn = windows.negatives[target == word][windows.mask[target == word]]
        expected = p.copy()
        if exclude == "target":
            expected[word] = 0
            expected /= expected.sum()
        observed = np.bincount(drawn.numpy(), minlength=4)
        likely = expected > 0
        assert observed[~likely].sum() == 0
        assert chisquare(observed[likely], expected[likely] * observed.sum()).pvalue > 1e-4


def test_every_slot_draws_for_itself() -> None:
    sampler = WindowSampler(np.ones(100_000, dtype=int), window=1, subsample=0, negatives=100, exclude="none")
    windows = sampler(TokenBlock.of([[0, 1, 2]]))
    assert len(set(windows.negatives.flatten().tolist())) > 295


def test_empty_blocks_give_empty_windows() -> None:
    sampler = WindowSampler(np.array([3, 2]))
    for block in (TokenBlock.of([]), TokenBlock.of([[]]), TokenBlock.of([[1]])):
        windows = sampler(block)
        assert windows.pairs == len(windows.target) == len(windows.negatives) == 0
        assert windows.offsets.tolist() == [0]


@pytest.mark.parametrize("shared", ["window", "pair"])
@pytest.mark.parametrize("compiled", [True, False])
def test_with_the_centre_as_input_noise_excludes_the_target_of_each_pair_and_not_the_input(
    shared: str, compiled: bool
) -> None:
    counts = np.array([4, 3, 2, 1])
    text = np.random.default_rng(0).choice(4, 20_000, p=counts / counts.sum())
    sampler = WindowSampler(counts, window=2, subsample=0, exponent=1, shared=shared, input="centre")  # type: ignore[arg-type]
    block = TokenBlock.of([text.tolist()])
    windows = sampler(block) if compiled else sampler.center_as_input(sampler.reference(block))
    for i in range(4):
        for o in range(4):
            pairs = (windows.inputs == i) & (windows.target == o)
            drawn = torch.bincount(windows.negatives[pairs][windows.mask[pairs]], minlength=4).numpy()
            expected = np.where(np.arange(4) == o, 0, counts)
            np.testing.assert_allclose(drawn / drawn.sum(), expected / expected.sum(), atol=0.04)
