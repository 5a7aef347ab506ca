"""`WindowSampler` on a GPU, for an engine that forms windows itself: the kept tokens of a block and their negatives.

Tensors have the size of the block, and the number of kept tokens stays on the device, so that the host never waits for
it. A prefix sum compacts the kept tokens: the window of kept token c consists of the kept tokens from c - left[c] to
c + right[c].
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.draws import ATTEMPTS
from skiplight.sampling.draws_triton import draw_negative, mix64, scale_bits, token_bits
from skiplight.sampling.windows import WindowSampler
from skiplight.sampling.windows_numba import EXCLUDE

TILE = 1024
"""Tokens or negatives per program."""


@dataclasses.dataclass
class Centres:
    """The kept tokens of a block, in order; entries after the first `count` are undefined.

    Attributes:
        count: int32 [1], the number of kept tokens.
        word: int32 [tokens].
        left, right: int32 [tokens], the number of kept tokens on either side that belong to the window.
        at: int32 [tokens], the index of each in the block.
        position: int64 [tokens], the position of each in the text (`draws.py`).
    """

    count: Tensor
    word: Tensor
    left: Tensor
    right: Tensor
    at: Tensor
    position: Tensor


class DeviceSampler:
    """Make the windows and negatives of a `WindowSampler` on a GPU.

    Args:
        sampler: the sampler; the engine applies its orientation (`input`).
        device: the device of the blocks.
    """

    def __init__(self, sampler: WindowSampler, device: torch.device) -> None:
        self.sampler = sampler
        self.keep = torch.from_numpy(sampler.keep.view(np.int32)).to(device)
        self.columns = torch.from_numpy(sampler.noise.columns.view(np.int64)).to(device)

    @property
    def per_centre(self) -> int:
        """Return the slots of negatives per centre: K, or K per position that a context word can have."""
        return self.sampler.negatives * (2 * self.sampler.window if self.sampler.shared == "pair" else 1)

    def centres(self, block: TokenBlock) -> Centres:
        """Return the kept tokens of a block, with half-widths cut at the ends of segments."""
        sampler, tokens, device = self.sampler, len(block.ids), block.ids.device
        segment_of = torch.repeat_interleave(
            torch.arange(len(block.start), dtype=torch.int32, device=device), block.segments.diff(), output_size=tokens
        )
        # Separate tensors, since Triton recompiles for arrays that do not begin at a multiple of 16 bytes.
        half, word, left, right, at = (torch.empty(tokens, dtype=torch.int32, device=device) for _ in range(5))
        position = torch.empty(tokens, dtype=torch.int64, device=device)
        grid = (triton.cdiv(tokens, TILE),)
        _sift[grid](
            block.ids, segment_of, block.segments, block.document, block.start, self.keep, half,
            tokens, sampler.window, sampler.seed, block.epoch, TILE,
        )  # fmt: skip
        # The number of kept tokens up to and including each token, after a leading 0.
        ends = torch.nn.functional.pad((half > 0).cumsum(0, dtype=torch.int32), (1, 0))
        _compact[grid](
            block.ids, segment_of, block.segments, block.document, block.start, half, ends,
            word, left, right, at, position, tokens, TILE,
        )  # fmt: skip
        return Centres(ends[-1:].clone(), word, left, right, at, position)

    def negatives(self, block: TokenBlock, centres: Centres, first: int, out: Tensor) -> None:
        """Draw the negatives of `len(out)` centres from number `first` on.

        Args:
            out: int32 [centres, per_centre], -1 where a slot has none. Drawn per pair, negative k of the context word
                at signed distance o is number z·K + k, with z = 2(|o| - 1) + [o > 0].
        """
        sampler = self.sampler
        _draw[(triton.cdiv(out.numel(), TILE),)](
            centres.count, centres.word, centres.left, centres.right, centres.position, self.columns, out,
            first, len(out), len(self.columns), sampler.seed, block.epoch,
            sampler.window, sampler.negatives, self.per_centre, EXCLUDE[sampler.exclude], sampler.shared == "pair",
            TILE, ATTEMPTS,
        )  # fmt: skip


@triton.jit
def _positions(i, segment, segments, document, start, inside):
    """Return the positions of tokens i, uint64."""
    begin = mix64(tl.load(document + segment, mask=inside, other=0).to(tl.uint64))
    offset = tl.load(start + segment, mask=inside, other=0) + i - tl.load(segments + segment, mask=inside, other=0)
    return begin + offset.to(tl.uint64)


@triton.jit(do_not_specialize=["tokens", "window", "seed", "epoch"])
def _sift(
    ids, segment_of, segments, document, start, keep, half, tokens, window, seed, epoch, TILE: tl.constexpr
):  # fmt: skip
    """Write the half-widths of all tokens' windows, 0 where a token is dropped."""
    i = tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = i < tokens
    segment = tl.load(segment_of + i, mask=inside, other=0)
    position = _positions(i, segment, segments, document, start, inside)
    w0, w1, _, _ = token_bits(position, seed.to(tl.uint32), epoch.to(tl.uint32))
    threshold = tl.load(keep + tl.load(ids + i, mask=inside, other=0), mask=inside, other=0)
    width = 1 + scale_bits(w1, window)
    tl.store(half + i, tl.where(w0 <= threshold.to(tl.uint32, bitcast=True), width, 0), mask=inside)


