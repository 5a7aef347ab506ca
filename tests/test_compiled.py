"""Compiled kernels are read from the cache where they are whole, and those of other sources are removed."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
from pathlib import Path

from llvmlite import ir

from skiplight import compiled
from skiplight.compiled import remove_unused


def test_folders_that_were_not_used_for_long_are_removed(tmp_path: Path) -> None:
    for name, used in (("old", 1000), ("new", 3000)):
        (tmp_path / name / "inner").mkdir(parents=True)
        (tmp_path / name / "inner" / "kernel.nbi").write_text("x")
        os.utime(tmp_path / name, (used, used))
    remove_unused(tmp_path, since=2000)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def double(folder: Path, emitted: Path) -> int:
    """Double 21 by a function that is compiled or read from the cache."""

    def emit(module: ir.Module) -> None:
        emitted.touch(exist_ok=False)
        number = ir.IntType(64)
        function = ir.Function(module, ir.FunctionType(number, [number]), "skiplight_double")
        builder = ir.IRBuilder(function.append_basic_block())
        builder.ret(builder.add(*function.args, *function.args))

    compiled._kernel_cache = lambda: str(folder)  # type: ignore[assignment]
    library = compiled.machine_code("skiplight_double", emit)
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(library.get_pointer_to_function("skiplight_double"))(21)


def test_machine_code_is_read_from_the_cache_and_made_again_where_it_is_damaged(tmp_path: Path) -> None:
    cache, emitted = tmp_path / "cache", tmp_path / "emitted"
    cache.mkdir()
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as pool:  # each call is in another process
        for expected in (True, False, False):
            assert pool.apply(double, (cache, emitted)) == 42
            assert emitted.exists() == expected
            emitted.unlink(missing_ok=True)
        (file,) = cache.iterdir()
        file.write_bytes(file.read_bytes()[:-100])
        assert pool.apply(double, (cache, emitted)) == 42
        assert emitted.exists()
