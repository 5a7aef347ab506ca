"""The fused CPU engine's kernel: draws, scores and updates the windows of consecutive segments, one after the other.

A segment is processed in three stages: the draws and the subsampling of its tokens, the draws of its negatives
(`draws_numba.py`), and its windows. A context word belongs to every window within W tokens of it, so its row is copied
from the table when it comes within reach, and its change is added to the table when it leaves reach. Equal words within
reach share the copy. Output rows are prefetched some windows ahead, copied, and scored against all contexts; then the
summed change of the window is added to them. So all scores of a window are computed from the tables as they were before
it, and the window is one update, as in the reference engine.

A *set* is the output rows that are scored together: the target and its negatives, or the nodes on the target's path.
The pairs of a window share one set, unless each has its own negatives or, with the centre as input, its own target.

Threads run the kernel on different segments and the same tables without locks (Hogwild, Niu et al. 2011). Only changes
are added to rows, so rows that two threads change lose only additions that coincide within a few nanoseconds. If there
are other workers, in this process or in others, two measures keep all of them from correcting the same error of a
frequent word at once: a shared copy is added to the table and read again each time that an equal word comes within
reach, so that no copy is older than 2W + 1 windows; and the steps of rows with too many gradients in flight are
shortened (`in_flight.py`).

Adagrad squares the gradient of a row that is summed over the window, wherever the row occurs in it. So the changes of
equal rows are summed first, in rows of zeros, and the rows of the tables then move by these sums. The sums of squares
are read from their tables and written to them in every window.

Rows are given by address, as the micro-kernels take them (`microkernels.py`). The rows of a set form `groups` groups of
`group` rows: row k is number k % group of group k // group. Rows beyond the last one do not count.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import types

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
from skiplight.engines.microkernels import (
    ADAGRAD,
    ADD_DIFFERENCE,
    COPY_PADDED_ROWS,
    COPY_ROWS,
    COPY_TWICE,
    FIRST,
    LOGISTIC,
    PREFETCH,
    SCORES,
    SETTLE,
    SOFTMAX,
    UPDATE,
    VARIANTS,
    call,
)
from skiplight.engines.scores_llvm import LOSS_BYTES, TILES_A_SETTLEMENT
from skiplight.engines.vectors_llvm import GROUP, LANES
from skiplight.sampling.draws_numba import mix64

_MOST = np.float32(MOST)

AHEAD = 1
"""How many windows ahead rows are prefetched; 1 to 6 were tried, and more is no faster."""

_VECTOR = 4 * LANES


class Sampling(NamedTuple):
    """How windows and negatives are drawn (`WindowSampler`)."""

    seed: np.uint64
    epoch: np.uint64
    keep: np.ndarray
    columns: np.ndarray
    window: int
    negatives: int
    exclude: int
    """Which negatives are drawn again, as for `draws_numba.permitted`."""
    pair: bool
    """Whether each pair has its own negatives, rather than each window."""
    centre: bool
    """Whether the centre is the input of its pairs, rather than their target."""
    masked: bool
    """Whether a negative that is its pair's target does not count, with the centre as input."""


class Rule(NamedTuple):
    """How pairs are scored (`objectives.scoring.Scoring`); arrays that are not needed are empty."""

    softmax: bool
    shift: np.ndarray
    target_shift: np.ndarray
    counts_drawn: bool
    lengths: np.ndarray
    nodes: np.ndarray
    turns: np.ndarray


class Model(NamedTuple):
    """The tables and Adagrad's sums of squares, float32 [rows, dim] and [rows]; what is not needed is empty."""

    inputs: np.ndarray
    outputs: np.ndarray
    bias: np.ndarray
    learned: bool
    """Whether the bias is trained."""
    input_sums: np.ndarray
    output_sums: np.ndarray
    bias_sums: np.ndarray


