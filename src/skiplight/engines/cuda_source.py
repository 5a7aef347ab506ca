"""Kernels in CUDA C++: compiled when they are first needed, by the compiler library that comes with torch.

NVIDIA's `cuda-bindings` give access to that library (NVRTC) and to the driver. CUDA builds of torch depend on both.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


class CudaKernel:
    """A compiled kernel on one device.

    Args:
        path: a source file.
        name: a function in it, `extern "C" __global__`.
        constants: macros to define.
        device: the device to compile for and run on.

    Raises:
        ImportError: `cuda-bindings` are not installed.
        RuntimeError: the compiler is not there, the source does not compile, or the driver refuses it.
    """

    def __init__(self, path: Path, name: str, constants: Mapping[str, object], device: torch.device) -> None:
        from cuda.bindings import driver

        self.driver, self.device = driver, device
        capability = torch.cuda.get_device_capability(device)
        cubin = compiled(path, tuple(f"-D{macro}={value}" for macro, value in constants.items()), capability)
        with torch.cuda.device(device):
            torch.cuda.current_stream()  # makes the context of the device the current one
            self._module = _checked(driver.cuModuleLoadData(cubin))
            self._function = _checked(driver.cuModuleGetFunction(self._module, name.encode()))

    def blocks_per_processor(self, threads: int, shared: int) -> int:
        """Return how many blocks run on a multiprocessor at a time, and allow blocks of that much shared memory."""
        largest = self.driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        with torch.cuda.device(self.device):
            _checked(self.driver.cuFuncSetAttribute(self._function, largest, shared))
            blocks = self.driver.cuOccupancyMaxActiveBlocksPerMultiprocessor(self._function, threads, shared)
        return int(_checked(blocks))

    def launch(self, blocks: int, threads: int, shared: int, *arguments: torch.Tensor | int | float) -> None:
        """Launch on the current stream; integers are passed as int32, floats as float32."""
        values, types = zip(*(_passed(argument) for argument in arguments), strict=True)
        stream = torch.cuda.current_stream(self.device).cuda_stream
        launched = self.driver.cuLaunchKernel(
            self._function, blocks, 1, 1, threads, 1, 1, shared, stream, (values, types), 0
        )  # fmt: skip
        _checked(launched)


@functools.lru_cache(maxsize=64)
def compiled(path: Path, options: tuple[str, ...], capability: tuple[int, int]) -> bytes:
    """Compile a source file for a compute capability, and return the machine code."""
    from cuda.bindings import nvrtc

    program = _checked(nvrtc.nvrtcCreateProgram(path.read_bytes(), path.name.encode(), 0, [], []))
    arguments = [f"--gpu-architecture=sm_{capability[0]}{capability[1]}", "--std=c++17", *options]
    done = nvrtc.nvrtcCompileProgram(program, len(arguments), [argument.encode() for argument in arguments])
    if int(done[0]):
        log = b" " * _checked(nvrtc.nvrtcGetProgramLogSize(program))
        nvrtc.nvrtcGetProgramLog(program, log)
        raise RuntimeError(f"{path.name} does not compile with {' '.join(arguments)}: {log.decode().strip()}")
    cubin = b" " * _checked(nvrtc.nvrtcGetCUBINSize(program))
    _checked(nvrtc.nvrtcGetCUBIN(program, cubin))
    return cubin


def _checked(results: tuple[Any, ...]) -> Any:
    """Return what a call of NVIDIA's libraries returned beside its error code."""
    error, *values = results
    if int(error):
        raise RuntimeError(f"CUDA reports {error.name}")
    return values[0] if values else None


def _passed(argument: torch.Tensor | int | float) -> tuple[int | float, Any]:
    """Return an argument as the driver takes it, and its C type."""
    if isinstance(argument, torch.Tensor):
        return argument.data_ptr(), ctypes.c_void_p
    return argument, ctypes.c_float if isinstance(argument, float) else ctypes.c_int
