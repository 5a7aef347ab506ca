"""Runs the CUDA kernel of the fused GPU engine on a CPU: compiled by g++, a warp as 32 contexts in turn."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from skiplight.engines.fused_gpu import WARP_SOURCE, WarpKernel

HERE = Path(__file__).parent


class KernelOnCpu:
    """Has the methods of `CudaKernel` that `WarpKernel` uses."""

    def __init__(self, constants: Mapping[str, object]) -> None:
        self.library = ctypes.CDLL(built(tuple(f"-D{macro}={value}" for macro, value in constants.items())))

    def blocks_per_processor(self, threads: int, shared: int) -> int:
        return 2

    def launch(self, blocks: int, threads: int, shared: int, *arguments: torch.Tensor | int | float) -> None:
        self.library.launch(*(_c(argument) for argument in arguments))


def run_kernel_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `WarpKernel` run on the CPU, or skip the test where there is no C++ compiler."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the kernel for a CPU")
    monkeypatch.setattr(WarpKernel, "compile", lambda self, constants, device: KernelOnCpu(constants))


@functools.cache
def built(macros: tuple[str, ...]) -> str:
    """Return the path of a library with the kernel."""
    folder = tempfile.mkdtemp(prefix="skiplight-kernel-")
    library = Path(folder, "kernel.so")
    options = ["-O1", "-std=c++17", "-shared", "-fPIC", f'-DKERNEL="{WARP_SOURCE}"', "-Wno-unknown-pragmas"]
    source = HERE / "fused_gpu_warps.cpp"
    subprocess.run(["g++", *options, *macros, str(source), "-o", str(library)], check=True)
    return str(library)


def _c(argument: torch.Tensor | int | float) -> object:
    if isinstance(argument, torch.Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_float(argument) if isinstance(argument, float) else ctypes.c_int(argument)
