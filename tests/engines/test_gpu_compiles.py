"""The GPU kernels compile for a GPU that is not here, and keep what they work on in registers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from skiplight.engines.fused_gpu import WARPS

SCRIPT = Path(__file__).parents[2] / "scripts/benchmarks/gpu_kernels.py"


@pytest.mark.parametrize(
    "options", [pytest.param(["--dim", "100"], id="d 100"), pytest.param([], id="all", marks=pytest.mark.slow)]
)
def test_every_kernel_compiles_for_sm_90_and_fits(options: list[str]) -> None:
    # A process of its own, since this one may have Triton's interpreter in place of its compiler.
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), "--json", *options],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    kernels = {"_sift", "_compact", "_draw", "train_resident", "train_reloaded"}
    kernels |= {"_by_inputs", "_by_inputs_apart", "_by_outputs", "_losses", "_gradients"}
    assert {row["kernel"] for row in rows} == kernels
    for row in rows:
        assert row["spilled"] <= 32, row  # bytes a thread: eight of its 255 registers
        if row["kernel"].startswith("train"):
            assert row["programs"] >= max(WARPS // row["warps"], 1), row  # all that are launched run at a time
            assert row["vector additions"] > 0, row
