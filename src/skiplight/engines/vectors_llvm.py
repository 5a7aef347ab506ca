"""LLVM IR of the fused CPU engine's micro-kernels on rows of the tables: copies, additions, updates and Adagrad.

A loop that Numba vectorises keeps neither a tile of scores in registers nor the loads of several rows in flight, and it
needs the permission to reorder sums. Here every sum has a fixed order, and NaN stays NaN. Each `emit_*` function writes
the body of one function, whose dimension and number of output rows are constants (`microkernels.py`). Rows are given by
address, an integer. The rows of a table are `dim` floats at any address; working copies are padded with zeros to whole
vectors of `LANES` floats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils

_FEATURES = llvmlite.binding.get_host_cpu_features()
LANES = 16 if _FEATURES.get("avx512f") else 8 if _FEATURES.get("avx") else 4
"""Floats per vector."""

GROUP = LANES // 2
"""The most output rows of a tile: with two context rows, the scores fill a vector, and the sums half the registers."""

INT, FLOAT, DOUBLE, WORD = ir.IntType(32), ir.FloatType(), ir.DoubleType(), ir.IntType(64)
VECTOR, INTS, DOUBLES = (ir.VectorType(kind, LANES) for kind in (FLOAT, INT, DOUBLE))


def stride(dim: int) -> int:
    """Return the number of floats of a padded row."""
    return -(-dim // LANES) * LANES


def constant(number: int) -> ir.Constant:
    """Return an address, a count or an offset."""
    return ir.Constant(WORD, number)


def splat(value: float, kind: ir.VectorType = VECTOR) -> ir.Constant:
    """Return the constant vector of equal numbers."""
    return ir.Constant(kind, [value] * LANES)


def _at(builder: Any, address: Any, kind: Any, offset: int) -> Any:
    if offset:
        address = builder.add(address, constant(offset))
    return builder.inttoptr(address, kind.as_pointer())


def load(builder: Any, address: Any, kind: Any = VECTOR, offset: int = 0) -> Any:
    """Return what is at an address, plus an offset in bytes."""
    return builder.load(_at(builder, address, kind, offset), align=8 if kind is WORD else 4)


def store(builder: Any, value: Any, address: Any, offset: int = 0) -> None:
    """Write to an address, plus an offset in bytes."""
    builder.store(value, _at(builder, address, value.type, offset), align=4)


def broadcast(builder: Any, scalar: Any) -> Any:
    """Return a vector of equal numbers."""
    one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), scalar, ir.Constant(INT, 0))
    return builder.shuffle_vector(one, one, ir.Constant(INTS, [0] * LANES))


def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a·b + c, rounded once."""
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fma.v{LANES}f32"
    )
    return builder.call(function, [a, b, c])


def element(builder: Any, array: Any, index: Any) -> Any:
    """Return an element of an array of addresses."""
    return load(builder, builder.add(array, builder.mul(index, constant(8))), WORD)


def pieces(dim: int) -> list[tuple[int, int]]:
    """Return (offset, size) of the parts of a row after its whole vectors; sizes are powers of two."""
    result, offset, size = [], dim - dim % LANES, LANES // 2
    while size:
        if dim & size:
            result.append((offset, size))
            offset += size
        size //= 2
    return result


def for_parts(builder: Any, dim: int, rows: Sequence[Any], emit: Any) -> None:
    """Emit a loop over the parts of rows that have equal layouts, by `emit(kind of vector, *addresses)`."""
    with cgutils.for_range(builder, constant(dim // LANES)) as loop:
        offset = builder.mul(loop.index, constant(4 * LANES))
        emit(VECTOR, *(builder.add(row, offset) for row in rows))
    for offset, size in pieces(dim):
        emit(ir.VectorType(FLOAT, size), *(builder.add(row, constant(4 * offset)) for row in rows))


def emit_copy(builder: Any, args: Sequence[Any], dim: int) -> None:
    """Copy a row: target, source."""

    def part(kind: Any, target: Any, source: Any) -> None:
        store(builder, load(builder, source, kind), target)

    for_parts(builder, dim, args, part)


def emit_copy_twice(builder: Any, args: Sequence[Any], dim: int) -> None:
    """Copy a row to two places: target, other target, source."""

    def part(kind: Any, target: Any, other: Any, source: Any) -> None:
        value = load(builder, source, kind)
        store(builder, value, target)
        store(builder, value, other)

    for_parts(builder, dim, args, part)


def emit_copy_rows(builder: Any, args: Sequence[Any], dim: int) -> None:
    """Copy rows of a table to padded rows, one behind the other: array of the rows' addresses, their number, copies."""
    rows, count, copies = args
    with cgutils.for_range(builder, count) as loop:
        target = builder.add(copies, builder.mul(loop.index, constant(4 * stride(dim))))
        emit_copy(builder, (target, element(builder, rows, loop.index)), dim)


def emit_add_difference(builder: Any, args: Sequence[Any], dim: int) -> None:
    """Add new - old to target: target, new, old."""

    def part(kind: Any, *rows: Any) -> None:
        t, n, o = (load(builder, row, kind) for row in rows)
        store(builder, builder.fadd(t, builder.fsub(n, o)), rows[0])

    for_parts(builder, dim, args, part)


def emit_prefetch(builder: Any, args: Sequence[Any], dim: int) -> None:
    """Prefetch rows of tables that will be read and written: array of the rows' addresses, their number.

    Tables begin at a cache line, so rows begin at multiples of what 64 and the bytes of a row are both multiples of.
    """
    rows, count = args
    offsets = list(range(0, 4 * dim, 64))
    if (4 * dim - 1) % 64 >= math.gcd(4 * dim, 64):  # a row that begins late in a cache line ends in one more
        offsets.append(4 * dim - 1)
    pointer = ir.IntType(8).as_pointer()
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(ir.VoidType(), [pointer] + [INT] * 3), "llvm.prefetch.p0"
    )
    with cgutils.for_range(builder, count) as loop:
        row = element(builder, rows, loop.index)
        for offset in offsets:
            address = builder.inttoptr(builder.add(row, constant(offset)), pointer)
            builder.call(function, [address, *(ir.Constant(INT, i) for i in (1, 3, 1))])


def emit_adagrad(builder: Any, args: Sequence[Any], dim: int) -> None:
    """Move a row by Adagrad: row, its negative gradient (set to zero), sums of squares, learning rate, epsilon."""
    *rows, rate, epsilon = args

    def of(kind: Any, scalar: Any) -> Any:
        one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(INT, 0))
        return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(INT, kind.count), [0] * kind.count))

    def part(kind: Any, row: Any, delta: Any, sums: Any) -> None:
        d = load(builder, delta, kind)
        total = builder.fadd(load(builder, sums, kind), builder.fmul(d, d))
        store(builder, total, sums)
        root = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(kind, [kind]), f"llvm.sqrt.v{kind.count}f32"
        )
        root = builder.call(root, [total])
        step = builder.fdiv(builder.fmul(of(kind, rate), d), builder.fadd(root, of(kind, epsilon)))
        store(builder, builder.fadd(load(builder, row, kind), step), row)
        store(builder, ir.Constant(kind, [0.0] * kind.count), delta)

    for_parts(builder, dim, rows, part)


