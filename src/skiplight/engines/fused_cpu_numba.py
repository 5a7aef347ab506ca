"""The fused CPU engine's kernel: draws, scores and updates the windows of consecutive segments, one after the other.

A segment is processed in three stages: the draws and the subsampling of its tokens, the draws of its negatives
(`draws_numba.py`), and its windows. A context word belongs to every window within W tokens of it, so its row is copied
from the table when it comes within reach, and its change is added to the table when it leaves reach. Equal words within
reach share the copy. Output rows are prefetched some windows ahead, copied, and scored against all contexts; then the
summed change of the window is added to them. So all scores of a window are computed from the tables as they were before
it, and the window is one update, as in the reference engine.

Threads run the kernel on different segments and the same tables without locks (Hogwild, Niu et al. 2011). Only changes
are added to rows, so rows that two threads change lose only additions that coincide within a few nanoseconds. If there
are other workers, in this process or in others, two measures keep all of them from correcting the same error of a
frequent word at once: a shared copy is added to the table and read again each time that an equal word comes within
reach, so that no copy is older than 2W + 1 windows; and the steps of rows with too many gradients in flight are
shortened (`in_flight.py`).

Rows are given by address, as `vectors_numba.py` takes them. With K + 1 output rows in `groups` groups of `group`, row k
is number k % group of group k // group. Rows beyond K are zero and do not count.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np

from skiplight.compiled import inline, kernel
from skiplight.engines.draws_numba import (
    draw_for_pairs,
    draw_for_windows,
    draw_tokens,
    exclude_from_windows,
    keep_tokens,
    link_equals,
    permitted,
)
from skiplight.engines.in_flight import MOST
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

_MOST = np.float32(MOST)

AHEAD = 2
"""How many windows ahead rows are prefetched."""


@kernel()
def zeros(count):
    """Return `count` float32 zeros that begin at a cache line."""
    memory = np.zeros(count + 16, np.float32)
    first = (-np.int64(memory.ctypes.data) & 63) >> 2
    return memory[first : first + count]


@kernel()
def address(array):
    """Return the address of an array, int64; it is signed, so that offsets can be added to it."""
    return np.int64(array.ctypes.data)


@kernel()
def loss_so_far(loss):
    """Return the sum of a settled `loss`, float32 [LOSS_BYTES / 4] (`settle_loss`)."""
    total = 0.0
    exponents, sums = loss[2 * LANES : 3 * LANES].view(np.int32), loss[3 * LANES :].view(np.float64)
    for lane in range(LANES):
        total += math.log(loss[lane]) + exponents[lane] * math.log(2.0) + sums[lane]
    return total


@inline
def scale(rate, in_flight):
    """Return `step_scale`, float32, of a row; `in_flight` counts the gradients of all other workers together."""
    return _MOST / max(rate * in_flight, _MOST)


@functools.cache
def train_segments(dim: int, negatives: int, pair: bool, scaled: bool = False) -> Callable:
    """Return the kernel for one dimension and K.

    Args:
        dim: length of the vectors.
        negatives: K.
        pair: whether each pair has its own negatives, rather than each window.
        scaled: whether the kernel multiplies the steps of rows by `step_scale`.
    """
    groups = -(-(negatives + 1) // GROUP)
    group = -(-(negatives + 1) // groups)
    padded = groups * group
    width = stride(dim)
    row_bytes, vector_bytes = 4 * width, 4 * LANES

    def run(
        ids, segments, document, start, first, stop, seed, epoch,
        keep, columns, window, exclude, inputs, outputs, rate_begin, rate_step,
        other_workers, inputs_in_flight, outputs_in_flight,
    ):  # fmt: skip
        """Train on segments `first` to `stop`, and return the sum of the loss and the number of pairs.

        Args:
            ids, segments, document, start: the tensors of a `TokenBlock`, as arrays.
            keep: uint32 [V], keep thresholds.
            columns: uint64 [V], `NoiseDistribution.columns`.
            exclude: as for `draws_numba.permitted`.
            inputs, outputs: float32 [V, dim], the tables; changed.
            rate_begin, rate_step: the learning rate at ids[i] is rate_begin + i·rate_step.
            other_workers: number of other workers that move the tables; if there are any, a shared copy is added to the
                table each time that an equal word comes within reach.
            inputs_in_flight, outputs_in_flight: float32 [V], from `in_flight_gradients`; read only if `scaled`.
        """
        longest = 0
        for s in range(first, stop):
            longest = max(longest, segments[s + 1] - segments[s])
        reach = 2 * window
        input_base, input_bytes = address(inputs), inputs.strides[0]
        output_base, output_bytes = address(outputs), outputs.strides[0]

        # The tokens and negatives of a segment.
        per_centre = reach * negatives if pair else negatives
        bits = np.empty((4, longest), np.uint32)
        calls = np.empty((4, max(longest, per_centre // 2 + 1)), np.uint32)
        numbers = np.empty((5, longest + 1), np.int32)
        kept, half, at, before, chain = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
        after, excluded, copy = np.empty(longest, np.bool_), np.empty(longest, np.bool_), np.empty(longest, np.int64)
        drawn = np.empty((1, per_centre) if pair else (per_centre, longest), np.int32)

        # Copies of the context rows within reach, followed by their values in the table; addresses of the free copies.
        context_rows = zeros(2 * (reach + 1) * width)
        to_original = (reach + 1) * row_bytes
        free = address(context_rows) + np.arange(reach + 1) * row_bytes
        # Addresses of a window's context rows (one more if their number is odd), and memory for their earlier values.
        contexts = np.empty(reach + 1, np.int64)
        earlier_rows = zeros(reach * width)
        earlier = address(earlier_rows) + np.arange(reach) * row_bytes
        contexts_at, earlier_at = address(contexts), address(earlier)
        # Gradients that the other workers together have in flight, for each kept token of the segment as a context.
        in_flight, other_workers32 = np.empty(longest, np.float32), np.float32(other_workers)
        context_scales = np.empty(reach, np.float32)

        # Output rows of a window, or of each of its pairs: addresses in the table, copies, gradients.
        sets = reach if pair else 1
        spare_rows = zeros(2 * width)
        nothing, waste = address(spare_rows), address(spare_rows) + row_bytes
        rows = np.full(sets * padded, waste, np.int64)
        output_rows = zeros(sets * padded * width)
        gradients = zeros((reach if pair else window) * groups * LANES)
        output_scales = np.ones(sets * padded, np.float32)
        context_scales_at, output_scales_at = address(context_scales), address(output_scales)
        rows_at, copies_at, gradients_at = address(rows), address(output_rows), address(gradients)
        gradient_bytes = vector_bytes * (1 if pair else window)

        # Signs for two context rows, and for a single one: without masked negatives, and for the current window.
        plain = np.zeros((2, groups, LANES), np.float32)
        for k in range(negatives + 1):
            sign = np.float32(1 if k else -1)
            plain[0, k // group, k % group] = plain[0, k // group, group + k % group] = sign
            plain[1, k // group, k % group] = sign
        masked = plain.copy()
        plain_at, masked_at, alone = address(plain), address(masked), groups * vector_bytes

        loss = zeros(LOSS_BYTES // 4)
        loss[:LANES] = 1.0
        loss_at, unsettled, pairs = address(loss), 0, 0

        for s in range(first, stop):
            begin = mix64(document[s]) + np.uint64(start[s])
            here = ids[segments[s] : segments[s + 1]]
            draw_tokens(begin, len(here), seed, epoch, bits)
            n = keep_tokens(here, bits, keep, window, kept, half, at)
            link_equals(kept, n, reach, chain, before, after)
            if not pair:
                draw_for_windows(begin, at, n, bits, seed, epoch, columns, calls, drawn)
                if exclude > 0:
                    exclude_from_windows(begin, at, n, seed, epoch, columns, kept, half, exclude, excluded, drawn)

            entered, gone, free_count, repeat = 0, 0, reach + 1, -1
            for c in range(n + window + 1):
                # Changes of rows that leave reach are added to the table; rows that come within reach are copied.
                if gone < min(n, c - window):
                    if not after[gone]:
                        row = input_base + kept[gone] * input_bytes
                        add_difference(row, copy[gone], copy[gone] + to_original, dim)
                        free[free_count] = copy[gone]
                        free_count += 1
                    gone += 1
                if c >= n:
                    continue
                while entered < min(n, c + window + 1):
                    row = input_base + kept[entered] * input_bytes
                    known = before[entered] >= 0
                    if known:
                        copy[entered] = copy[before[entered]]
                        if other_workers > 0:
                            add_difference(row, copy[entered], copy[entered] + to_original, dim)
                    else:
                        free_count -= 1
                        copy[entered] = free[free_count]
                    if not known or other_workers > 0:
                        copy_row(copy[entered], row, dim)
                        copy_row(copy[entered] + to_original, row, dim)
                    if scaled:
                        in_flight[entered] = other_workers32 * inputs_in_flight[kept[entered]]
                    entered += 1
                ahead = c + AHEAD
                if ahead < n:
                    prefetch_row(output_base + kept[ahead] * output_bytes, dim)
                    if not pair:
                        for k in range(negatives):
                            prefetch_row(output_base + max(drawn[k, ahead], 0) * output_bytes, dim)
                if ahead + window < n:
                    prefetch_row(input_base + kept[ahead + window] * input_bytes, dim)

                left, right = max(c - half[c], 0), min(c + half[c], n - 1)
                count = right - left
                if count == 0:
                    continue
                rate = np.float32(rate_begin + (segments[s] + at[c]) * rate_step)
                pairs += count
                for i in range(left, c):
                    contexts[i - left] = copy[i]
                for i in range(c, right):
                    contexts[i - left] = copy[i + 1]
                if count & 1:
                    contexts[count] = nothing
                if scaled:
                    for i in range(left, c):
                        context_scales[i - left] = scale(rate, in_flight[i])
                    for i in range(c, right):
                        context_scales[i - left] = scale(rate, in_flight[i + 1])
                position = begin + np.uint64(at[c])
                if pair:
                    wanted = 2 * half[c] * negatives
                    draw_for_pairs(
                        position, bits[2, at[c]], bits[3, at[c]], wanted, seed, epoch, columns, calls, drawn[0]
                    )
                    for i in range(wanted):  # all at once, so that no read waits for the one before
                        prefetch_row(output_base + drawn[0, i] * output_bytes, dim)

                # Scores, gradients and loss of all pairs.
                for z in range(count if pair else 1):
                    base, offset = z * padded, 0
                    if pair:
                        distance = left + z - c
                        distance += distance >= 0
                        offset = (2 * (abs(distance) - 1) + (distance > 0)) * negatives
                    rows[base] = output_base + kept[c] * output_bytes
                    signs = plain_at
                    for k in range(negatives):
                        word = drawn[0, offset + k] if pair else drawn[k, c]
                        if pair and exclude > 0:
                            word = permitted(
                                word, position, offset + k, seed, epoch, columns, kept, c, left, right, exclude
                            )
                        if word < 0:
                            if signs == plain_at:
                                masked[:] = plain
                                signs = masked_at
                            q, r = (k + 1) // group, (k + 1) % group
                            masked[0, q, r] = masked[1, q, r] = masked[0, q, group + r] = 0.0
                            word = 0
                        rows[base + k + 1] = output_base + word * output_bytes
                        if scaled:
                            output_scales[base + k + 1] = scale(rate, other_workers32 * outputs_in_flight[word])
                    if scaled:
                        output_scales[base] = scale(rate, other_workers32 * outputs_in_flight[kept[c]])
                    for k in range(negatives + 1):
                        copy_row(copies_at + (base + k) * row_bytes, rows[base + k], dim)
                    for q in range(groups):
                        copies = copies_at + (base + q * group) * row_bytes
                        sign = signs + q * vector_bytes
                        for t in range(1 if pair else (count + 1) >> 1):
                            number = z * groups + q if pair else q * window + t
                            single = pair or 2 * t + 1 == count
                            score_tile(
                                contexts[z if pair else 2 * t], nothing if pair else contexts[2 * t + 1], copies,
                                sign + alone if single else sign, rate, gradients_at + number * vector_bytes,
                                loss_at, dim, group,
                            )  # fmt: skip
                            unsettled += 1
                            if unsettled == TILES_A_SETTLEMENT:
                                settle_loss(loss_at)
                                unsettled = 0

                # The summed updates. A second group, and a row that occurs twice, need the earlier values of the rows.
                for i in range(c, right + 1):
                    repeat = max(repeat, before[i])
                apart = groups > 1 or repeat >= left
                if apart:
                    for i in range(count):
                        copy_row(earlier[i], contexts[i], width)
                for z in range(count if pair else 1):
                    many = 1 if pair else count
                    for q in range(groups):
                        number = (z * groups + q) * group
                        moved, g = contexts_at + 8 * z, gradients_at + (z * groups + q) * gradient_bytes
                        copies, row = copies_at + number * row_bytes, rows_at + 8 * number
                        shorter, less = context_scales_at + 4 * z, output_scales_at + 4 * number
                        if apart:
                            old = earlier_at + 8 * z
                            update_group(moved, old, many, g, copies, row, shorter, less, dim, group, 1, scaled)
                        else:
                            update_group(moved, moved, many, g, copies, row, shorter, less, dim, group, 0, scaled)
        settle_loss(loss_at)
        # Returned so that the arrays live as long as their addresses are used.
        owners = (
            context_rows, earlier_rows, spare_rows, output_rows, gradients, masked, plain, rows, contexts, earlier,
            context_scales, output_scales,
        )  # fmt: skip
        return loss_so_far(loss), pairs, owners

    # Numba names machine code by the name of the function and a number that counts within a process. Under one name, a
    # process could not load two kernels that different processes have compiled and cached.
    run.__qualname__ = f"train_segments_{dim}_{negatives}_{'pair' if pair else 'window'}{'_scaled' if scaled else ''}"
    return kernel()(run)
