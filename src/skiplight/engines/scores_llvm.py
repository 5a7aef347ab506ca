"""LLVM IR of the fused CPU engine's micro-kernels that score context rows against output rows.

A tile is two context rows against a group of up to `GROUP` output rows: lane i < group of its vector belongs to the
first context row and output row i, lane group + i to the second and output row i. A logistic loss turns a tile into
gradients at once. A softmax needs all groups of a pair, so its tiles are scored first and normalised afterwards.

Sums of logarithms are kept as products, which are settled before they overflow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from skiplight.engines.vectors_llvm import (
    DOUBLES,
    FLOAT,
    INTS,
    LANES,
    VECTOR,
    broadcast,
    constant,
    element,
    fma,
    load,
    splat,
    store,
    stride,
)

LOSS_BYTES = LANES * 20
"""Bytes of a summed loss: float32 products and sums, int32 exponents, and float64 sums."""

TILES_A_SETTLEMENT = 100
"""The most tiles between calls of `emit_settle`; a product of so many factors from 1 to 2 is finite in float32."""

LOG2_E = 1.4426950408889634
EXP2 = (1.0, 0.6931471805599453, 0.2402265069591007, 0.05550410866482158, 0.009618129107628477,
        0.0013333558146428443, 0.00015403530393381608)  # fmt: skip
"""Taylor coefficients of 2^f, with a relative error below 2e-8 for |f| <= 1/2."""


def _sums(builder: Any, vectors: list[Any]) -> Any:
    """Return the sums over the lanes of up to LANES vectors, vector i in lane i, by log2(LANES) pairwise sums."""
    half, places = LANES // 2, [0]
    while half:
        # The even blocks of a and the odd blocks of b stay where they are, and the others come to them.
        stay = ir.Constant(INTS, [i + (LANES if i & half else 0) for i in range(LANES)])
        come = ir.Constant(INTS, [(i ^ half) + (LANES if i & half else 0) for i in range(LANES)])
        merged = []
        for i in range(0, len(vectors), 2):
            a, b = vectors[i], vectors[min(i + 1, len(vectors) - 1)]
            merged.append(builder.fadd(builder.shuffle_vector(a, b, stay), builder.shuffle_vector(a, b, come)))
        vectors, places, half = merged, [*places, *(place + half for place in places)], half // 2
    return builder.shuffle_vector(vectors[0], vectors[0], ir.Constant(INTS, places))


def _exp(builder: Any, x: Any) -> Any:
    """Return e^x of a vector of x <= 0, at least 2^-126, with a relative error below 1e-6."""
    t = builder.fmul(x, splat(LOG2_E))
    # An ordered comparison, which lets NaN pass.
    t = builder.select(builder.fcmp_ordered("<", t, splat(-126.0)), splat(-126.0), t)
    # Adding 1.5·2^23 leaves round(t) in the lowest bits.
    shifted = builder.fadd(t, splat(12582912.0))
    f = builder.fsub(t, builder.fsub(shifted, splat(12582912.0)))
    result = splat(EXP2[-1])
    for coefficient in EXP2[-2::-1]:
        result = fma(builder, result, f, splat(coefficient))
    exponent = builder.shl(builder.bitcast(shifted, INTS), splat(23, INTS))
    return builder.bitcast(builder.add(builder.bitcast(result, INTS), exponent), VECTOR)


def _minus(builder: Any, scalar: Any) -> Any:
    return broadcast(builder, builder.fsub(ir.Constant(FLOAT, -0.0), scalar))


def _for_tiles(builder: Any, count: Any, rows: int, emit: Callable[[Any, Any], None]) -> None:
    """Emit a loop over the tiles of `count` context rows, by `emit(index of the tile, its lanes that have a row)`."""
    both = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [int(i < 2 * rows) for i in range(LANES)])
    first = ir.Constant(ir.VectorType(ir.IntType(1), LANES), [int(i < rows) for i in range(LANES)])
    tiles = builder.lshr(builder.add(count, constant(1)), constant(1))
    with cgutils.for_range(builder, tiles) as loop:
        second = builder.add(builder.mul(loop.index, constant(2)), constant(1))
        emit(loop.index, builder.select(builder.icmp_signed("==", second, count), first, both))


def _scores(builder: Any, contexts: Any, tile: Any, outputs: Any, dim: int, rows: int) -> Any:
    """Return the scores of a tile; `contexts` has an address more if the number of context rows is odd."""
    first = builder.mul(tile, constant(2))
    c_rows = [element(builder, contexts, builder.add(first, constant(i))) for i in range(2)]
    sums = [cgutils.alloca_once_value(builder, splat(0.0)) for _ in range(2 * rows)]
    for s in sums:
        builder.store(splat(0.0), s)
    with cgutils.for_range(builder, constant(stride(dim) // LANES)) as loop:
        offset = builder.mul(loop.index, constant(4 * LANES))
        c = [load(builder, builder.add(row, offset)) for row in c_rows]
        base = builder.add(outputs, offset)
        for k in range(rows):
            o = load(builder, base, offset=4 * k * stride(dim))
            for i, row in enumerate(c):
                s = sums[i * rows + k]
                builder.store(fma(builder, row, o, builder.load(s)), s)
    return _sums(builder, [builder.load(s) for s in sums])


def emit_logistic(builder: Any, args: Sequence[Any], dim: int, rows: int) -> None:
    """Compute gradients and loss of logistic losses. With z = sign·(u·v + shift), the loss of a pair is log(1 + e^z) =
    max(z, 0) + log(1 + e^-|z|), and its gradient is sign·σ(z).

    Args:
        args: contexts, the address of an array with the addresses of the padded context rows (one more if their number
            is odd); count; outputs, the address of the padded output rows; signs, the address of a vector: -1 for an
            observed pair, 1 for noise, 0 for a pair that does not count; shifts, the address of a vector; gradient, the
            address of a vector per tile, overwritten by -rate·sign·σ(z), by which a row moves along the other; loss,
            the address of LOSS_BYTES bytes, to which the loss is added; rate, float32.
        dim, rows: length of the rows, and number of output rows.
    """
    _, count, _, signs, _, gradient, loss, rate = args
    emit_scores(builder, args, dim, rows)
    factors = cgutils.alloca_once_value(builder, load(builder, loss))
    terms = cgutils.alloca_once_value(builder, load(builder, loss, offset=4 * LANES))

    # In a loop of their own, since each tile's logarithms and powers are one long chain of operations: so the chains of
    # several tiles are in flight at a time.
    def tile(index: Any, lanes: Any) -> None:
        sign = builder.select(lanes, load(builder, signs), splat(0.0))
        place = builder.add(gradient, builder.mul(index, constant(4 * LANES)))
        z = builder.fmul(sign, load(builder, place))
        minus = builder.bitcast(builder.or_(builder.bitcast(z, INTS), splat(-(2**31), INTS)), VECTOR)
        e = _exp(builder, minus)
        inverse = builder.fdiv(splat(1.0), builder.fadd(e, splat(1.0)))
        negative = builder.fcmp_ordered("<", z, splat(0.0))
        sigmoid = builder.select(negative, builder.fmul(e, inverse), inverse)
        scale = builder.fmul(sign, _minus(builder, rate))
        store(builder, builder.fmul(scale, sigmoid), place)

        counts = builder.fmul(sign, sign)
        builder.store(builder.fmul(builder.load(factors), fma(builder, counts, e, splat(1.0))), factors)
        above = builder.select(negative, splat(0.0), z)
        builder.store(builder.fadd(builder.load(terms), above), terms)

    _for_tiles(builder, count, rows, tile)
    store(builder, builder.load(factors), loss)
    store(builder, builder.load(terms), loss, 4 * LANES)


def emit_scores(builder: Any, args: Sequence[Any], dim: int, rows: int) -> None:
    """Write u·v + shift; the arguments are those of `emit_logistic`, of which signs, loss and rate are not read."""
    contexts, count, outputs, _, shifts, gradient, _, _ = args

    def tile(index: Any, lanes: Any) -> None:
        score = builder.fadd(_scores(builder, contexts, index, outputs, dim, rows), load(builder, shifts))
        store(builder, score, builder.add(gradient, builder.mul(index, constant(4 * LANES))))

    _for_tiles(builder, count, rows, tile)


def emit_softmax(builder: Any, args: Sequence[Any], rows: int) -> None:
    """Turn scores into gradients of the loss log Σ_k e^(s_k) - s_0, where the sum is over the target, row 0, and noise.

    Args:
        args: gradient, the address of the scores, a vector for each group and tile, overwritten by the gradients
            -rate·(softmax - [row is the target]); stride, the bytes from a group to the next; groups; count, the number
            of context rows; signs, the address of a vector for each group, as for `emit_logistic`; loss, as there;
            rate, float32.
        rows: number of output rows of a group.
    """
    gradient, group_bytes, groups, count, signs, loss, rate = args
    heads = [int(i in (0, rows)) for i in range(LANES)]
    is_head = ir.Constant(ir.VectorType(ir.IntType(1), LANES), heads)
    to_head = ir.Constant(INTS, [0 if i < rows else rows for i in range(LANES)])

    def fold(vector: Any, neutral: float, operation: Any) -> Any:
        """Return the result of an operation over the lanes of each half, in all lanes of the half."""
        step = 1
        while step < rows:
            lanes = [
                i + step if i + step < (rows if i < rows else min(2 * rows, LANES)) else LANES for i in range(LANES)
            ]
            vector = operation(vector, builder.shuffle_vector(vector, splat(neutral), ir.Constant(INTS, lanes)))
            step *= 2
        return builder.shuffle_vector(vector, vector, to_head)

    def larger(a: Any, b: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", a, b), a, b)

    def tile(index: Any, lanes: Any) -> None:
        def each_group(emit: Any) -> None:
            with cgutils.for_range(builder, groups) as loop:
                place = builder.add(
                    builder.add(gradient, builder.mul(loop.index, group_bytes)),
                    builder.mul(index, constant(4 * LANES)),
                )
                sign = load(builder, builder.add(signs, builder.mul(loop.index, constant(4 * LANES))))
                sign = builder.select(lanes, sign, splat(0.0))
                emit(place, sign, builder.fcmp_ordered("!=", sign, splat(0.0)))

        most = cgutils.alloca_once_value(builder, splat(0.0))
        total = cgutils.alloca_once_value(builder, splat(0.0))
        target = cgutils.alloca_once_value(builder, splat(0.0))
        builder.store(splat(-1e38), most)
        builder.store(splat(0.0), total)

        def find_largest(place: Any, sign: Any, counted: Any) -> None:
            score = builder.select(counted, load(builder, place), splat(-1e38))
            builder.store(larger(builder.load(most), score), most)

        def exponentiate(place: Any, sign: Any, counted: Any) -> None:
            below = builder.fsub(load(builder, place), largest)
            e = builder.select(counted, _exp(builder, builder.select(counted, below, splat(0.0))), splat(0.0))
            store(builder, e, place)
            builder.store(builder.fadd(builder.load(total), e), total)

        def normalise(place: Any, sign: Any, counted: Any) -> None:
            observed = builder.select(builder.fcmp_ordered("<", sign, splat(0.0)), splat(1.0), splat(0.0))
            probability = builder.fmul(load(builder, place), inverse)
            step = builder.fmul(builder.fsub(probability, observed), minus_rate)
            store(builder, builder.select(counted, step, splat(0.0)), place)

        each_group(find_largest)
        largest = fold(builder.load(most), -1e38, larger)
        first = builder.add(gradient, builder.mul(index, constant(4 * LANES)))
        builder.store(load(builder, first), target)
        each_group(exponentiate)
        summed = fold(builder.load(total), 0.0, builder.fadd)
        inverse, minus_rate = builder.fdiv(splat(1.0), summed), _minus(builder, rate)
        each_group(normalise)

        head = builder.and_(lanes, is_head)
        store(builder, builder.fmul(load(builder, loss), builder.select(head, summed, splat(1.0))), loss)
        above = builder.fsub(largest, builder.load(target))
        # A sum that is not a number would vanish from the product when it is settled.
        above = builder.select(head, fma(builder, summed, splat(0.0), above), splat(0.0))
        store(builder, builder.fadd(load(builder, loss, offset=4 * LANES), above), loss, 4 * LANES)
        emit_settle(builder, [loss])

    _for_tiles(builder, count, rows, tile)


def emit_settle(builder: Any, args: Sequence[Any]) -> None:
    """Move the exponents of a loss's products to the int32 exponents, and the float32 sums to the float64 sums."""
    (loss,) = args
    exponents, total = 8 * LANES, 12 * LANES
    bits = builder.bitcast(load(builder, loss), INTS)
    raised = builder.sub(builder.lshr(bits, splat(23, INTS)), splat(127, INTS))
    store(builder, builder.add(load(builder, loss, INTS, exponents), raised), loss, exponents)
    mantissa = builder.or_(builder.and_(bits, splat(0x7FFFFF, INTS)), splat(0x3F800000, INTS))
    store(builder, builder.bitcast(mantissa, VECTOR), loss)
    above = builder.fpext(load(builder, loss, offset=4 * LANES), DOUBLES)
    store(builder, builder.fadd(load(builder, loss, DOUBLES, total), above), loss, total)
    store(builder, splat(0.0), loss, 4 * LANES)
