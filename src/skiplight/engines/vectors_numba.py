"""The vector arithmetic of the fused CPU engine, as Numba intrinsics that write LLVM IR.

A loop that Numba vectorises keeps neither a tile of scores in registers nor the loads of several rows in flight, and it
needs the permission to reorder sums. Here every sum has a fixed order, and NaN stays NaN. Rows are given by address, an
integer. The rows of a table are `dim` floats at any address; working copies are padded with zeros to whole vectors of
`LANES` floats. `score_tile` computes the scores, gradients and loss of two context rows against a group of output rows;
`update_group` applies the gradients of a window to both sides.
"""

from __future__ import annotations

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_FEATURES = llvmlite.binding.get_host_cpu_features()
LANES = 16 if _FEATURES.get("avx512f") else 8 if _FEATURES.get("avx") else 4
"""Floats per vector."""

GROUP = LANES // 2
"""The most output rows of a tile: with two context rows, the scores fill a vector, and the sums half the registers."""

LOSS_BYTES = LANES * 20
"""Bytes of the summed loss of `score_tile`: float32 products and sums, int32 exponents, and float64 sums."""

TILES_A_SETTLEMENT = 100
"""The most tiles between calls of `settle_loss`; a product of so many factors from 1 to 2 is finite in float32."""

_INT, _FLOAT, _DOUBLE = ir.IntType(32), ir.FloatType(), ir.DoubleType()
_VECTOR, _INTS, _DOUBLES = (ir.VectorType(kind, LANES) for kind in (_FLOAT, _INT, _DOUBLE))

LOG2_E = 1.4426950408889634
EXP2 = (1.0, 0.6931471805599453, 0.2402265069591007, 0.05550410866482158, 0.009618129107628477,
        0.0013333558146428443, 0.00015403530393381608)  # fmt: skip
"""Taylor coefficients of 2^f, with a relative error below 2e-8 for |f| <= 1/2."""


def stride(dim: int) -> int:
    """Return the number of floats of a padded row."""
    return -(-dim // LANES) * LANES


def _splat(value: float, kind: ir.VectorType = _VECTOR) -> ir.Constant:
    return ir.Constant(kind, [value] * LANES)


def _at(builder, address, kind=_VECTOR, offset=0):
    if offset:
        address = builder.add(address, ir.Constant(address.type, offset))
    return builder.inttoptr(address, kind.as_pointer())


def _load(builder, address, kind=_VECTOR, offset=0):
    return builder.load(_at(builder, address, kind, offset), align=4)


def _store(builder, value, address, offset=0):
    builder.store(value, _at(builder, address, value.type, offset), align=4)


def _broadcast(builder, scalar):
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, ir.Constant(_INT, 0))
    return builder.shuffle_vector(one, one, ir.Constant(_INTS, [0] * LANES))


def _fma(builder, a, b, c):
    function = cgutils.get_or_insert_function(
        builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), f"llvm.fma.v{LANES}f32"
    )
    return builder.call(function, [a, b, c])


def _pieces(dim):
    """Yield (offset, size) of the parts of a row after its whole vectors; sizes are powers of two."""
    offset, size = dim - dim % LANES, LANES // 2
    while size:
        if dim & size:
            yield offset, size
            offset += size
        size //= 2


def _for_chunks(builder, address, count):
    """Return a loop over `count` whole vectors, for use with `_advance`."""
    return cgutils.for_range(builder, ir.Constant(address.type, count))


def _advance(builder, address, loop):
    return builder.add(address, builder.mul(loop.index, ir.Constant(address.type, 4 * LANES)))


def _sums(builder, vectors):
    """Return the sums over the lanes of up to LANES vectors, vector i in lane i, by log2(LANES) pairwise sums."""
    block = LANES
    while block > 1:
        half = block // 2
        starts = range(0, 2 * LANES, block)
        low = ir.Constant(_INTS, [s + i for s in starts for i in range(half)])
        high = ir.Constant(_INTS, [s + half + i for s in starts for i in range(half)])
        merged = []
        for i in range(0, len(vectors), 2):
            a, b = vectors[i], vectors[min(i + 1, len(vectors) - 1)]
            merged.append(builder.fadd(builder.shuffle_vector(a, b, low), builder.shuffle_vector(a, b, high)))
        vectors, block = merged, half
    return vectors[0]


def _exp(builder, x):
    """Return e^x of a vector of x <= 0, at least 2^-126, with a relative error below 1e-6."""
    t = builder.fmul(x, _splat(LOG2_E))
    # An ordered comparison, which lets NaN pass.
    t = builder.select(builder.fcmp_ordered("<", t, _splat(-126.0)), _splat(-126.0), t)
    # Adding 1.5·2^23 leaves round(t) in the lowest bits.
    shifted = builder.fadd(t, _splat(12582912.0))
    f = builder.fsub(t, builder.fsub(shifted, _splat(12582912.0)))
    result = _splat(EXP2[-1])
    for coefficient in EXP2[-2::-1]:
        result = _fma(builder, result, f, _splat(coefficient))
    exponent = builder.shl(builder.bitcast(shifted, _INTS), _splat(23, _INTS))
    return builder.bitcast(builder.add(builder.bitcast(result, _INTS), exponent), _VECTOR)


