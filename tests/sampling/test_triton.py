"""What Triton's kernels draw is what `WindowSampler` draws, integer for integer; without a GPU, in its interpreter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given, settings
from hypothesis import strategies as st

from skiplight.sampling import draws_triton
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.draws import mix64
from skiplight.sampling.draws_torch import draw_negative_bits, philox
from skiplight.sampling.noise import NoiseDistribution, power_weights
from skiplight.sampling.windows import WindowSampler
from skiplight.sampling.windows_triton import DeviceSampler
from tests.sampling.test_draws import KNOWN_ANSWERS, _words

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
N = 64


@triton.jit
def _philox(words, out, N: tl.constexpr):
    i = tl.arange(0, N)
    a, b, c = tl.load(words + i), tl.load(words + N + i), tl.load(words + 2 * N + i)
    d, k0, k1 = tl.load(words + 3 * N + i), tl.load(words + 4 * N + i), tl.load(words + 5 * N + i)
    a, b, c, d = draws_triton.philox(
        a.to(tl.uint32), b.to(tl.uint32), c.to(tl.uint32), d.to(tl.uint32), k0.to(tl.uint32), k1.to(tl.uint32)
    )
    tl.store(out + i, a.to(tl.int64))
    tl.store(out + N + i, b.to(tl.int64))
    tl.store(out + 2 * N + i, c.to(tl.int64))
    tl.store(out + 3 * N + i, d.to(tl.int64))


@triton.jit
def _mix64(documents, out, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(out + i, draws_triton.mix64(tl.load(documents + i).to(tl.uint64)).to(tl.int64))


@triton.jit(do_not_specialize=["seed", "epoch", "attempt"])
def _negatives(place, n, columns, vocabulary, attempt, seed, epoch, out, N: tl.constexpr):
    i = tl.arange(0, N)
    word = draws_triton.draw_negative(
        tl.load(place + i).to(tl.uint64), tl.load(n + i), attempt, seed.to(tl.uint32), epoch.to(tl.uint32),
        columns, vocabulary, i < N,
    )  # fmt: skip
    tl.store(out + i, word)


def test_philox_is_the_published_one_and_torchs() -> None:
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(0, 2**32, (6, N), generator=generator)
    for i, (counter, key, _) in enumerate(KNOWN_ANSWERS):
        words[:, i] = torch.tensor(_words(counter) + _words(key))
    out = torch.empty((4, N), dtype=torch.int64, device=DEVICE)
    _philox[(1,)](words.to(DEVICE), out, N)
    for i, (_, _, result) in enumerate(KNOWN_ANSWERS):
        assert out[:, i].tolist() == _words(result)
    for i in range(N):
        column = words[:, i].tolist()
        assert out[:, i].tolist() == [int(w) for w in philox(tuple(column[:4]), (column[4], column[5]))]


def test_mix64_is_numpys() -> None:
    documents = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, N)
    out = torch.empty(N, dtype=torch.int64, device=DEVICE)
    _mix64[(1,)](torch.from_numpy(documents).to(DEVICE), out, N)
    np.testing.assert_array_equal(out.cpu().numpy().view(np.uint64), mix64(documents))


@pytest.mark.parametrize(("seed", "epoch", "attempt"), [(0, 0, 0), (1, 1, 1), (2**32 - 1, 5, 0), (7, 2**32 - 1, 16)])
def test_negatives_are_torchs(seed: int, epoch: int, attempt: int) -> None:
    noise = NoiseDistribution(power_weights(np.array([50, 20, 7, 3, 1]), 0.75))
    rng = np.random.default_rng(seed)
    place = torch.from_numpy(rng.integers(-(2**63), 2**63 - 1, N))
    n = torch.from_numpy(rng.integers(0, 5000, N).astype(np.int32))
    n[:3] = torch.arange(3)
    a, b = draw_negative_bits((seed, epoch), place, n.long(), attempt)
    column = (a * len(noise) >> 32).numpy()
    expected = np.where(b.numpy() < noise.threshold[column], column, noise.alias[column])
    columns = torch.from_numpy(noise.columns.view(np.int64))
    out = torch.empty(N, dtype=torch.int32, device=DEVICE)
    _negatives[(1,)](
        place.to(DEVICE), n.to(DEVICE), columns.to(DEVICE), len(noise), attempt, seed, epoch, out, N
    )  # fmt: skip
    assert out.tolist() == expected.tolist()


def listed(sampler: WindowSampler, block: TokenBlock, stretch: int) -> tuple[list, list, list]:
    """Targets, inputs and rows of negatives (-1: none) as the device forms them, `stretch` centres at a time."""
    device_sampler = DeviceSampler(sampler, DEVICE)
    centres = device_sampler.centres(block.to(DEVICE))
    n, k = int(centres.count), sampler.negatives
    drawn = []
    for first in range(0, len(block.ids), stretch):
        out = torch.empty((stretch, device_sampler.per_centre), dtype=torch.int32, device=DEVICE)
        device_sampler.negatives(block.to(DEVICE), centres, first, out)
        drawn += out.tolist()
    targets, inputs, negatives = [], [], []
    word, left, right = centres.word.tolist(), centres.left.tolist(), centres.right.tolist()
    for c in range(n):
        distances = [o for o in range(-left[c], right[c] + 1) if o != 0]
        if not distances:
            continue
        targets.append(word[c])
        inputs += [word[c + o] for o in distances]
        if sampler.shared == "pair":
            slots = [2 * (abs(o) - 1) + (o > 0) for o in distances]
            negatives += [drawn[c][z * k : (z + 1) * k] for z in slots]
        else:
            negatives.append(drawn[c])
    return targets, inputs, negatives


@settings(max_examples=25)
@given(
    st.builds(
        WindowSampler,
        st.just(np.array([500, 200, 100, 50, 20, 10, 5, 2])),
        seed=st.integers(0, 2**32 - 1),
        window=st.integers(1, 8),
        subsample=st.sampled_from([0, 1e-1, 1e-2]),
        negatives=st.integers(1, 6),
        shared=st.sampled_from(["window", "pair"]),
        exclude=st.sampled_from(["none", "target", "window"]),
    ),
    st.lists(st.lists(st.integers(0, 7), max_size=20), min_size=1, max_size=4).filter(any),
    st.integers(0, 2**32 - 1),
    st.integers(3, 50),
)
def test_windows_and_negatives_are_the_samplers(
    sampler: WindowSampler, texts: list[list[int]], epoch: int, stretch: int
) -> None:
    block = TokenBlock.of(texts, epoch)
    block.start += 12345
    windows = sampler(block)
    targets, inputs, negatives = listed(sampler, block, stretch)
    assert targets == windows.target.tolist()
    assert inputs == windows.inputs.tolist()
    assert negatives == torch.where(windows.mask, windows.negatives, -1).tolist()
