"""Report registers, spilled bytes, shared memory and instructions per window of the GPU kernels, without a GPU.

    python scripts/benchmarks/gpu_kernels.py [--dim 100] [--json]

Triton's own assembler compiles for sm_90 (H100, H200) ahead of time. Instructions are those of the loop over windows
(for the softmaxes: over tiles) of one warp, times the number of warps of a program. A processor of such a GPU has
65,536 registers and 227 KB of shared memory, so the table also says how many programs fit one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from skiplight.engines import fused_gpu_triton
from skiplight.engines.fused_gpu import SHORTEST, shape
from skiplight.engines.in_flight import MOST
from skiplight.objectives import full_softmax_triton, sampled_softmax_triton
from skiplight.objectives.sampled_softmax import round_up
from skiplight.sampling import windows_triton
from skiplight.sampling.draws import ATTEMPTS

TARGET = GPUTarget("cuda", 90, 32)
SETTINGS = [
    (64, 5, 5),
    (100, 5, 5),
    (128, 5, 5),
    (128, 5, 20),
    (256, 5, 5),
    (300, 10, 15),
    (512, 5, 5),
    (1024, 20, 256),
]
"""Dimension, window and K."""
TYPES = {
    "*i32": "ids segment_of keep half ends word left right at count negatives out",
    "*i64": "segments document start position columns pairs",
    "*fp32": "inputs outputs steps inputs_in_flight outputs_in_flight",
    "*fp64": "losses",
    "i32": "tokens window epoch first rows vocabulary",
    "i64": "seed",
    "fp32": "rate_begin rate_step",
}

SOFTMAX_TYPES = {
    "*bf16": "vectors output",
    "*fp32": "bias shift log_sum expected lift by_output by_bias",
    "*i32": "apart",
    "i32": "n words",
}

SAMPLED_TYPES = {
    "*fp32": "input output added log_sum losses scale by_context by_word by_added",
    "*i32": "inputs words",
    "*i64": "ends",
}


def compiled(
    kernel: Any, constants: dict[str, Any], warps: int, stages: int = 1, table: dict[str, str] = TYPES
) -> dict[str, Any]:
    """Compile a kernel whose arguments have the types of `table`, and return its use of a processor."""
    types = {name: kind for kind, names in table.items() for name in names.split()}
    names = [parameter.name for parameter in kernel.params]
    signature = {name: "constexpr" if name in constants else types[name] for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if signature[name].startswith("*")}
    constexprs = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constexprs, attrs=aligned)
    made = triton.compile(source, target=TARGET, options={"num_warps": warps, "num_stages": stages})
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        usage, code = dump("-res-usage", file.name), dump("-sass", file.name)
    registers, stack = (int(number) for number in re.search(r"REG:(\d+) STACK:(\d+)", usage).groups())  # type: ignore[union-attr]
    shared = made.metadata.shared
    fit = min(65536 // (32 * warps * -(-registers // 8) * 8), 64 // warps, 232448 // (shared + 1024), 32)
    vectors = len(re.findall(r"(?:red|atom)\.global\S*v4\.f32", made.asm["ptx"]))
    return {
        "warps": warps, "registers": registers, "spilled": stack, "shared memory": shared, "programs": fit,
        "instructions": warps * longest_loop(code), "vector additions": vectors,
    }  # fmt: skip


def dump(what: str, cubin: str) -> str:
    """Return the output of NVIDIA's cuobjdump, which Triton contains, for a binary."""
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    return subprocess.run([tool, what, cubin], capture_output=True, text=True, check=True).stdout


def longest_loop(code: str) -> int:
    """Return the number of instructions of the longest loop, or 0 if there is none."""
    instructions = re.findall(r"^\s+/\*([0-9a-f]{4,})\*/\s+(.*?);", code, re.MULTILINE)
    addresses = [int(address, 16) for address, _ in instructions]
    longest = 0
    for address, (_, text) in zip(addresses, instructions, strict=True):
        jump = re.search(r"\bBRA\b.*?(0x[0-9a-f]+)", text)
        if jump and int(jump.group(1), 16) < address:
            longest = max(longest, sum(int(jump.group(1), 16) <= a <= address for a in addresses))
    return longest


