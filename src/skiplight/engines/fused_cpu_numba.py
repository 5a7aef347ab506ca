"""The fused CPU engine's kernel: draws, scores and updates a run of segments, window by window.

A segment goes through in three stages: the draws and the subsampling of all its tokens, the draws of all its negatives
(`draws_numba.py`), and its windows. A context word serves every window within W of it, so its row is copied from the
table when it comes within reach, and its change is added to the table when it falls out of reach; equal words within
reach share the copy. Output rows are prefetched some windows ahead, copied, scored against all contexts, and get the
window's summed change added. So all scores of a window are made from the tables as they were before it, and it is one
update, as in the reference engine.

Threads run this on different segments over the same tables without locks (Hogwild, Niu et al. 2011): only changes are
added to rows, so a row that two threads hold loses nothing but what is added in the same few nanoseconds.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from skiplight.compiled import kernel
from skiplight.engines.draws_numba import (
    draw_for_pairs,
    draw_for_windows,
    draw_tokens,
    keep_tokens,
    link_equals,
    permitted,
)
from skiplight.engines.vectors_numba import (
    GROUP,
    LANES,
    LOSS_BYTES,
    TILES_A_SETTLEMENT,
    add_difference,
    copy_row,
    prefetch_row,
    score_tile,
    settle_loss,
    stride,
    update_group,
)
from skiplight.sampling.draws_numba import mix64

AHEAD = 2
"""How many windows ahead rows are asked for."""


@kernel()
def rows_of(count, width):
    """The address of `count` rows of `width` zeros, at a cache line, and what keeps them alive."""
    memory = np.zeros(count * width + 16, np.float32)
    return (memory.ctypes.data + 63) // 64 * 64, memory


@kernel()
def loss_so_far(loss):
    """The loss that is summed in `loss`, float32 [LOSS_BYTES / 4], once it is settled."""
    total = 0.0
    exponents, sums = loss[2 * LANES : 3 * LANES].view(np.int32), loss[3 * LANES :].view(np.float64)
    for lane in range(LANES):
        total += math.log(loss[lane]) + exponents[lane] * math.log(2.0) + sums[lane]
    return total


@functools.cache
def train_segments(dim: int, negatives: int, pair: bool) -> Callable:
    """The kernel for one dimension and K, whose negatives belong to windows or to pairs."""
    groups = -(-(negatives + 1) // GROUP)
    group = -(-(negatives + 1) // groups)
    width = stride(dim)
    row_bytes, group_bytes = 4 * width, 4 * width * group

    @kernel()
    def run(
        ids, segments, document, start, first, stop, seed, epoch,
        keep, columns, window, exclude, inputs, outputs, rate_begin, rate_step,
    ):  # fmt: skip
        """Trains on segments `first` to `stop`; the rate is rate_begin + i·rate_step at ids[i]. Loss and pairs."""
        longest = 0
        for s in range(first, stop):
            longest = max(longest, segments[s + 1] - segments[s])
        reach = 2 * window
        input_base, input_bytes = inputs.ctypes.data, inputs.strides[0]
        output_base, output_bytes = outputs.ctypes.data, outputs.strides[0]

        # A segment's tokens and negatives.
        per_centre = reach * negatives if pair else negatives
        words = np.empty((4, longest), np.uint32)
        calls = np.empty((4, max(longest, per_centre // 2 + 1)), np.uint32)
        kept, half, at = (
            np.empty(longest + 1, np.int32),
            np.empty(longest + 1, np.int32),
            np.empty(longest + 1, np.int32),
        )
        before, after, slot = np.empty(longest, np.int32), np.empty(longest, np.bool_), np.empty(longest, np.int32)
        drawn = np.empty((1 if pair else longest, per_centre), np.int32)

        # Copies of the context rows within reach, what they were in the table, and which are free.
        copies, memory0 = rows_of(reach + 1, width)
        originals, memory1 = rows_of(reach + 1, width)
        earlier, memory2 = rows_of(reach + 1, width)
        free = np.arange(reach + 1)
        # Addresses of a window's context rows (one more, where their number is odd), and of copies of them all.
        contexts, olds = np.empty(reach + 1, np.int64), earlier + np.arange(reach + 1) * row_bytes
        nothing, memory3 = rows_of(2, width)
        waste = nothing + row_bytes

        # Output rows of a window (pairs: of each pair): addresses in the table, copies, signs, gradients.
        sets = reach if pair else 1
        rows = np.full(sets * groups * group, waste, np.int64)
        targets, memory4 = rows_of(sets * groups * group, width)
        tiles = reach if pair else window + 1
        gradient = np.empty((tiles, groups, LANES) if pair else (groups, tiles, LANES), np.float32)
        plain = np.zeros((2, groups, LANES), np.float32)
        for k in range(negatives + 1):
            for t in range(2):
                plain[t, k // group, k % group] = -1.0 if k == 0 else 1.0
            plain[0, k // group, group + k % group] = -1.0 if k == 0 else 1.0
        masked = plain.copy()

        loss = np.zeros(LOSS_BYTES // 4, np.float32)
        loss[:LANES] = 1.0
        unsettled, pairs = 0, 0

        for s in range(first, stop):
            begin = mix64(document[s]) + np.uint64(start[s])
            here = ids[segments[s] : segments[s + 1]]
            draw_tokens(begin, len(here), seed, epoch, words)
            n = keep_tokens(here, words, keep, window, kept, half, at)
            link_equals(kept, n, reach, before, after)
            if not pair:
                draw_for_windows(begin, at, n, words, seed, epoch, columns, calls, drawn[:n])

            entered, left_behind, free_count = 0, 0, reach + 1
            for c in range(n + window + 1):
                # Rows that fall out of reach go back; rows that come within it are copied.
                while left_behind < min(n, c - window):
                    if not after[left_behind]:
                        place = slot[left_behind]
                        row = input_base + kept[left_behind] * input_bytes
                        add_difference(row, copies + place * row_bytes, originals + place * row_bytes, dim)
                        free[free_count] = place
                        free_count += 1
                    left_behind += 1
                if c >= n:
                    continue
                while entered < min(n, c + window + 1):
                    if before[entered] >= 0:
                        slot[entered] = slot[before[entered]]
                    else:
                        free_count -= 1
                        place = free[free_count]
                        slot[entered] = place
                        row = input_base + kept[entered] * input_bytes
                        copy_row(copies + place * row_bytes, row, dim)
                        copy_row(originals + place * row_bytes, row, dim)
                    entered += 1
                ahead = c + AHEAD
                if ahead < n:
                    prefetch_row(output_base + kept[ahead] * output_bytes, dim)
                    if not pair:
                        for k in range(negatives):
                            prefetch_row(output_base + drawn[ahead, k] * output_bytes, dim)
                if ahead + window < n:
                    prefetch_row(input_base + kept[ahead + window] * input_bytes, dim)

                left, right = max(c - half[c], 0), min(c + half[c], n - 1)
                count = right - left
                if count == 0:
                    continue
                here_place = begin + np.uint64(at[c])
                rate = np.float32(rate_begin + (segments[s] + at[c]) * rate_step)
                pairs += count

                j, repeated = 0, False
                for i in range(left, right + 1):
                    if i != c:
                        contexts[j] = copies + slot[i] * row_bytes
                        j += 1
                        nearest = before[i] if before[i] != c else before[c]
                        repeated |= nearest >= left
                if count & 1:
                    contexts[count] = nothing
                if pair:
                    draw_for_pairs(
                        here_place, words[2, at[c]], words[3, at[c]], 2 * half[c] * negatives, seed, epoch, columns,
                        calls, drawn[0],
                    )  # fmt: skip

                # Scores, gradients and loss of all pairs.
                for z in range(count if pair else 1):
                    offset = 0
                    if pair:
                        distance = left + z - c
                        distance += distance >= 0
                        offset = (2 * (abs(distance) - 1) + (distance > 0)) * negatives
                    base = z * groups * group
                    rows[base] = output_base + kept[c] * output_bytes
                    signs = plain
                    for k in range(negatives):
                        word = drawn[0 if pair else c, offset + k]
                        if exclude > 0:
                            word = permitted(
                                word, here_place, offset + k, seed, epoch, columns, kept, c, left, right, exclude
                            )
                            if word < 0:
                                if signs is plain:
                                    masked[:] = plain
                                    signs = masked
                                q, r = (k + 1) // group, (k + 1) % group
                                masked[0, q, r] = masked[1, q, r] = masked[0, q, group + r] = 0.0
                                word = 0
                        rows[base + k + 1] = output_base + word * output_bytes
                    for k in range(negatives + 1):
                        copy_row(targets + (base + k) * row_bytes, rows[base + k], dim)
                    sign = signs.ctypes.data
                    for q in range(groups):
                        target = targets + base * row_bytes + q * group_bytes
                        for t in range(1 if pair else (count + 1) // 2):
                            if pair:
                                one, other, g = contexts[z], nothing, gradient[z, q].ctypes.data
                            else:
                                one, other, g = contexts[2 * t], contexts[2 * t + 1], gradient[q, t].ctypes.data
                            alone = pair or 2 * t + 1 == count
                            score_tile(
                                one, other, target, sign + 4 * LANES * (q + groups * alone), rate, g,
                                loss.ctypes.data, dim, group,
                            )  # fmt: skip
                            unsettled += 1
                            if unsettled == TILES_A_SETTLEMENT:
                                settle_loss(loss.ctypes.data)
                                unsettled = 0

                # Their updates, summed. A second group, or a second place of a row, needs the rows as they were.
                apart = repeated or groups > 1
                if apart:
                    for i in range(count):
                        copy_row(olds[i], contexts[i], width)
                for z in range(count if pair else 1):
                    many = 1 if pair else count
                    for q in range(groups):
                        base = (z * groups + q) * group
                        g = gradient[z, q].ctypes.data if pair else gradient[q].ctypes.data
                        moved, old = contexts.ctypes.data + 8 * z, olds.ctypes.data + 8 * z
                        target, row = targets + base * row_bytes, rows.ctypes.data + 8 * base
                        if apart:
                            update_group(moved, old, many, g, target, row, dim, group, 1)
                        else:
                            update_group(moved, moved, many, g, target, row, dim, group, 0)
        settle_loss(loss.ctypes.data)
        return loss_so_far(loss), pairs, memory0, memory1, memory2, memory3, memory4

    return run