class Steps(NamedTuple):
    """How far rows move."""

    rate_begin: float
    rate_step: float
    """The learning rate at token i of the block is rate_begin + i·rate_step."""
    adagrad: bool
    epsilon: float
    other_workers: int
    """Number of other workers that move the tables."""
    scaled: bool
    """Whether the steps of rows are multiplied by `step_scale`."""
    inputs_in_flight: np.ndarray
    outputs_in_flight: np.ndarray


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
    """Return the sum of a settled `loss`, float32 [LOSS_BYTES / 4] (`emit_settle`)."""
    total = 0.0
    exponents, sums = loss[2 * LANES : 3 * LANES].view(np.int32), loss[3 * LANES :].view(np.float64)
    for lane in range(LANES):
        total += math.log(loss[lane]) + exponents[lane] * math.log(2.0) + sums[lane]
    return total


@inline
def scale(rate, in_flight):
    """Return `step_scale`, float32, of a row; `in_flight` counts the gradients of all other workers together."""
    return _MOST / max(rate * in_flight, _MOST)


@inline
def set_lanes(vectors, k, group, value):
    """Set the lanes of output row k, for both context rows of a tile."""
    q, r = k // group, k % group
    vectors[q, r] = vectors[q, group + r] = value


@inline
def call_update(function, contexts, old, count, gradient, outputs, rows, context_scales, output_scales):
    """Move context rows and output rows (`emit_update`)."""
    call(function, (contexts, old, count, gradient, outputs, rows, context_scales, output_scales))


@kernel()
def link_rows(words, base, size, newest, chain, first):
    """Find equal rows of a window: first[base + k] is set to the index of the first row equal to row base + k.

    Args:
        words: int64, the rows of a window's sets.
        base, size: the current set, whose rows are compared with each other and with those of the sets before it.
        newest: int32 [1024], -1 before the window; by the last bits of a row. `chain` links to older rows.
        chain, first: int32, overwritten from `base` on.
    """
    for j in range(base, base + size):
        bucket = words[j] & 1023
        i = newest[bucket]
        while i >= 0 and words[i] != words[j]:
            i = chain[i]
        if i >= 0:
            first[j] = i
        else:
            first[j], chain[j], newest[bucket] = j, newest[bucket], j