@intrinsic(prefer_literal=True)
def copy_row(typing, target, source, dim):
    """Copy a row of `dim` floats."""

    def generate(context, builder, signature, args):
        target, source, _ = args
        with _for_chunks(builder, source, width // LANES) as loop:
            _store(builder, _load(builder, _advance(builder, source, loop)), _advance(builder, target, loop))
        for offset, size in _pieces(width):
            _store(builder, _load(builder, source, ir.VectorType(_FLOAT, size), 4 * offset), target, 4 * offset)
        return context.get_dummy_value()

    width = dim.literal_value
    return types.void(target, source, dim), generate


@intrinsic(prefer_literal=True)
def add_difference(typing, target, new, old, dim):
    """Add new - old to target, rows of `dim` floats."""

    def generate(context, builder, signature, args):
        target, new, old, _ = args

        def part(kind, *rows):
            t, n, o = (_load(builder, row, kind) for row in rows)
            _store(builder, builder.fadd(t, builder.fsub(n, o)), rows[0])

        with _for_chunks(builder, target, width // LANES) as loop:
            part(_VECTOR, *(_advance(builder, row, loop) for row in (target, new, old)))
        for offset, size in _pieces(width):
            step = ir.Constant(target.type, 4 * offset)
            part(ir.VectorType(_FLOAT, size), *(builder.add(row, step) for row in (target, new, old)))
        return context.get_dummy_value()

    width = dim.literal_value
    return types.void(target, new, old, dim), generate


@intrinsic(prefer_literal=True)
def prefetch_row(typing, row, dim):
    """Prefetch a row of a table that will be read and written."""

    def generate(context, builder, signature, args):
        pointer = ir.IntType(8).as_pointer()
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [pointer] + [_INT] * 3), "llvm.prefetch.p0"
        )
        for offset in [*range(0, 4 * width, 64), 4 * width - 1]:
            address = builder.inttoptr(builder.add(args[0], ir.Constant(args[0].type, offset)), pointer)
            builder.call(function, [address, *(ir.Constant(_INT, i) for i in (1, 3, 1))])
        return context.get_dummy_value()

    width = dim.literal_value
    return types.void(row, dim), generate