def rows(only: int | None) -> list[dict[str, Any]]:
    """Return a row per kernel and setting, or only those of a dimension."""
    tile = {"TILE": windows_triton.TILE}
    made = [{"kernel": "_sift"} | compiled(windows_triton._sift, tile, 4)]
    made.append({"kernel": "_compact"} | compiled(windows_triton._compact, tile, 4))
    for pair in (False, True):
        slots = 50 if pair else 5
        draw = {"WINDOW": 5, "K": 5, "PER_CENTRE": slots, "EXCLUDE": 2, "PAIR": pair, "ATTEMPTS": ATTEMPTS}
        row = compiled(windows_triton._draw, draw | tile, 4)
        made.append({"kernel": "_draw", "negatives of": "pair" if pair else "window"} | row)
    for dim, window, negatives in SETTINGS:
        if only not in (None, dim):
            continue
        kinds = [("reloaded", False), ("reloaded", True)]
        if shape(dim, window, negatives, pair=False, cuda=False).resident:
            kinds.insert(0, ("resident", False))
        for kind, pair in kinds:
            form = shape(dim, window, negatives, pair=pair, cuda=False, layout=kind)
            constants = {
                "WINDOW": window, "K": negatives, "DIM": dim, "RING": form.ring, "WIDTH": form.width,
                "GROUP": form.group, "SHORTEST": SHORTEST, "MOST": MOST,
            }  # fmt: skip
            if kind == "reloaded":
                constants["PAIR"] = pair
            row = compiled(getattr(fused_gpu_triton, f"train_{kind}"), constants, form.warps)
            setting = {"d": dim, "W": window, "K": negatives, "negatives of": "pair" if pair else "window"}
            made.append({"kernel": f"train_{kind}", **setting} | row)
    for dim, kind in itertools.product((100, 128, 256), ("*bf16", "*fp32")):
        if only not in (None, dim):
            continue
        width, table = triton.next_power_of_2(dim), SOFTMAX_TYPES
        if kind == "*fp32":
            table = table | {"*bf16": "", "*fp32": f"{table['*bf16']} {table['*fp32']}"}
        for name in ("_by_inputs", "_by_inputs_apart", "_by_outputs"):
            tiles = full_softmax_triton.BY_OUTPUTS if name == "_by_outputs" else full_softmax_triton.BY_INPUTS
            tiles = full_softmax_triton.fit(tiles, width, 2 if kind == "*bf16" else 4, full_softmax_triton.SHARED)
            constants = {"DIM": dim, "WIDTH": width, "OWN": tiles.own, "TILE": tiles.other, "BIAS": True}
            kernel = getattr(full_softmax_triton, name)
            made.append(
                {"kernel": name, "d": dim, "type": kind[1:]}
                | compiled(kernel, constants, tiles.warps, tiles.stages, table)
            )
    for dim, window, negatives in ((100, 5, 5), (128, 5, 100), (256, 16, 256), (512, 5, 5)):
        if only not in (None, dim):
            continue
        contexts, width = round_up(2 * window), triton.next_power_of_2(dim)
        constants = {
            "DIM": dim, "WIDTH": width, "SLOTS": negatives + 1, "CONTEXTS": contexts,
            "TILE": sampled_softmax_triton.TILE, "KIND": tl.float32, "PRECISION": "tf32",
        }  # fmt: skip
        setting = {"d": dim, "W": window, "K": negatives}
        for name in ("_losses", "_gradients"):
            kernel = getattr(sampled_softmax_triton, name)
            row = compiled(kernel, constants, sampled_softmax_triton.count_warps(contexts, width), table=SAMPLED_TYPES)
            made.append({"kernel": name, **setting} | row)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, help="compile for this dimension only")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    made = rows(options.dim)
    if options.json:
        json.dump(made, sys.stdout)
        return
    from rich.console import Console
    from rich.table import Table

    heads = list(dict.fromkeys(name for row in made for name in row))
    table = Table(*heads)
    for row in made:
        table.add_row(*(str(row.get(name, "")) for name in heads))
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
