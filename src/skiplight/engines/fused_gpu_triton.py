"""The fused GPU engine's kernels: score and update the windows of kept tokens, in place.

A program takes consecutive kept tokens as centres and processes their windows one after the other; all programs work on
the same tables at the same time. With R context rows and K + 1 output rows, a window is three small matrix products on
tensor cores: the scores [R, K + 1] = contexts · outputsᵀ, the change of the contexts step · outputs, and the change of
the outputs stepᵀ · contexts, where step is -rate times the gradient of the loss by the scores. The factors are rounded
to TF32 (10 bits of mantissa, relative error 2^-10, far below the noise of a sampled gradient); sums, tables and the
loss are not.

Both kernels take the results of `sampling/windows_triton.py` and add to the tables by atomic operations. Nothing is
overwritten, so no change is lost. Table reads bypass the first-level cache, which does not see those additions.

`train_resident` keeps context rows on chip while they are within reach of the window, in a ring of R slots: row p is in
slot p mod R, together with the change that this program has made to it, which is added to the table when the row leaves
reach. `train_reloaded` reads and changes the contexts of each window in the table. It is for rows that do not fit the
registers, which it processes in pieces, and for negatives of pairs, whose many output rows leave little to save.

The rows of a window are read when the window begins (resident context rows: up to 2W windows before), so they lack what
other programs add afterwards. For most rows that is nothing. A frequent row is in so many windows at the same time that
all of them would correct the same error; together they would overshoot, and the training would diverge. Therefore the
step of a row is shortened if rate · gradients that the other programs have in flight for it exceeds MOST
(`in_flight.py`). There are as many windows in flight as programs, for any size of the block. Two more things differ
from training on one window after the other: equal words within reach of one program are separate resident rows, and
with more than GROUP output rows, a resident window that draws a word twice may see its first change.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _run(count, first, rows, SHORTEST: tl.constexpr):
    """Return the first and last + 1 centre of this program, and the number of other programs that have centres.

    Each program gets an equal share of the `rows` centres from `first` on, but at least SHORTEST.
    """
    stop = tl.minimum(first + rows, tl.load(count))
    share = tl.maximum(tl.cdiv(stop - first, tl.num_programs(0)), SHORTEST)
    begin = first + tl.program_id(0) * share
    return begin, tl.minimum(begin + share, stop), tl.cdiv(stop - first, share) - 1


@triton.jit
def _step_scale(in_flight, other_programs, rate, MOST: tl.constexpr):
    """Return `step_scale` of rows for which each of the other programs has `in_flight` gradients in flight."""
    return MOST / tl.maximum(rate * other_programs * in_flight, MOST)


@triton.jit
def _logistic(score, sign, counts):
    """Return the gradient by the score, and the value, of log(1 + e^z), z = sign·score; both are 0 unless `counts`."""
    z = sign * score
    e = tl.exp(-tl.abs(z))
    gradient = sign * tl.where(z < 0, e, 1.0) / (1.0 + e)
    loss = tl.maximum(z, 0.0) + tl.log(1.0 + e)
    return tl.where(counts, gradient, 0.0), tl.where(counts, loss, 0.0)


@triton.jit
def _rows(table, word, column, DIM: tl.constexpr):
    """Return pointers to some columns of some rows of a table, [words, columns]."""
    return table + word.to(tl.int64)[:, None] * DIM + column[None, :]


@triton.jit(do_not_specialize=["first", "rows", "rate_begin", "rate_step"])
def train_resident(
    count, word, left, right, at, negatives, inputs, outputs, inputs_in_flight, outputs_in_flight, losses, pairs,
    first, rows, rate_begin, rate_step,
    WINDOW: tl.constexpr, K: tl.constexpr, DIM: tl.constexpr, RING: tl.constexpr, WIDTH: tl.constexpr,
    GROUP: tl.constexpr, SHORTEST: tl.constexpr, MOST: tl.constexpr,
):  # fmt: skip
    """Train on up to `rows` centres from number `first` on, with negatives that the pairs of a window share.

    Args:
        count, word, left, right, at: the tensors of `Centres`.
        negatives: int32 [rows, K], -1 in slots without a negative.
        inputs, outputs: float32 [V, DIM], the tables; changed.
        inputs_in_flight, outputs_in_flight: float32 [V], from `in_flight_gradients`.
        losses, pairs: float64 and int64 [programs]; the sum of the loss and the number of pairs are added.
        rate_begin, rate_step: the learning rate at token i of the block is rate_begin + i·rate_step.
        RING: a power of two that exceeds 2·WINDOW and is at least 16.
        WIDTH: a power of two that is at least DIM and 16.
    """
    begin, end, other_programs = _run(count, first, rows, SHORTEST)
    if begin >= end:
        return
    last = tl.load(count) - 1
    column, slot, lane = tl.arange(0, WIDTH), tl.arange(0, RING), tl.arange(0, GROUP)
    real = (column < DIM)[None, :]

    # All rows of the first window except its last one, which comes within reach with the window.
    position = begin - WINDOW + ((slot - begin + WINDOW) & (RING - 1))
    there = (position >= 0) & (position < begin + WINDOW) & (position <= last)
    held = tl.load(word + position, mask=there, other=0)
    in_flight = tl.load(inputs_in_flight + held, mask=there, other=0.0)
    held = _rows(inputs, held, column, DIM)
    ring = tl.load(held, mask=there[:, None] & real, other=0.0, cache_modifier=".cg")
    change = tl.zeros([RING, WIDTH], tl.float32)
    total, made = tl.zeros([RING, GROUP], tl.float64), tl.zeros([], tl.int64)

    for c in range(begin, end):
        # One row leaves reach, and one comes within it.
        gone, came = c - WINDOW - 1, c + WINDOW
        leaves, enters = gone >= tl.maximum(begin - WINDOW, 0), came <= last
        row = inputs + tl.load(word + gone, mask=leaves, other=0).to(tl.int64) * DIM + column[None, :]
        away = slot[:, None] == tl.where(leaves, gone & (RING - 1), -1)
        tl.atomic_add(row + slot[:, None] * 0, change, mask=away & real, sem="relaxed")
        new = tl.load(word + came, mask=enters, other=0)
        in_flight = tl.where(slot == (came & (RING - 1)), tl.load(inputs_in_flight + new), in_flight)
        row = inputs + new.to(tl.int64) * DIM + column[None, :]
        fresh = tl.load(row, mask=column[None, :] < tl.where(enters, DIM, 0), other=0.0, cache_modifier=".cg")
        into = slot[:, None] == (came & (RING - 1))
        ring, change = tl.where(into, fresh, ring), tl.where(into, 0.0, change)

        centre, before, after = tl.load(word + c), tl.load(left + c), tl.load(right + c)
        distance = ((slot - c + WINDOW) & (RING - 1)) - WINDOW
        used = (distance >= -before) & (distance <= after) & (distance != 0)
        rate = rate_begin + tl.load(at + c) * rate_step
        made += before + after
        moved = tl.zeros([RING, WIDTH], tl.float32)
        for group in range(0, K + 1, GROUP):
            number = group + lane
            own = negatives + (c - first).to(tl.int64) * K + number - 1
            drawn = tl.load(own, mask=(number > 0) & (number <= K), other=-1)
            drawn = tl.where(number == 0, centre, drawn)
            drawn = tl.where(before + after > 0, drawn, -1)
            at_rows, known = _rows(outputs, drawn, column, DIM), (drawn >= 0)[:, None] & real
            u = tl.load(at_rows, mask=known, other=0.0, cache_modifier=".cg")
            sign = tl.where(number == 0, -1.0, 1.0)[None, :]
            gradient, loss = _logistic(tl.dot(ring, tl.trans(u)), sign, used[:, None] & (drawn >= 0)[None, :])
            total += loss.to(tl.float64)
            step = -rate * gradient
            moved = tl.dot(step * _step_scale(in_flight, other_programs, rate, MOST)[:, None], u, moved)
            drawn_in_flight = tl.load(outputs_in_flight + drawn, mask=drawn >= 0, other=0.0)
            step *= _step_scale(drawn_in_flight, other_programs, rate, MOST)[None, :]
            tl.atomic_add(at_rows, tl.dot(tl.trans(step), ring), mask=known, sem="relaxed")
        ring += moved
        change += moved

    position = end - 1 - WINDOW + ((slot - end + 1 + WINDOW) & (RING - 1))
    there = (position >= tl.maximum(begin - WINDOW, 0)) & (position < end + WINDOW) & (position <= last)
    held = _rows(inputs, tl.load(word + position, mask=there, other=0), column, DIM)
    tl.atomic_add(held, change, mask=there[:, None] & real, sem="relaxed")
    tl.atomic_add(losses + tl.program_id(0), tl.sum(total), sem="relaxed")
    tl.atomic_add(pairs + tl.program_id(0), made, sem="relaxed")


@triton.jit
def _output_words(negatives, row, centre, distance, used, number, K: tl.constexpr, PAIR: tl.constexpr):
    """Return the words of output rows `number` of a window, int32 [GROUP]; if PAIR, of each pair, int32 [contexts]."""
    if PAIR:
        zigzag = 2 * (tl.abs(distance) - 1) + (distance > 0).to(tl.int32)
        drawn = tl.load(negatives + row + zigzag * K + number - 1, mask=used & (number > 0), other=-1)
        return tl.where(used & (number == 0), centre, drawn)
    else:
        drawn = tl.load(negatives + row + number - 1, mask=(number > 0) & (number <= K), other=-1)
        return tl.where(number == 0, centre, drawn)


@triton.jit(do_not_specialize=["first", "rows", "rate_begin", "rate_step"])
def train_reloaded(
    count, word, left, right, at, negatives, inputs, outputs, inputs_in_flight, outputs_in_flight, losses, pairs,
    first, rows, rate_begin, rate_step, steps,
    WINDOW: tl.constexpr, K: tl.constexpr, DIM: tl.constexpr, RING: tl.constexpr, WIDTH: tl.constexpr,
    GROUP: tl.constexpr, SHORTEST: tl.constexpr, MOST: tl.constexpr, PAIR: tl.constexpr,
):  # fmt: skip
    """Train as `train_resident` does, for rows of any length, WIDTH columns at a time, and for negatives of pairs.

    Args:
        negatives: int32 [rows, K], or [rows, 2·WINDOW·K] if PAIR (`DeviceSampler.negatives`).
        steps: float32 [programs, RING, K + 1 rounded up to a multiple of GROUP], overwritten; it holds the steps of a
            window, since all scores are computed before the first update.
        GROUP: output rows per pass; 1 if PAIR.
    """
    begin, end, other_programs = _run(count, first, rows, SHORTEST)
    if begin >= end:
        return
    column, slot, lane = tl.arange(0, WIDTH), tl.arange(0, RING), tl.arange(0, GROUP)
    distance = slot - WINDOW
    LENGTH: tl.constexpr = (K + GROUP) // GROUP * GROUP
    steps += (tl.program_id(0) * RING + slot).to(tl.int64)[:, None] * LENGTH + lane[None, :]
    total, made = tl.zeros([RING, GROUP], tl.float64), tl.zeros([], tl.int64)

    for c in range(begin, end):
        centre, before, after = tl.load(word + c), tl.load(left + c), tl.load(right + c)
        used = (distance >= -before) & (distance <= after) & (distance != 0)
        context = tl.load(word + c + distance, mask=used, other=0)
        in_flight = tl.load(inputs_in_flight + context, mask=used, other=0.0)
        row = (c - first).to(tl.int64) * K * (2 * WINDOW if PAIR else 1)
        rate = rate_begin + tl.load(at + c) * rate_step
        shorter = _step_scale(in_flight, other_programs, rate, MOST)[:, None]
        made += before + after
        for group in range(0, K + 1, GROUP):
            number = group + (slot * 0 if PAIR else lane)
            drawn = _output_words(negatives, row, centre, distance, used, number, K, PAIR)
            scores = tl.zeros([RING, GROUP], tl.float32)
            for part in range(0, DIM, WIDTH):
                real = (part + column < DIM)[None, :]
                v = tl.load(
                    _rows(inputs, context, part + column, DIM), mask=used[:, None] & real, other=0.0,
                    cache_modifier=".cg",
                )  # fmt: skip
                u = tl.load(
                    _rows(outputs, drawn, part + column, DIM), mask=(drawn >= 0)[:, None] & real, other=0.0,
                    cache_modifier=".cg",
                )  # fmt: skip
                scores += tl.sum(v * u, 1)[:, None] if PAIR else tl.dot(v, tl.trans(u))
            counts = used[:, None] & ((drawn >= 0)[:, None] if PAIR else (drawn >= 0)[None, :])
            sign = tl.where(group + lane == 0, -1.0, 1.0)[None, :]
            gradient, loss = _logistic(scores, sign, counts)
            total += loss.to(tl.float64)
            tl.store(steps + group, -rate * gradient)
        tl.debug_barrier()
        for part in range(0, DIM, WIDTH):
            real = (part + column < DIM)[None, :]
            at_contexts = _rows(inputs, context, part + column, DIM)
            v = tl.load(at_contexts, mask=used[:, None] & real, other=0.0, cache_modifier=".cg")
            moved = tl.zeros([RING, WIDTH], tl.float32)
            for group in range(0, K + 1, GROUP):
                number = group + (slot * 0 if PAIR else lane)
                drawn = _output_words(negatives, row, centre, distance, used, number, K, PAIR)
                u = tl.load(
                    _rows(outputs, drawn, part + column, DIM), mask=(drawn >= 0)[:, None] & real, other=0.0,
                    cache_modifier=".cg",
                )  # fmt: skip
                step = tl.load(steps + group) * shorter
                if PAIR:
                    moved += step * u
                else:
                    moved = tl.dot(step, u, moved)
            tl.debug_barrier()
            for group in range(0, K + 1, GROUP):
                number = group + (slot * 0 if PAIR else lane)
                drawn = _output_words(negatives, row, centre, distance, used, number, K, PAIR)
                drawn_in_flight = tl.load(outputs_in_flight + drawn, mask=drawn >= 0, other=0.0)
                scale = _step_scale(drawn_in_flight, other_programs, rate, MOST)
                step = tl.load(steps + group) * (scale[:, None] if PAIR else scale[None, :])
                own = step * v if PAIR else tl.dot(tl.trans(step), v)
                known = (drawn >= 0)[:, None] & real
                tl.atomic_add(_rows(outputs, drawn, part + column, DIM), own, mask=known, sem="relaxed")
            tl.atomic_add(at_contexts, moved, mask=used[:, None] & real, sem="relaxed")
        tl.debug_barrier()

    tl.atomic_add(losses + tl.program_id(0), tl.sum(total), sem="relaxed")
    tl.atomic_add(pairs + tl.program_id(0), made, sem="relaxed")
