"""FULL-W2V (Randall, Allen and Ge 2021), built from its source and run on the text and the GPU of `gpu.py`.

Its source is github.com/tlranda/FULL-W2V, taken as it is. Its windows are all of the same half-width, where word2vec
draws one from 1 to W: it is given (W + 1)/2, which makes as many pairs.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np


def build(source: Path, capability: tuple[int, int], folder: Path) -> Path:
    """Compile the program for a GPU of a compute capability, and return its path.

    Raises:
        RuntimeError: nvcc or the source is missing, or it does not compile.
    """
    nvcc = shutil.which("nvcc")
    driver = next(source.rglob("FULL-W2V-driver.cu"), None)
    if nvcc is None or driver is None:
        raise RuntimeError("nvcc is not on PATH" if nvcc is None else f"{source} has no FULL-W2V-driver.cu")
    program, arch = folder.resolve() / "full-w2v", "".join(map(str, capability))
    code = ["-std=c++14", "-O3", "-Xptxas", "-dlcm=ca", "-gencode", f"arch=compute_{arch},code=sm_{arch}"]
    command = [nvcc, driver.name, *code, "-Xcompiler", "-fopenmp -O3 -march=native", "-lcuda", "-o", str(program)]
    done = subprocess.run(command, cwd=driver.parent, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"FULL-W2V does not compile: {done.stderr.strip()[-1000:]}")
    return program


def write(text: Any, path: Path) -> None:
    """Write the text as words, a line per segment."""
    words = np.array(text.words or [f"w{i}" for i in range(len(text.counts))])
    with path.open("w", encoding="utf-8") as file:
        for begin, end in zip([0, *text.end[:-1]], text.end, strict=True):
            file.write(" ".join(words[text.ids[begin:end]]))
            file.write("\n")


def measure(program: Path, text: Path, dim: int, window: int, negatives: int, subsample: float, threads: int) -> Any:
    """Train for five epochs; return raw words/s as reported, which exclude reading the text, and all seconds."""
    options = {
        "train": text, "output": text.with_suffix(".vectors"), "size": dim, "window": (window + 1) // 2,
        "negative": negatives, "sample": subsample, "alpha": 0.025, "epoch": 5, "min-count": 1, "thread": threads,
        "debug": 0,
    }  # fmt: skip
    command = [str(program), *(part for name, value in options.items() for part in (f"-{name}", str(value)))]
    begin = time.perf_counter()
    done = subprocess.run([*command, "-no-export"], capture_output=True, text=True, check=False)
    found = re.search(r"Overall Words Per Second: ([\d.]+)", done.stdout)
    if found is None:
        raise RuntimeError(f"FULL-W2V ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-1000:]}")
    return {"threads": threads, "M raw words/s": float(found[1]) / 1e6, "seconds": time.perf_counter() - begin}
