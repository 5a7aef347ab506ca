"""Skip-gram windows with their negatives, made from blocks of tokens.

The steps follow word2vec.c. Subsampling drops tokens first, which widens the windows of the remaining ones. Each kept
token is the centre of a window of up to b kept neighbours on either side, b uniform in 1..W; a window never leaves its
segment. As in word2vec, each context word is an *input* that predicts the centre, the *target*. Every window gets K
negatives, shared by its pairs or drawn per pair.

`WindowSampler` returns the same integers on every device: on the CPU by compiled loops (`windows_numba.py`), elsewhere
by the tensor operations of this file, which are the reference. They are a function of seed, epoch, position and slot,
and where the noise changes during a training (`AnnealedNoise`), of the stage too that the step is in.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from skiplight.sampling.batches import TokenBlock, Windows
from skiplight.sampling.draws import ATTEMPTS, Purpose, mix64
from skiplight.sampling.draws_torch import draw_bits, draw_negative_bits
from skiplight.sampling.noise import AnnealedNoise, NoiseDistribution, power_weights
from skiplight.sampling.subsampling import keep_thresholds
from skiplight.sampling.windows_numba import sample_windows

Shared = Literal["window", "pair"]
Exclude = Literal["none", "target", "window"]
Input = Literal["context", "centre"]


class WindowSampler:
    """Turn blocks into windows with negatives, as a pure function of the seed and the block.

    Args:
        counts: int64 [V], how often each word occurs in the training text.
        seed: 0 <= seed < 2^32.
        window: W, the largest half-width.
        subsample: the threshold t of subsampling; 0 keeps every token.
        exponent: α of the noise distribution.
        negatives: K; 0 for objectives that need no noise.
        shared: "window" shares K negatives among the pairs of a window, "pair" draws K per pair.
        exclude: words that are not used as negatives: "none", "target" (the pair's output word) or "window" (any word
            of the window). An excluded draw is repeated up to 16 times, then masked; with `input="centre"`, where each
            pair of a window has its own target, a draw of the target is masked at once.
        noise: the distribution of negatives, instead of count^α; one that changes begins in its first stage.
        input: the input word of a pair: "context" as in word2vec, where each context word predicts the centre, or
            "centre", which predicts each context word (`Windows.center_as_input`).

    Attributes:
        keep: uint32 [V], the keep thresholds (`draws.py`).
        frequency: float64 [V], the share of each word among the kept tokens.
        noise: the distribution of negatives, that of the current stage.
        annealed, stage: the noise that changes during a training, or None, and its current stage.

    >>> sampler = WindowSampler(np.array([3, 2, 1]), window=1, subsample=0, negatives=2, exclude="target")
    >>> windows = sampler(TokenBlock.of([[0, 1, 2]]))
    >>> windows.target.tolist(), windows.inputs.tolist(), windows.offsets.tolist()
    ([0, 1, 2], [1, 0, 2, 1], [0, 1, 3, 4])
    >>> windows.negatives.shape, bool((windows.negatives == windows.target[:, None]).any())
    (torch.Size([3, 2]), False)
    """

    def __init__(
        self,
        counts: np.ndarray,
        *,
        seed: int = 0,
        window: int = 5,
        subsample: float = 1e-3,
        exponent: float = 0.75,
        negatives: int = 5,
        shared: Shared = "window",
        exclude: Exclude = "target",
        noise: NoiseDistribution | AnnealedNoise | None = None,
        input: Input = "context",
    ) -> None:
        self.seed, self.window, self.negatives = seed, window, negatives
        self.shared, self.exclude, self.input = shared, exclude, input
        # The centre as input may be a negative of its own context; otherwise its score with itself would only rise.
        self.redrawn: Exclude = "none" if input == "centre" and exclude == "target" else exclude
        self.annealed = noise if isinstance(noise, AnnealedNoise) else None
        self.stage = 0
        if noise is None:
            noise = NoiseDistribution(power_weights(counts, exponent))
        self.noise: NoiseDistribution = noise.distribution(0) if isinstance(noise, AnnealedNoise) else noise
        self.keep = keep_thresholds(counts, subsample)
        kept = np.asarray(counts) * (self.keep + 1.0)
        self.frequency = kept / kept.sum()
        self._on_device: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def enter_stage(self, stage: int) -> bool:
        """Draw negatives from the distribution of a stage from now on; return whether it is another one."""
        if self.annealed is None or stage == self.stage:
            return False
        self.stage, self.noise = stage, self.annealed.distribution(stage)
        self._on_device.clear()
        return True

    def __call__(self, block: TokenBlock) -> Windows:
        """Return the windows of `block`, on its device."""
        if block.ids.device.type != "cpu":
            windows = self.reference(block)
        else:
            windows = sample_windows(
                block,
                seed=self.seed,
                window=self.window,
                keep=self.keep,
                noise=self.noise,
                negatives=self.negatives,
                per_pair=self.shared == "pair",
                redrawn=self.redrawn,
            )
        return self.center_as_input(windows) if self.input == "centre" else windows

    def center_as_input(self, windows: Windows) -> Windows:
        """Return the windows with the centre as input, and mask negatives that are now the target of their pair."""
        windows = windows.center_as_input()
        if self.exclude != "none":
            windows.mask &= windows.negatives != windows.target[:, None]
        return windows

    def reference(self, block: TokenBlock) -> Windows:
        """Return the windows of `block` with context words as inputs, by tensor operations only."""
        key, device = (self.seed, block.epoch), block.ids.device
        keep, _ = self._tables(device)

        segment_of = torch.repeat_interleave(torch.arange(len(block.start), device=device), block.segments.diff())
        begin = torch.from_numpy(mix64(block.document.cpu().numpy()).view(np.int64)).to(device) + block.start
        position = (begin - block.segments[:-1])[segment_of] + torch.arange(len(block.ids), device=device)

        bits = draw_bits(key, position, Purpose.TOKEN)
        kept = (bits[0] <= keep[block.ids]).nonzero().squeeze(1)
        ids, position, segment_of = block.ids[kept], position[kept], segment_of[kept]
        half = 1 + (bits[1][kept] * self.window >> 32)
        ends = torch.bincount(segment_of, minlength=len(block.start)).cumsum(0)
        last = ends[segment_of] - 1
        first = last + 1 - torch.bincount(segment_of, minlength=len(block.start))[segment_of]
        index = torch.arange(len(ids), device=device)
        left, right = torch.minimum(half, index - first), torch.minimum(half, last - index)

        centres = (left + right > 0).nonzero().squeeze(1)
        left, size = left[centres], (left + right)[centres]
        offsets = torch.cat([size.new_zeros(1), size.cumsum(0)])
        window_of = torch.repeat_interleave(torch.arange(len(centres), device=device), size)
        step = torch.arange(len(window_of), device=device) - offsets[window_of] - left[window_of]
        distance = step + (step >= 0)  # skip the centre
        windows = Windows(
            inputs=ids[centres[window_of] + distance],
            offsets=offsets,
            target=ids[centres],
            negatives=ids.new_empty(0),
            mask=ids.new_empty(0, dtype=torch.bool),
            block=block,
        )

        k = torch.arange(self.negatives, device=device)
        if self.shared == "pair":
            zigzag = 2 * (distance.abs() - 1) + (distance > 0)
            self._draw_negatives(windows, key, position[centres][window_of], zigzag[:, None] * self.negatives + k)
        else:
            self._draw_negatives(windows, key, position[centres], k.expand(len(centres), -1))
        return windows

    def _draw_negatives(self, windows: Windows, key: tuple[int, int], position: Tensor, n: Tensor) -> None:
        """Set `negatives` and `mask`, and redraw excluded words.

        Args:
            windows: changed in place.
            key: seed and epoch.
            position: int64 [rows].
            n: int64 [rows, K], numbers of the negatives (`draws.py`).
        """
        _, columns = self._tables(n.device)
        forbidden = self._forbidden(windows)
        row = torch.arange(len(n), device=n.device)[:, None].expand_as(n).reshape(-1)
        slot, pending = n.reshape(-1), torch.arange(n.numel(), device=n.device)
        negatives = torch.zeros(n.numel(), dtype=torch.int32, device=n.device)
        for attempt in range(ATTEMPTS):
            a, b = draw_negative_bits(key, position[row[pending]], slot[pending], attempt)
            column = a * len(self.noise) >> 32
            own = columns[column]
            word = torch.where(b < (own & 0xFFFFFFFF), column, own >> 32).int()
            negatives[pending] = word
            excluded = (word[:, None] == forbidden[row[pending]]).any(1) if forbidden is not None else word < 0
            pending = pending[excluded]
            if len(pending) == 0:
                break
        mask = torch.ones_like(negatives, dtype=torch.bool)
        mask[pending] = False
        windows.negatives, windows.mask = negatives.view_as(n), mask.view_as(n)

    def _forbidden(self, windows: Windows) -> Tensor | None:
        """Return the words that are excluded as negatives of each row, int32 [rows, n], padded with -1."""
        target = windows.target[:, None]
        if self.redrawn == "none":
            return None
        if self.redrawn == "window":
            window_of = windows.window_of_pair()
            context = target.new_full((len(target), 2 * self.window), -1)
            context[window_of, torch.arange(windows.pairs, device=target.device) - windows.offsets[window_of]] = (
                windows.inputs
            )
            target = torch.cat([target, context], dim=1)
        return target[windows.window_of_pair()] if self.shared == "pair" else target

    def _tables(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return `keep` and the noise distribution's `columns` on a device, int64 [V] each."""
        if device not in self._on_device:
            keep, columns = self.keep.astype(np.int64), self.noise.columns.view(np.int64)
            self._on_device[device] = torch.from_numpy(keep).to(device), torch.from_numpy(columns).to(device)
        return self._on_device[device]