@functools.cache
def train_segments(plain: bool) -> Callable:
    """Return the kernel.

    Args:
        plain: whether it is the one for negative sampling whose negatives belong to windows, whose inputs are contexts,
            with SGD and no bias. What it does not need is left out when it is compiled.
    """
    general = not plain

    def run(ids, segments, document, start, first, stop, sampling, rule, model, steps, dim, code):
        """Train on segments `first` to `stop`, and return the sum of the loss and the number of pairs.

        Args:
            ids, segments, document, start: the tensors of a `TokenBlock`, as arrays.
            sampling, rule, model, steps: see their classes; the arrays of `model` are changed.
            dim: length of the vectors.
            code: int64, `microkernels.function_addresses`.
        """
        # Arrays are taken out of their tuples once, since every access to a tuple counts a reference to the array.
        seed, epoch, keep, columns = sampling.seed, sampling.epoch, sampling.keep, sampling.columns
        window, negatives, exclude = sampling.window, sampling.negatives, sampling.exclude
        pair, centre, masked = general and sampling.pair, general and sampling.centre, general and sampling.masked
        softmax, shift_of, target_shift = general and rule.softmax, rule.shift, rule.target_shift
        lengths, nodes, turns, counts_drawn = rule.lengths, rule.nodes, rule.turns, rule.counts_drawn
        bias, bias_sums, learned = model.bias, model.bias_sums, general and model.learned
        paths, biased = general and len(lengths) > 0, general and len(bias) > 0
        shifted, moved_target = general and len(shift_of) > 0, general and len(target_shift) > 0
        adagrad, scaled, other_workers = general and steps.adagrad, steps.scaled, steps.other_workers
        inputs_in_flight, outputs_in_flight = steps.inputs_in_flight, steps.outputs_in_flight
        rate_begin, rate_step, epsilon = steps.rate_begin, steps.rate_step, np.float32(steps.epsilon)
        width = -(-dim // LANES) * LANES
        row_bytes = 4 * width
        longest = 0
        for s in range(first, stop):
            longest = max(longest, segments[s + 1] - segments[s])
        reach = 2 * window
        input_base, input_bytes = address(model.inputs), model.inputs.strides[0]
        output_base, output_bytes = address(model.outputs), model.outputs.strides[0]
        input_sums, output_sums = address(model.input_sums), address(model.output_sums)
        copy_twice, copy_rows, copy_padded_rows = code[COPY_TWICE], code[COPY_ROWS], code[COPY_PADDED_ROWS]
        add_difference, prefetch, move, settle = code[ADD_DIFFERENCE], code[PREFETCH], code[ADAGRAD], code[SETTLE]

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
        first_copy, to_original = address(context_rows), (reach + 1) * row_bytes
        free = first_copy + np.arange(reach + 1) * row_bytes
        # Addresses of a window's context rows (and one more), and memory for their earlier values.
        contexts = np.empty(reach + 1, np.int64)
        earlier_rows = zeros(reach * width)
        earlier_rows_at = address(earlier_rows)
        earlier = earlier_rows_at + np.arange(reach) * (0 if centre else row_bytes)
        contexts_at, earlier_at = address(contexts), address(earlier)
        # Gradients that the other workers together have in flight, for each kept token of the segment as a context.
        in_flight, other_workers32 = np.empty(longest, np.float32), np.float32(other_workers)
        context_scales = np.empty(reach, np.float32)

        # Output rows of a window's sets: numbers, addresses in the table, copies, gradients.
        many_sets = pair or centre
        most_sets, most_tiles = (reach, 1) if many_sets else (1, window)
        most_size = nodes.shape[1] if paths else negatives + 1
        most_groups = -(-most_size // GROUP)
        most_rows = most_groups * GROUP
        groups_of_size = (np.arange(most_size + 1) + GROUP - 1) // GROUP
        group_of_size = (np.arange(most_size + 1) + groups_of_size - 1) // np.maximum(groups_of_size, 1)
        later = np.empty(2 * max(most_size, per_centre) + 2, np.int64)
        later_at = address(later)
        spare_rows = zeros(2 * width)
        nothing, waste = address(spare_rows), address(spare_rows) + row_bytes
        words = np.zeros(most_sets * most_rows, np.int64)
        rows = np.full(most_sets * most_rows, waste, np.int64)
        output_rows = zeros(most_sets * most_rows * width)
        gradients = zeros(most_sets * most_groups * most_tiles * LANES)
        output_scales = np.ones(most_sets * most_rows, np.float32)
        sizes, set_groups, set_group = np.zeros((3, most_sets), np.int64)
        context_scales_at, output_scales_at = address(context_scales), address(output_scales)
        rows_at, copies_at, gradients_at = address(rows), address(output_rows), address(gradients)

        # Signs and shifts of a set; the signs are right for `signed` rows without masked negatives.
        signs, shifts = zeros(most_groups * LANES).reshape(-1, LANES), zeros(most_groups * LANES).reshape(-1, LANES)
        signs_at, shifts_at, signed = address(signs), address(shifts), -1

        # Adagrad: changes of context copies and output rows, and which rows of a window are equal.
        many = most_sets * most_rows if adagrad else 0
        context_deltas, output_deltas = zeros((reach + 1) * width if adagrad else 0), zeros(many * width)
        deltas_of_contexts, deltas_of_outputs = np.empty(reach, np.int64), np.empty(many, np.int64)
        context_deltas_at, output_deltas_at = address(context_deltas), address(output_deltas)
        moving, moving_rows = address(deltas_of_contexts), address(deltas_of_outputs)
        newest, older, first_equal = np.full(1024, -1, np.int32), np.empty(many, np.int32), np.empty(many, np.int32)
        bias_deltas, moved_in = np.zeros(many, np.float32), np.full(reach + 1, -1, np.int64)

        loss = zeros(LOSS_BYTES // 4)
        loss[:LANES] = 1.0
        loss_at, unsettled, pairs = address(loss), 0, 0

        for s in range(first, stop):
            begin = mix64(document[s]) + np.uint64(start[s])
            here = ids[segments[s] : segments[s + 1]]
            draw_tokens(begin, len(here), seed, epoch, bits)
            n = keep_tokens(here, bits, keep, window, kept, half, at)
            link_equals(kept, n, reach, chain, before, after)
            if negatives > 0 and not pair:
                draw_for_windows(begin, at, n, bits, seed, epoch, columns, calls, drawn)
                if exclude > 0:
                    exclude_from_windows(begin, at, n, seed, epoch, columns, kept, half, exclude, excluded, drawn)

            moved_in[:] = -1
            entered, gone, free_count, repeat = 0, 0, reach + 1, -1
            for c in range(n + window + 1):
                # Changes of rows that leave reach are added to the table; rows that come within reach are copied.
                if gone < min(n, c - window):
                    if not after[gone]:
                        row = input_base + kept[gone] * input_bytes
                        call(add_difference, (row, copy[gone], copy[gone] + to_original))
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
                            call(add_difference, (row, copy[entered], copy[entered] + to_original))
                    else:
                        free_count -= 1
                        copy[entered] = free[free_count]
                    if not known or other_workers > 0:
                        call(copy_twice, (copy[entered], copy[entered] + to_original, row))
                    if scaled:
                        in_flight[entered] = other_workers32 * inputs_in_flight[kept[entered]]
                    entered += 1
                # The rows of later windows are prefetched: targets (with the centre as input, they enter), and noise.
                ahead, number = c + AHEAD, 0
                if ahead < n:
                    last = min(ahead + window, n - 1) if centre else ahead
                    if paths:
                        number = lengths[kept[last]]
                        for k in range(number):
                            later[k] = output_base + nodes[kept[last], k] * output_bytes
                    else:
                        later[0], number = output_base + kept[last] * output_bytes, 1
                        if not pair:
                            for k in range(negatives):
                                later[k + 1] = output_base + max(drawn[k, ahead], 0) * output_bytes
                            number += negatives
                    if adagrad:
                        for k in range(number):
                            later[number + k] = later[k] + (output_sums - output_base)
                        number *= 2
                if ahead + window < n:
                    later[number] = input_base + kept[ahead + window] * input_bytes
                    number += 1
                    if adagrad:
                        later[number] = input_sums + kept[ahead + window] * input_bytes
                        number += 1
                call(prefetch, (later_at, number))

                left, right = max(c - half[c], 0), min(c + half[c], n - 1)
                count = right - left
                if count == 0:
                    continue
                rate = np.float32(rate_begin + (segments[s] + at[c]) * rate_step)
                slope = np.float32(1.0) if adagrad else rate
                pairs += count
                if centre:
                    contexts[:count] = copy[c]
                else:
                    for i in range(left, c):
                        contexts[i - left] = copy[i]
                    for i in range(c, right):
                        contexts[i - left] = copy[i + 1]
                if scaled:
                    for i in range(count):
                        context_scales[i] = scale(rate, in_flight[c if centre else left + i + (left + i >= c)])
                contexts[count] = nothing
                position = begin + np.uint64(at[c])
                if pair:
                    wanted = 2 * half[c] * negatives
                    draw_for_pairs(
                        position, bits[2, at[c]], bits[3, at[c]], wanted, seed, epoch, columns, calls, drawn[0]
                    )
                    for i in range(wanted):  # all at once, so that no read waits for the one before
                        later[i] = output_base + drawn[0, i] * output_bytes
                    call(prefetch, (later_at, wanted))

                # Scores, gradients and loss of all pairs.
                sets, contexts_of_set = (count, 1) if many_sets else (1, count)
                tiles, apart = (contexts_of_set + 1) >> 1, centre and count > 1
                for z in range(sets):
                    base, other = z * most_rows, left + z + (left + z >= c)
                    target = kept[other] if centre else kept[c]
                    size = lengths[target] if paths else negatives + 1
                    groups, group = groups_of_size[size], group_of_size[size]
                    sizes[z], set_groups[z], set_group[z] = size, groups, group
                    apart |= groups > 1
                    if paths:
                        for q in range(groups):
                            for r in range(LANES):
                                signs[q, r] = 0.0
                        k = 0
                        for q in range(groups):
                            for r in range(min(group, size - k)):
                                words[base + k] = nodes[target, k]
                                signs[q, r] = signs[q, group + r] = -np.float32(turns[target, k])
                                k += 1
                    else:
                        if signed != size:
                            signs[:] = 0.0
                            for k in range(size):
                                set_lanes(signs, k, group, np.float32(1 if k else -1))
                            signed = size
                        words[base] = target
                        distance, counted, offset = other - c, negatives, 0
                        if pair:
                            offset = (2 * (abs(distance) - 1) + (distance > 0)) * negatives
                        for k in range(negatives):
                            word = drawn[0, offset + k] if pair else drawn[k, c]
                            if pair and exclude > 0:
                                word = permitted(
                                    word, position, offset + k, seed, epoch, columns, kept, c, left, right,
                                    exclude,
                                )  # fmt: skip
                            if word < 0 or (masked and word == target):
                                set_lanes(signs, k + 1, group, np.float32(0.0))
                                signed, word, counted = -1, 0, counted - 1
                            words[base + k + 1] = word
                    for k in range(size):
                        rows[base + k] = output_base + words[base + k] * output_bytes
                    for k in range(base + size, base + groups * group):
                        rows[k] = waste
                    if scaled:
                        for k in range(size):
                            output_scales[base + k] = scale(rate, other_workers32 * outputs_in_flight[words[base + k]])
                    if shifted or biased:
                        k = base
                        for q in range(groups):
                            for r in range(min(group, base + size - k)):
                                shift = np.float32(0.0)
                                # A masked negative has no word, and its shift may be infinite.
                                if shifted and (k > base or not moved_target) and signs[q, r] != 0.0:
                                    shift = shift_of[words[k]]
                                if biased:
                                    shift += bias[words[k]]
                                shifts[q, r] = shifts[q, group + r] = shift
                                k += 1
                    if moved_target:
                        shift = target_shift[target]
                        if counts_drawn:
                            shift += np.float32(math.log(max(counted, 1)))
                        shifts[0, 0] = shifts[0, group] = shifts[0, 0] + shift
                    call(copy_rows, (rows_at + 8 * base, size, copies_at + base * row_bytes))
                    functions = FIRST + group * VARIANTS
                    score = code[functions + (SCORES if softmax else LOGISTIC)]
                    those = contexts_at + 8 * z
                    vector = gradients_at + z * most_groups * most_tiles * _VECTOR
                    for q in range(groups):
                        unsettled += tiles
                        if unsettled > TILES_A_SETTLEMENT:
                            call(settle, (loss_at,))
                            unsettled = tiles
                        call(
                            score,
                            (
                                those, contexts_of_set, copies_at + (base + q * group) * row_bytes,
                                signs_at + q * _VECTOR, shifts_at + q * _VECTOR,
                                vector + q * most_tiles * _VECTOR, loss_at, slope,
                            ),
                        )  # fmt: skip
                    if softmax:
                        call(
                            code[functions + SOFTMAX],
                            (vector, most_tiles * _VECTOR, groups, contexts_of_set, signs_at, loss_at, slope),
                        )

                if adagrad:
                    for z in range(sets):
                        base = z * most_rows
                        link_rows(words, base, sizes[z], newest, older, first_equal)
                        for k in range(base, base + sizes[z]):
                            deltas_of_outputs[k] = output_deltas_at + first_equal[k] * row_bytes
                        for k in range(base + sizes[z], base + set_groups[z] * set_group[z]):
                            deltas_of_outputs[k] = waste
                    for i in range(count):
                        deltas_of_contexts[i] = context_deltas_at + (contexts[i] - first_copy)

                # The summed updates. A second group, and a row that occurs twice, need the earlier values of the rows.
                for i in range(c, right + 1):
                    repeat = max(repeat, before[i])
                apart |= repeat >= left
                if apart and not adagrad:
                    call(copy_padded_rows, (contexts_at, 1 if centre else count, earlier_rows_at))
                variant = UPDATE + (1 if apart or adagrad else 0) + (2 if scaled else 0)
                changed, old, changed_rows = contexts_at, earlier_at if apart else contexts_at, rows_at
                if adagrad:
                    changed, old, changed_rows = moving, contexts_at, moving_rows
                for z in range(sets):
                    update = code[FIRST + set_group[z] * VARIANTS + variant]
                    for q in range(set_groups[z]):
                        number = z * most_rows + q * set_group[z]
                        call_update(
                            update, changed + 8 * z, old + 8 * z, contexts_of_set,
                            gradients_at + (z * most_groups + q) * most_tiles * _VECTOR,
                            copies_at + number * row_bytes, changed_rows + 8 * number,
                            context_scales_at + 4 * z, output_scales_at + 4 * number,
                        )  # fmt: skip
                if learned:
                    for z in range(sets):
                        group, base, q, r = set_group[z], z * most_rows, z * most_groups, -1
                        for k in range(sizes[z]):
                            r += 1
                            if r == group:
                                q, r = q + 1, 0
                            change = np.float32(0.0)
                            for lane in range(q * most_tiles * LANES + r, (q * most_tiles + tiles) * LANES, LANES):
                                change += gradients[lane] + gradients[lane + group]
                            if adagrad:
                                bias_deltas[first_equal[base + k]] += change
                            elif scaled:
                                bias[words[base + k]] += output_scales[base + k] * change
                            else:
                                bias[words[base + k]] += change
                if adagrad:
                    for i in range(count):
                        slot = (contexts[i] - first_copy) // row_bytes
                        if moved_in[slot] != c:
                            moved_in[slot] = c
                            word = kept[c] if centre else kept[left + i + (left + i >= c)]
                            sums = input_sums + word * input_bytes
                            call(move, (contexts[i], deltas_of_contexts[i], sums, rate, epsilon))
                    for z in range(sets):
                        for k in range(z * most_rows, z * most_rows + sizes[z]):
                            newest[words[k] & 1023] = -1
                            if first_equal[k] == k:
                                sums = output_sums + words[k] * output_bytes
                                call(move, (rows[k], deltas_of_outputs[k], sums, rate, epsilon))
                                if learned:
                                    change, bias_deltas[k] = bias_deltas[k], np.float32(0.0)
                                    bias_sums[words[k]] += change * change
                                    root = np.sqrt(bias_sums[words[k]])
                                    bias[words[k]] += rate * change / (root + epsilon)
        call(settle, (loss_at,))
        # Returned so that the arrays live as long as their addresses are used.
        owners = (
            context_rows, earlier_rows, spare_rows, output_rows, gradients, signs, shifts, rows, contexts, earlier,
            context_scales, output_scales, later, context_deltas, output_deltas, deltas_of_contexts,
            deltas_of_outputs, loss,
        )  # fmt: skip
        return loss_so_far(loss), pairs, owners

    # Numba names machine code by the name of the function and a number that counts within a process. Under one name, a
    # process could not load two kernels that different processes have compiled and cached.
    run.__qualname__ = f"train_segments_{'plain' if plain else 'general'}"
    return kernel()(run)


def _struct(kind: type, **fields: types.Type) -> types.NamedTuple:
    assert tuple(fields) == kind._fields  # type: ignore[attr-defined]
    return types.NamedTuple(tuple(fields.values()), kind)


_ONE, _TWO = types.Array(types.float32, 1, "C"), types.Array(types.float32, 2, "C")
_INTS, _LONGS, _IDS = (types.Array(kind, 1, "C") for kind in (types.int32, types.int64, types.int32))

KERNEL_TYPES = (
    _IDS, _LONGS, _LONGS, _LONGS, types.int64, types.int64,
    _struct(
        Sampling, seed=types.uint64, epoch=types.uint64, keep=types.Array(types.uint32, 1, "C"),
        columns=types.Array(types.uint64, 1, "C"), window=types.int64, negatives=types.int64, exclude=types.int64,
        pair=types.boolean, centre=types.boolean, masked=types.boolean,
    ),
    _struct(
        Rule, softmax=types.boolean, shift=_ONE, target_shift=_ONE, counts_drawn=types.boolean, lengths=_INTS,
        nodes=types.Array(types.int32, 2, "C"), turns=types.Array(types.int8, 2, "C"),
    ),
    _struct(
        Model, inputs=_TWO, outputs=_TWO, bias=_ONE, learned=types.boolean, input_sums=_TWO, output_sums=_TWO,
        bias_sums=_ONE,
    ),
    _struct(
        Steps, rate_begin=types.float64, rate_step=types.float64, adagrad=types.boolean, epsilon=types.float64,
        other_workers=types.int64, scaled=types.boolean, inputs_in_flight=_ONE, outputs_in_flight=_ONE,
    ),
    types.int64, _LONGS,
)  # fmt: skip
"""The types of the kernel's arguments."""