def emit_update(builder: Any, args: Sequence[Any], dim: int, size: int, apart: bool, scaled: bool) -> None:
    """Move `count` context rows along a group of output rows and vice versa, by the gradients of their tiles.

    Args:
        args: contexts, the address of an array with the addresses of the padded context rows, which are changed; old,
            the same for their values before the window, read only if `apart`, else `contexts` is read; count; gradient,
            the address of the results of the scoring, a vector for each two context rows; outputs, the address of the
            padded copies of the output rows, as they were before the window; rows, the address of an array with the
            addresses of the rows to which the changes are added; context_scales and output_scales, addresses of arrays
            of float32 by which the steps of context rows and of output rows are multiplied, read only if `scaled`.
        dim, size: length of the rows, and number of output rows.
        apart: whether `old` and `contexts` are different rows.
        scaled: whether steps are multiplied by the scales.
    """
    contexts, old, count, gradient, outputs, rows, context_scales, output_scales = args

    def scale(array: Any, index: Any) -> Any:
        return broadcast(builder, load(builder, builder.add(array, builder.mul(index, constant(4))), FLOAT))

    def chunk(offset: Any, parts: list[tuple[int, int]]) -> None:
        base = builder.add(outputs, offset)
        o = [load(builder, base, offset=4 * k * stride(dim)) for k in range(size)]
        delta = [cgutils.alloca_once_value(builder, splat(0.0)) for _ in range(size)]
        for d in delta:
            builder.store(splat(0.0), d)
        with cgutils.for_range(builder, count) as loop:
            place = builder.add(element(builder, contexts, loop.index), offset)
            row = before = load(builder, place)
            moved = splat(0.0) if scaled else row
            if apart:
                before = load(builder, builder.add(element(builder, old, loop.index), offset))
            # Tile index // 2, in it the half index % 2.
            tile = builder.mul(builder.lshr(loop.index, constant(1)), constant(4 * LANES))
            half = builder.mul(builder.and_(loop.index, constant(1)), constant(4 * size))
            g = builder.add(gradient, builder.add(tile, half))
            for k in range(size):
                rate = broadcast(builder, load(builder, g, FLOAT, 4 * k))
                moved = fma(builder, rate, o[k], moved)
                builder.store(fma(builder, rate, before, builder.load(delta[k])), delta[k])
            if scaled:
                moved = fma(builder, scale(context_scales, loop.index), moved, row)
            store(builder, moved, place)
        for k in range(size):
            row = builder.add(element(builder, rows, constant(k)), offset)
            d = builder.load(delta[k])
            if scaled:
                d = builder.fmul(scale(output_scales, constant(k)), d)
            for first, length in parts:
                part = d
                if length < LANES:
                    lanes = ir.Constant(ir.VectorType(INT, length), [first + i for i in range(length)])
                    part = builder.shuffle_vector(d, d, lanes)
                store(builder, builder.fadd(load(builder, row, part.type, 4 * first), part), row, 4 * first)

    with cgutils.for_range(builder, constant(dim // LANES)) as loop:
        chunk(builder.mul(loop.index, constant(4 * LANES)), [(0, LANES)])
    if dim % LANES:
        whole = dim - dim % LANES
        chunk(constant(4 * whole), [(first - whole, length) for first, length in pieces(dim)])