@triton.jit(do_not_specialize=["tokens"])
def _compact(
    ids, segment_of, segments, document, start, half, ends, word, left, right, at, position, tokens, TILE: tl.constexpr
):  # fmt: skip
    """Compact the kept tokens, and cut half-widths at the ends of segments."""
    i = tl.program_id(0) * TILE + tl.arange(0, TILE)
    width = tl.load(half + i, mask=i < tokens, other=0)
    kept = width > 0
    segment = tl.load(segment_of + i, mask=kept, other=0)
    number = tl.load(ends + i, mask=kept, other=0)
    first = tl.load(ends + tl.load(segments + segment, mask=kept, other=0), mask=kept, other=0)
    last = tl.load(ends + tl.load(segments + segment + 1, mask=kept, other=0), mask=kept, other=0) - 1
    tl.store(word + number, tl.load(ids + i, mask=kept, other=0), mask=kept)
    tl.store(left + number, tl.minimum(width, number - first), mask=kept)
    tl.store(right + number, tl.minimum(width, last - number), mask=kept)
    tl.store(at + number, i, mask=kept)
    tl.store(position + number, _positions(i, segment, segments, document, start, kept).to(tl.int64), mask=kept)


@triton.jit(do_not_specialize=["first", "rows", "vocabulary", "seed", "epoch"])
def _draw(
    count, word, left, right, position, columns, out, first, rows, vocabulary, seed, epoch,
    WINDOW: tl.constexpr, K: tl.constexpr, PER_CENTRE: tl.constexpr, EXCLUDE: tl.constexpr, PAIR: tl.constexpr,
    TILE: tl.constexpr, ATTEMPTS: tl.constexpr,
):  # fmt: skip
    """Draw the negatives of centres from number `first` on, and redraw excluded ones."""
    i = tl.program_id(0).to(tl.int64) * TILE + tl.arange(0, TILE)
    row, n = i // PER_CENTRE, (i % PER_CENTRE).to(tl.int32)
    c = first + row
    inside = (row < rows) & (c < tl.load(count))
    here = tl.load(word + c, mask=inside, other=0)
    before, after = tl.load(left + c, mask=inside, other=0), tl.load(right + c, mask=inside, other=0)
    wanted = inside & (before + after > 0)
    if PAIR:
        z = n // K
        wanted &= z // 2 < tl.where(z % 2 == 1, after, before)
    spot = tl.load(position + c, mask=inside, other=0).to(tl.uint64)
    drawn = tl.full([TILE], -1, tl.int32)
    pending, attempt = wanted, 0
    while (attempt < ATTEMPTS) & (tl.max(pending.to(tl.int32), 0) > 0):
        new = draw_negative(spot, n, attempt, seed.to(tl.uint32), epoch.to(tl.uint32), columns, vocabulary, pending)
        excluded = pending & (EXCLUDE > 0) & (new == here)
        if EXCLUDE == 2:
            for distance in range(1, WINDOW + 1):
                for_left = pending & (distance <= before)
                excluded |= for_left & (new == tl.load(word + c - distance, mask=for_left, other=-1))
                for_right = pending & (distance <= after)
                excluded |= for_right & (new == tl.load(word + c + distance, mask=for_right, other=-1))
        drawn = tl.where(pending & ~excluded, new, drawn)
        pending = excluded
        attempt += 1
    tl.store(out + i, drawn, mask=row < rows)
