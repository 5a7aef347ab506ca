"""`WindowSampler` on the CPU by compiled loops: subsample, count the windows, then fill them."""

from __future__ import annotations

import numpy as np
import torch

from skiplight.compiled import kernel
from skiplight.sampling.batches import TokenBlock, Windows
from skiplight.sampling.draws import ATTEMPTS
from skiplight.sampling.draws_numba import draw_negative, mix64, scale_bits, token_bits
from skiplight.sampling.noise import NoiseDistribution

EXCLUDE = {"none": 0, "target": 1, "window": 2}


@kernel()
def _keep(ids, segments, document, start, seed, epoch, window, keep, kept, half, position, ends):
    """Write ids, half-widths and positions of the kept tokens, and where each segment ends among them; count them."""
    n = 0
    for s in range(len(start)):
        begin = mix64(document[s]) + np.uint64(start[s])
        for i in range(segments[s], segments[s + 1]):
            here = begin + np.uint64(i - segments[s])
            w0, w1, _, _ = token_bits(here, 0, seed, epoch)
            if w0 <= np.uint64(keep[ids[i]]):
                kept[n] = ids[i]
                half[n] = 1 + scale_bits(w1, window)
                position[n] = here
                n += 1
        ends[s] = n
    return n


@kernel()
def _measure(half, ends):
    """Return the numbers of windows and pairs of the kept tokens."""
    windows, pairs, first = 0, 0, 0
    for last in ends:
        for c in range(first, last):
            size = min(half[c], c - first) + min(half[c], last - 1 - c)
            windows += size > 0
            pairs += size
        first = last
    return windows, pairs


@kernel()
def _fill(
    kept, half, position, ends, seed, epoch, columns, exclude, per_pair,
    inputs, offsets, target, negatives, mask,
):  # fmt: skip
    """Write the windows and draw their negatives."""
    window, pair, first = 0, 0, 0
    offsets[0] = 0
    k_count = negatives.shape[1]
    for last in ends:
        for c in range(first, last):
            left = max(c - half[c], first)
            right = min(c + half[c], last - 1)
            if left == right:
                continue
            target[window] = kept[c]
            row = pair if per_pair else window
            for i in range(left, right + 1):
                if i != c:
                    inputs[pair] = kept[i]
                    pair += 1
            for r in range(right - left if per_pair else 1):
                distance = left + r - c
                distance += distance >= 0
                zigzag = 2 * (abs(distance) - 1) + (distance > 0) if per_pair else 0
                for k in range(k_count):
                    mask[row + r, k] = False
                    for attempt in range(ATTEMPTS):
                        n = zigzag * k_count + k
                        word = draw_negative(position[c], n, attempt, seed, epoch, columns)
                        negatives[row + r, k] = word
                        excluded = exclude > 0 and word == kept[c]
                        if exclude == 2:
                            for i in range(left, right + 1):
                                excluded |= word == kept[i]
                        if not excluded:
                            mask[row + r, k] = True
                            break
            window += 1
            offsets[window] = pair
        first = last


def sample_windows(
    block: TokenBlock,
    *,
    seed: int,
    window: int,
    keep: np.ndarray,
    noise: NoiseDistribution,
    negatives: int,
    per_pair: bool,
    redrawn: str,
) -> Windows:
    """Return the windows of a block on the CPU, equal to `WindowSampler.reference`'s.

    Args:
        block: the tokens.
        seed, window: of the sampler.
        keep: uint32 [vocabulary], keep thresholds.
        noise: the distribution of negatives.
        negatives: K, per window or pair.
        per_pair: whether negatives are drawn per pair.
        redrawn: which negatives are redrawn, a key of `EXCLUDE`.
    """
    ids, segments = block.ids.numpy(), block.segments.numpy()
    key, epoch = np.uint64(seed), np.uint64(block.epoch)
    kept, half = np.empty(len(ids), np.int32), np.empty(len(ids), np.int32)
    position, ends = np.empty(len(ids), np.uint64), np.empty(len(block.start), np.int64)
    n = _keep(
        ids, segments, block.document.numpy(), block.start.numpy(), key, epoch,
        window, keep, kept, half, position, ends,
    )  # fmt: skip
    kept, half, position = kept[:n], half[:n], position[:n]
    windows, pairs = _measure(half, ends)

    rows = pairs if per_pair else windows
    inputs, target = np.empty(pairs, np.int32), np.empty(windows, np.int32)
    offsets = np.empty(windows + 1, np.int64)
    drawn, mask = np.empty((rows, negatives), np.int32), np.empty((rows, negatives), np.bool_)
    _fill(
        kept, half, position, ends, key, epoch, noise.columns,
        EXCLUDE[redrawn], per_pair, inputs, offsets, target, drawn, mask,
    )  # fmt: skip
    return Windows(
        inputs=torch.from_numpy(inputs),
        offsets=torch.from_numpy(offsets),
        target=torch.from_numpy(target),
        negatives=torch.from_numpy(drawn),
        mask=torch.from_numpy(mask),
        block=block,
    )