@intrinsic(prefer_literal=True)
def score_tile(typing, context0, context1, outputs, signs, rate, gradient, loss, dim, group):
    """Score two padded context rows against `group` consecutive padded output rows.

    Lane i < group belongs to context0 and output i, lane group + i to context1 and output i. With z = sign·score, the
    loss of a pair is log(1 + e^z) = max(z, 0) + log(1 + e^-|z|), and its gradient is sign·σ(z). Sums of logarithms are
    stored as products (`settle_loss`).

    Args:
        signs: address of a vector: -1 for an observed pair, 1 for noise, 0 for a pair that does not count.
        rate: learning rate, float32.
        gradient: address of a vector, overwritten by -rate·sign·σ(z), by which a row moves along the other.
        loss: address of LOSS_BYTES bytes, to which the loss is added.
    """

    def generate(context, builder, signature, args):
        *contexts, outputs, signs, rate, gradient, loss, _, _ = args
        sums = [cgutils.alloca_once_value(builder, _splat(0.0)) for _ in range(2 * rows)]
        with _for_chunks(builder, outputs, stride(width) // LANES) as loop:
            c = [_load(builder, _advance(builder, row, loop)) for row in contexts]
            base = _advance(builder, outputs, loop)
            for k in range(rows):
                o = _load(builder, base, offset=4 * k * stride(width))
                for i, row in enumerate(c):
                    s = sums[i * rows + k]
                    builder.store(_fma(builder, row, o, builder.load(s)), s)
        sign = _load(builder, signs)
        z = builder.fmul(sign, _sums(builder, [builder.load(s) for s in sums]))
        minus = builder.bitcast(builder.or_(builder.bitcast(z, _INTS), _splat(-(2**31), _INTS)), _VECTOR)
        e = _exp(builder, minus)
        inverse = builder.fdiv(_splat(1.0), builder.fadd(e, _splat(1.0)))
        negative = builder.fcmp_ordered("<", z, _splat(0.0))
        sigmoid = builder.select(negative, builder.fmul(e, inverse), inverse)
        scale = builder.fmul(sign, _broadcast(builder, builder.fsub(ir.Constant(_FLOAT, -0.0), rate)))
        _store(builder, builder.fmul(scale, sigmoid), gradient)

        counts = builder.fmul(sign, sign)
        product = builder.fmul(_load(builder, loss), _fma(builder, counts, e, _splat(1.0)))
        _store(builder, product, loss)
        above = builder.select(negative, _splat(0.0), z)
        _store(builder, builder.fadd(_load(builder, loss, offset=4 * LANES), above), loss, 4 * LANES)
        return context.get_dummy_value()

    width, rows = dim.literal_value, group.literal_value
    return types.void(context0, context1, outputs, signs, rate, gradient, loss, dim, group), generate


@intrinsic(prefer_literal=True)
def settle_loss(typing, loss):
    """Move the exponents of the products to the int32 exponents, and the float32 sums to the float64 sums."""

    def generate(context, builder, signature, args):
        (loss,) = args
        exponents, total = 8 * LANES, 12 * LANES
        bits = builder.bitcast(_load(builder, loss), _INTS)
        raised = builder.sub(builder.lshr(bits, _splat(23, _INTS)), _splat(127, _INTS))
        _store(builder, builder.add(_load(builder, loss, _INTS, exponents), raised), loss, exponents)
        mantissa = builder.or_(builder.and_(bits, _splat(0x7FFFFF, _INTS)), _splat(0x3F800000, _INTS))
        _store(builder, builder.bitcast(mantissa, _VECTOR), loss)
        above = builder.fpext(_load(builder, loss, offset=4 * LANES), _DOUBLES)
        _store(builder, builder.fadd(_load(builder, loss, _DOUBLES, total), above), loss, total)
        _store(builder, _splat(0.0), loss, 4 * LANES)
        return context.get_dummy_value()

    return types.void(loss), generate


@intrinsic(prefer_literal=True)
def update_group(
    typing, contexts, old, count, gradient, outputs, rows, context_scales, output_scales, dim, group, apart, scaled
):
    """Move `count` context rows along a group of output rows and vice versa, by the gradients of their tiles.

    Args:
        contexts: address of an array with the addresses of the padded context rows; the rows are changed.
        old: the same for their values before the window; read only if `apart`, else `contexts` is read.
        gradient: address of the results of `score_tile`, a vector for each two context rows.
        outputs: address of the padded copies of the output rows, as they were before the window.
        rows: address of an array with the addresses of the rows of the table, to which the changes are added.
        context_scales, output_scales: addresses of arrays of float32 by which the steps of context rows and of output
            rows are multiplied; read only if `scaled`.
        apart: a literal bool, whether `old` and `contexts` are different rows.
        scaled: a literal bool, whether steps are multiplied by the scales.
    """

    def generate(context, builder, signature, args):
        contexts, old, count, gradient, outputs, rows, context_scales, output_scales, *_ = args
        intp = contexts.type
        eight = ir.Constant(intp, 8)

        def element(array, index):
            return builder.load(builder.inttoptr(builder.add(array, builder.mul(index, eight)), intp.as_pointer()))

        def scale(array, index):
            four = ir.Constant(intp, 4)
            return _broadcast(builder, _load(builder, builder.add(array, builder.mul(index, four)), _FLOAT))

        def chunk(offset, pieces):
            base = builder.add(outputs, offset)
            o = [_load(builder, base, offset=4 * k * stride(width)) for k in range(size)]
            delta = [cgutils.alloca_once_value(builder, _splat(0.0)) for _ in range(size)]
            for d in delta:
                builder.store(_splat(0.0), d)
            with cgutils.for_range(builder, count) as loop:
                place = builder.add(element(contexts, loop.index), offset)
                row = before = _load(builder, place)
                moved = _splat(0.0) if shortened else row
                if separate:
                    before = _load(builder, builder.add(element(old, loop.index), offset))
                # Tile index // 2, in it the half index % 2.
                tile = builder.mul(builder.lshr(loop.index, ir.Constant(intp, 1)), ir.Constant(intp, 4 * LANES))
                half = builder.mul(builder.and_(loop.index, ir.Constant(intp, 1)), ir.Constant(intp, 4 * size))
                g = builder.add(gradient, builder.add(tile, half))
                for k in range(size):
                    rate = _broadcast(builder, _load(builder, g, _FLOAT, 4 * k))
                    moved = _fma(builder, rate, o[k], moved)
                    builder.store(_fma(builder, rate, before, builder.load(delta[k])), delta[k])
                if shortened:
                    moved = _fma(builder, scale(context_scales, loop.index), moved, row)
                _store(builder, moved, place)
            for k in range(size):
                row = builder.add(element(rows, ir.Constant(intp, k)), offset)
                d = builder.load(delta[k])
                if shortened:
                    d = builder.fmul(scale(output_scales, ir.Constant(intp, k)), d)
                for first, length in pieces:
                    part = d
                    if length < LANES:
                        lanes = ir.Constant(ir.VectorType(_INT, length), [first + i for i in range(length)])
                        part = builder.shuffle_vector(d, d, lanes)
                    _store(builder, builder.fadd(_load(builder, row, part.type, 4 * first), part), row, 4 * first)

        with _for_chunks(builder, outputs, width // LANES) as loop:
            chunk(builder.mul(loop.index, ir.Constant(intp, 4 * LANES)), [(0, LANES)])
        if width % LANES:
            whole = width - width % LANES
            chunk(ir.Constant(intp, 4 * whole), [(first - whole, length) for first, length in _pieces(width)])
        return context.get_dummy_value()

    width, size, separate, shortened = (literal.literal_value for literal in (dim, group, apart, scaled))
    given = (contexts, old, count, gradient, outputs, rows, context_scales, output_scales, dim, group, apart, scaled)
    return types.void(*given), generate
