"""The fused CPU engine's micro-kernels: machine code for one dimension, called by address.

The kernel (`fused_cpu_numba.py`) is the same for every dimension and K, so it is compiled once and cached. Only the
innermost loops have constants in them: the dimension, and the number of output rows of a tile. They are some small
functions, which LLVM compiles in a fraction of a second when an engine is first made for a dimension and K.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from skiplight.compiled import machine_code
from skiplight.engines import scores_llvm, vectors_llvm
from skiplight.engines.vectors_llvm import FLOAT, GROUP, WORD, stride

COPY_TWICE, COPY_ROWS, COPY_PADDED_ROWS, ADD_DIFFERENCE, PREFETCH, ADAGRAD, SETTLE = range(7)
"""Indices of the functions for any number of output rows."""

LOGISTIC, SCORES, SOFTMAX, UPDATE, UPDATE_APART, UPDATE_SCALED, UPDATE_APART_SCALED = range(7)
"""Indices of the functions for a group of `rows` output rows, after `FIRST` + rows·`VARIANTS`."""

FIRST, VARIANTS = 7, 7


def groups_of(rows: int) -> tuple[int, int]:
    """Return in how many groups, of how many rows each, `rows` output rows are scored.

    >>> groups_of(1), groups_of(GROUP + 1)[0]
    ((1, 1), 2)
    """
    groups = -(-rows // GROUP)
    return groups, -(-rows // groups)


def function_addresses(dim: int, rows: Iterable[int], variants: Iterable[int]) -> np.ndarray:
    """Return the addresses of micro-kernels for a dimension, int64 [FIRST + (GROUP + 1)·VARIANTS].

    Args:
        dim: length of the vectors.
        rows: all numbers of output rows of a window. Functions for other sizes of groups are not compiled.
        variants: the functions for groups to compile, `LOGISTIC` to `UPDATE_APART_SCALED`.
    """
    addresses = np.zeros(FIRST + (GROUP + 1) * VARIANTS, np.int64)
    addresses[:FIRST] = _compile_for_rows(dim)
    for size in {groups_of(count)[1] for count in rows}:
        for variant in variants:
            addresses[FIRST + size * VARIANTS + variant] = _compile_for_group(dim, size, variant)
    return addresses


@functools.cache
def _compile_for_rows(dim: int) -> list[int]:
    vectors = vectors_llvm
    return _compile(
        f"rows_{dim}",
        [
            (3, 0, functools.partial(vectors.emit_copy_twice, dim=dim)),
            (3, 0, functools.partial(vectors.emit_copy_rows, dim=dim)),
            (3, 0, functools.partial(vectors.emit_copy_rows, dim=stride(dim))),
            (3, 0, functools.partial(vectors.emit_add_difference, dim=dim)),
            (2, 0, functools.partial(vectors.emit_prefetch, dim=dim)),
            (3, 2, functools.partial(vectors.emit_adagrad, dim=dim)),
            (1, 0, scores_llvm.emit_settle),
        ],
    )


@functools.cache
def _compile_for_group(dim: int, size: int, variant: int) -> int:
    update = functools.partial(vectors_llvm.emit_update, dim=dim, size=size)
    functions: list[tuple[int, int, Callable]] = [
        (7, 1, functools.partial(scores_llvm.emit_logistic, dim=dim, rows=size)),
        (7, 1, functools.partial(scores_llvm.emit_scores, dim=dim, rows=size)),
        (6, 1, functools.partial(scores_llvm.emit_softmax, rows=size)),
        (8, 0, functools.partial(update, apart=False, scaled=False)),
        (8, 0, functools.partial(update, apart=True, scaled=False)),
        (8, 0, functools.partial(update, apart=False, scaled=True)),
        (8, 0, functools.partial(update, apart=True, scaled=True)),
    ]
    return _compile(f"group_{dim}_{size}_{variant}", [functions[variant]])[0]


_libraries: list[Any] = []  # machine code lives as long as its library


def _compile(name: str, functions: list[tuple[int, int, Callable]]) -> list[int]:
    """Return the addresses of functions, each given by its numbers of integer and float32 arguments and its body."""

    def emit(module: ir.Module) -> None:
        for number, (words, floats, emit_body) in enumerate(functions):
            kind = ir.FunctionType(ir.VoidType(), [WORD] * words + [FLOAT] * floats)
            function = ir.Function(module, kind, f"skiplight_{name}_{number}")
            builder = ir.IRBuilder(function.append_basic_block("entry"))
            emit_body(builder, function.args)
            builder.ret_void()

    library = machine_code(f"skiplight_{name}", emit)
    _libraries.append(library)
    return [library.get_pointer_to_function(f"skiplight_{name}_{number}") for number in range(len(functions))]


@intrinsic
def call(typing: Any, address: Any, args: Any) -> Any:
    """Call a micro-kernel by its address with a tuple of integers and float32."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        address, packed = values
        given = [builder.extract_value(packed, i) for i in range(len(args))]
        for i, kind in enumerate(args):
            if isinstance(kind, types.Integer):
                given[i] = context.cast(builder, given[i], kind, types.int64)
        pointer = ir.FunctionType(ir.VoidType(), [value.type for value in given]).as_pointer()
        builder.call(builder.inttoptr(address, pointer), given)
        return context.get_dummy_value()

    return types.void(address, args), generate
