"""Compare the fused GPU engine with the limits of its GPU, with autograd, and with the fused CPU engine.

    python scripts/benchmarks/gpu.py --prepare TEXT --output wiki17.npz    # where all of skiplight is installed
    python scripts/benchmarks/gpu.py [--text wiki17.npz] [--sets FILE ...] [--output FOLDER]
    python scripts/benchmarks/gpu.py --tiny --interpret                    # no GPU: does it run at all?

The machine with the GPU needs only torch, lightning, triton and numba. The whole benchmark takes less than 8 minutes;
parts for which `--minutes` leaves no time are skipped and named. `--parts` chooses some and keeps what gpu.json already
has of the others, so that `gpu_day.sh` can run each with a limit of its own. The text is synthetic, of Zipf's law,
unless `--text` is given. Only then is the quality of vectors measured, by similarity sets (word, word, score per line).

- ceilings: `gpu_ceilings.py`, on rows of 128 numbers.
- profile: time of each kernel of a step, and how many programs of the training kernel fit a processor.
- speed: raw words/s counts tokens before subsampling, effective words/s those after it; bytes and atomic additions are
  those that the design needs (see below), and their ceilings are the rates of the GPU for rows drawn by Zipf's law.
- block size and windows in flight: loss of a last pass over the text after the same passes.
- quality: similarity after the same epochs on GPU and CPU.
- rows read again: speed and similarity by the bound for rows of frequent words (`AGAIN` in `fused_gpu.py`).
- settings: words/s by number of negatives, window and block at d 128.
- full softmax: FLOP/s of three products against the card's bf16 rate, by the sizes of tiles.
- sampled softmax: loss and gradients of a step in kernels that write no scores, against tensor operations.
- peers: FULL-W2V on the same text, if its source is given (`--full-w2v FOLDER`) and nvcc is installed.
- input: words/s from a memory map through pinned memory into a step that does nothing.

For a window with R context rows (W + 1 on average) and K + 1 output rows of d numbers, a resident layout reads and adds
K + 2 rows (its outputs, and one context row that comes and one that goes), a reloaded one reads 2(R + K + 1) rows and
adds R + K + 1.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

WINDOW, NEGATIVES, SUBSAMPLE = 5, 5, 1e-4
DIMS = (64, 100, 128, 256, 512)


class Text:
    """The tokens of a text with their segments and counts.

    Attributes:
        ids: int32 [tokens]; end, document, start: int64 [segments]; counts: int64 [V]; words: str [V], or none.
    """

    def __init__(self, arrays: Any) -> None:
        self.ids, self.end, self.document, self.start = (arrays[name] for name in ("ids", "end", "document", "start"))
        self.counts, self.words = arrays["counts"], list(arrays["words"])

    @classmethod
    def synthetic(cls, tokens: int, words: int) -> Text:
        """Return words drawn independently by Zipf's law."""
        rng = np.random.default_rng(0)
        chance = 1 / (np.arange(words) + 2.7)
        ids = np.searchsorted((chance / chance.sum()).cumsum(), rng.random(tokens)).clip(max=words - 1).astype(np.int32)
        end = np.append(np.arange(10_000, tokens, 10_000), tokens)
        counts = np.maximum(np.bincount(ids, minlength=words), 1)
        none = np.zeros(0, str)
        return cls({
            "ids": ids, "end": end, "document": np.arange(len(end)), "start": np.zeros(len(end), np.int64),
            "counts": counts, "words": none,
        })  # fmt: skip

    def blocks(self, tokens: int, epoch: int = 0) -> Iterator[Any]:
        """Yield blocks of about `tokens` tokens, in the order of the text."""
        import torch

        from skiplight.sampling.batches import TokenBlock

        cell = (self.end - 1) // tokens
        cuts = [0, *(np.flatnonzero(np.diff(cell)) + 1).tolist(), len(self.end)]
        for index, (first, stop) in enumerate(itertools.pairwise(cuts)):
            begin = int(self.end[first - 1]) if first else 0
            arrays = (
                np.array(self.ids[begin : self.end[stop - 1]]),
                np.concatenate([[0], self.end[first:stop] - begin]),
                np.array(self.document[first:stop]),
                np.array(self.start[first:stop]),
            )
            yield TokenBlock(*(torch.from_numpy(array) for array in arrays), epoch, index)


def prepare(path: str, output: Path) -> None:
    """Write the tokens and the vocabulary of a text, for a machine without the packages that read it."""
    from skiplight.config.validate import from_mapping
    from skiplight.data.from_config import prepare_text

    data = {"source": "files", "path": path, "column": "text", "normalise": "text8", "heldout": 0.0}
    text = prepare_text(from_mapping({"data": data}))
    train = text.train.select(0, len(text.train))  # type: ignore[attr-defined]
    np.savez_compressed(
        output, ids=train.ids, end=train.segments[1:], document=train.document, start=train.start,
        counts=text.vocabulary.counts, words=np.array(text.vocabulary.words),
    )  # fmt: skip


class Bench:
    """The state that all parts share: the device, the text, the remaining time, and the results."""

    def __init__(self, options: argparse.Namespace) -> None:
        import torch

        self.options, self.tiny = options, options.tiny
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cpu" and not options.interpret:
            raise SystemExit("there is no GPU here that torch can use: give --tiny --interpret to see whether it runs")
        self.begin, self.failed = time.perf_counter(), list[str]()
        self.text = Text(np.load(options.text)) if options.text else self.synthetic()
        self.found: dict[str, Any] = {"device": self.name(), "smoke test, no figures": self.tiny}
        self.path = options.output / "gpu.json"
        if self.path.exists() and options.parts:
            self.found = json.loads(self.path.read_text()) | self.found

    @property
    def layouts(self) -> tuple[str, ...]:
        """Return the layouts that run here, the fastest first."""
        return ("warp", "resident", "reloaded") if self.device.type == "cuda" else ("resident", "reloaded")

    def name(self) -> str:
        import torch

        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "interpreter"

    def synthetic(self) -> Text:
        return Text.synthetic(40, 50) if self.tiny else Text.synthetic(16_000_000, 70_000)

    def sampler(self, seed: int = 0, window: int = WINDOW, negatives: int = NEGATIVES) -> Any:
        from skiplight.sampling.windows import WindowSampler

        subsample = 0 if self.tiny else SUBSAMPLE
        return WindowSampler(self.text.counts, seed=seed, window=window, negatives=negatives, subsample=subsample)

    def engine(self, kind: str, dim: int, seed: int = 0, programs: int | None = None, **sampling: int) -> Any:
        """Return an engine with new tables; its kind is a layout of the GPU, or cpu or autograd."""
        import torch

        from skiplight.engines.autograd import AutogradEngine
        from skiplight.engines.fused_cpu import FusedCpuEngine
        from skiplight.engines.fused_gpu import FusedGpuEngine
        from skiplight.objectives.base import Tables
        from skiplight.objectives.negative_sampling import NegativeSampling

        sampler = self.sampler(seed, **sampling)
        device = torch.device("cpu") if kind == "cpu" else self.device
        tables = Tables(len(self.text.counts), dim, seed=seed).to(device)
        objective = NegativeSampling(sampler.noise.probabilities).to(device)
        optimizer = torch.optim.SGD(tables.parameters(), lr=1.0)
        if kind == "autograd":
            return AutogradEngine(objective, tables, optimizer)
        if kind == "cpu":
            return FusedCpuEngine(objective, tables, optimizer, sampler)

        class Laid(FusedGpuEngine):
            """The engine with a given layout instead of its own choice."""

            layout: Any = kind

        return Laid(objective, tables, optimizer, sampler, programs)

    def train(self, engine: Any, epochs: int, block_tokens: int, lr: float = 0.025) -> list[float]:
        """Train as a run does, and return the mean loss of each epoch."""
        from skiplight.data.prefetch import prefetch_blocks

        total, done, losses = epochs * len(self.text.ids), 0, []
        device = engine.tables.input.weight.device
        for epoch in range(epochs):
            results, blocks = [], self.text.blocks(block_tokens, epoch)
            for block in prefetch_blocks(blocks, device) if device.type == "cuda" else blocks:
                rates = [lr * max(1 - tokens / total, 1e-4) for tokens in (done, done + len(block.ids))]
                results.append(engine.step(block, *rates))
                done += len(block.ids)
            losses.append(sum(float(r.loss_sum) for r in results) / max(sum(int(r.pairs) for r in results), 1))
        return losses

    def part(self, name: str, work: Callable[[], Any]) -> None:
        """Run one part if there is time for it."""
        minutes = (time.perf_counter() - self.begin) / 60
        if minutes > self.options.minutes:
            print(f"{name}: passed over, {minutes:.1f} minutes are gone")
            return
        try:
            self.found[name] = work()
        except Exception:  # the other parts are still worth having
            traceback.print_exc()
            self.failed.append(name)
            return
        print(f"\n{name} ({(time.perf_counter() - self.begin) / 60 - minutes:.1f} min)")
        show(self.found[name])
        self.path.write_text(json.dumps(self.found, indent=1))


def show(found: Any) -> None:
    """Format a dict as lines, or a list of dicts as a table."""
    rows = found if isinstance(found, list) else [{"what": key, "value": value} for key, value in found.items()]
    if not rows:
        return
    cells = [[figure(row.get(head, "")) for head in rows[0]] for row in rows]
    widths = [max(len(row[i]) for row in [[*rows[0]], *cells]) for i in range(len(rows[0]))]
    for row in [[*rows[0]], *cells]:
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def figure(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def measure_ceilings(bench: Bench) -> dict[str, float]:
    import torch
    from gpu_ceilings import ceilings

    return ceilings(bench.device, torch.from_numpy(bench.sampler().frequency), 16 if bench.tiny else 128, bench.tiny)


def measure_speed(bench: Bench) -> list[dict[str, Any]]:
    from gpu_ceilings import seconds

    found, limits = [], bench.found["ceilings"]
    block = next(bench.text.blocks(2_000_000)).to(bench.device)
    windows = bench.sampler()(block.to("cpu"))
    repeats = 0 if bench.tiny else 3
    for dim in (16,) if bench.tiny else DIMS:
        for kind in bench.layouts:
            engine = bench.engine(kind, dim)
            spent = seconds(lambda e=engine: e.step(block, 0.01, 0.01), bench.device, repeats)  # type: ignore[misc]
            contexts, outputs = windows.pairs / len(windows.target), NEGATIVES + 1
            added = contexts + outputs if kind == "reloaded" else 1 + outputs
            read = 2 * added if kind == "reloaded" else added
            rate = len(windows.target) / spent
            found.append({
                "d": dim, "layout": kind, "programs": engine.own_workers, "M raw words/s": len(block.ids) / spent / 1e6,
                "M effective words/s": rate / 1e6, "M pairs/s": windows.pairs / spent / 1e6,
                "GB/s read": rate * read * 4 * dim / 1e9, "of ceiling": rate * read * 4 * dim / limits["read_zipf"],
                "G additions/s": rate * added * dim / 1e9, "of their ceiling": rate * added * dim / limits["add_zipf"],
            })  # fmt: skip
    return found


def measure_settings(bench: Bench) -> list[dict[str, Any]]:
    """Return words/s by negatives, window and block; one of the three differs from the usual in each row."""
    from gpu_ceilings import seconds

    usual = {"negatives": NEGATIVES, "window": WINDOW, "block": 100 if bench.tiny else 2_000_000}
    others = {"negatives": (1, 15), "window": (2, 10), "block": (50,) if bench.tiny else (200_000, 8_000_000)}
    settings = [usual, *(usual | {name: value} for name, values in others.items() for value in values)]
    dim, found = 16 if bench.tiny else 128, []
    for setting in settings:
        block = next(bench.text.blocks(setting["block"])).to(bench.device)
        for kind in bench.layouts:
            engine = bench.engine(kind, dim, negatives=setting["negatives"], window=setting["window"])
            spent = seconds(lambda e=engine, b=block: e.step(b, 0.01, 0.01), bench.device, 0 if bench.tiny else 3)  # type: ignore[misc]
            found.append(setting | {"layout": kind, "M raw words/s": len(block.ids) / spent / 1e6})
    return found


def measure_profile(bench: Bench) -> list[dict[str, Any]]:
    """Return the share of each kernel in the time of a step on the device, by torch's profiler."""
    block = next(bench.text.blocks(100 if bench.tiny else 2_000_000)).to(bench.device)
    engine = bench.engine(bench.layouts[0], 16 if bench.tiny else 128)
    spent = kernel_seconds(bench, lambda: engine.step(block, 0.01, 0.01), 1 if bench.tiny else 5)
    largest = sorted(spent.items(), key=lambda item: -item[1])[:8]
    total = sum(spent.values())
    return [{"kernel": name[:40], "ms a step": time * 1e3, "share": time / total} for name, time in largest]


def measure_rivals(bench: Bench) -> list[dict[str, Any]]:
    """Return raw words/s of the autograd engine, and of plain products with index_add updates, compiled by torch."""
    import torch
    from gpu_ceilings import seconds

    dim = 16 if bench.tiny else 128
    engine, sampler = bench.engine("autograd", dim), bench.sampler()
    tables, rates = engine.tables, []

    def autograd(block: Any) -> None:
        engine.optimizer.zero_grad()
        result = engine.step(sampler(block), 0.01, 0.01)
        result.loss.backward()
        engine.optimizer.step()

    def plain(v: Any, u: Any, inputs: Any, words: Any, counts: Any) -> None:
        context, output = v[inputs], u[words]
        sign = torch.ones_like(words[:1], dtype=v.dtype)
        sign[:, 0] = -1.0
        scores = torch.bmm(context, output.transpose(1, 2)) * sign[:, None]
        step = -0.01 * sign[:, None] * torch.sigmoid(scores) * counts
        v.index_add_(0, inputs.flatten(), torch.bmm(step, output).flatten(0, 1))
        u.index_add_(0, words.flatten(), torch.bmm(step.transpose(1, 2), context).flatten(0, 1))

    # A block that autograd's sparse gradients, and the padded windows of the other, have memory for.
    block = next(bench.text.blocks(100_000)).to(bench.device)
    spent = seconds(lambda: autograd(block), bench.device, 0 if bench.tiny else 3)
    rates.append({"system": "autograd engine", "M raw words/s": len(block.ids) / spent / 1e6})
    windows = sampler(block)
    sizes = windows.offsets.diff()
    slot = torch.arange(2 * WINDOW, device=bench.device)
    counts = (slot < sizes[:, None])[:, :, None].float()
    inputs = windows.inputs[(windows.offsets[:-1, None] + slot).clamp(max=windows.pairs - 1)].long()
    words = torch.cat([windows.target[:, None], windows.negatives], 1).long()
    step = plain if bench.tiny else torch.compile(plain)
    v, u = tables.input.weight.detach(), tables.output.weight.detach()
    spent = seconds(lambda: step(v, u, inputs, words, counts), bench.device, 0 if bench.tiny else 3)
    rates.append({"system": "torch.compile, windows given", "M raw words/s": len(block.ids) / spent / 1e6})
    return rates


def measure_peers(bench: Bench) -> list[dict[str, Any]]:
    """Compare FULL-W2V on the same text with the fused engine over whole epochs, copies of tokens included."""
    import torch
    from gpu_peers import build, measure, write

    dim, epochs, found = 128, 5, []
    with tempfile.TemporaryDirectory() as folder:
        program = build(bench.options.full_w2v, torch.cuda.get_device_capability(bench.device), Path(folder))
        text = Path(folder, "text.txt")
        write(bench.text, text)
        cores = len(os.sched_getaffinity(0))
        for threads in sorted({1, max(cores // 2, 1), cores}):
            measured = measure(program, text, dim, WINDOW, NEGATIVES, SUBSAMPLE, threads)
            found.append({"system": "FULL-W2V"} | measured)
    engine = bench.engine(bench.layouts[0], dim)
    bench.train(engine, 1, 1_000_000)  # compiles
    begin = time.perf_counter()
    bench.train(engine, epochs, 1_000_000)
    spent = time.perf_counter() - begin
    rate = epochs * len(bench.text.ids) / spent / 1e6
    return [*found, {"system": "skiplight", "threads": 1, "M raw words/s": rate, "seconds": spent}]


def measure_blocks(bench: Bench) -> list[dict[str, Any]]:
    """Return the loss after the same epochs, by tokens per block and by windows in flight."""
    dim, found = (16 if bench.tiny else 100), []
    standard = bench.engine(bench.layouts[0], dim).own_workers
    settings = [(tokens, standard) for tokens in ((100,) if bench.tiny else (20_000, 200_000, 1_000_000, 8_000_000))]
    settings += [
        (100 if bench.tiny else 1_000_000, programs) for programs in ((2,) if bench.tiny else (64, 2048, 8192))
    ]
    for tokens, programs in settings:
        for kind in bench.layouts:
            losses = bench.train(bench.engine(kind, dim, programs=programs), 1 if bench.tiny else 2, tokens)
            found.append({"layout": kind, "block": tokens, "in flight": programs, "loss": losses[-1]})
    return found


def measure_quality(bench: Bench) -> list[dict[str, Any]]:
    """Return similarity scores and seconds of training after 5 epochs, on the GPU and on the CPU of this machine."""
    found = []
    for seed in range(1 if bench.tiny else 3):
        for kind in (*bench.layouts, "cpu"):
            engine = bench.engine(kind, 16 if bench.tiny else 100, seed)
            begin = time.perf_counter()
            losses = bench.train(engine, 1 if bench.tiny else 5, 1_000_000)
            row = {"engine": kind, "seed": seed, "seconds": time.perf_counter() - begin, "loss": losses[-1]}
            found.append(row | similarities(bench, engine.tables.input.weight.detach().cpu()))
    return found


def measure_again(bench: Bench) -> list[dict[str, Any]]:
    """Return speed and quality of the warps by the bound above which rows are read again for each window."""
    from gpu_ceilings import seconds

    from skiplight.engines import fused_gpu

    if bench.device.type != "cuda":
        return []
    found, standard = [], fused_gpu.AGAIN
    block = next(bench.text.blocks(4_000_000)).to(bench.device)
    for bound in (4.0, 1.0, 0.25, 0.0625):
        fused_gpu.AGAIN = bound
        row: dict[str, Any] = {"read again above": bound}
        for dim in (100, 128):
            engine = bench.engine("warp", dim)
            spent = seconds(lambda e=engine: e.step(block, 0.025, 0.025), bench.device, 5)  # type: ignore[misc]
            kept = int(engine.device_sampler.centres(block).count)
            row[f"M effective words/s, d {dim}"] = kept / spent / 1e6
        scores = []
        for seed in range(3):
            engine = bench.engine("warp", 100, seed)
            loss = {"loss": bench.train(engine, 5, 1_000_000)[-1]}
            scores.append(loss | similarities(bench, engine.tables.input.weight.detach().cpu()))
        found.append(row | {name: sum(score[name] for score in scores) / len(scores) for name in scores[0]})
    fused_gpu.AGAIN = standard
    return found


def measure_softmax(bench: Bench) -> list[dict[str, Any]]:
    """Time loss and gradients of full softmax over the vocabulary, by the sizes of tiles, the product's own first."""
    from skiplight.objectives import full_softmax_triton as kernels

    standard = kernels.BY_INPUTS, kernels.BY_OUTPUTS
    sizes = [(64, 64, 4, 2), (64, 64, 4, 3), (64, 128, 4, 2), (64, 128, 4, 3), (128, 64, 8, 3), (128, 128, 8, 3)]
    found = [{"rows, of the other table, warps, stages": "as used"} | measure_full(bench)]
    for tiles in [] if bench.tiny else map(kernels.Tiles._make, sizes):
        kernels.BY_INPUTS = kernels.BY_OUTPUTS = tiles
        found.append({"rows, of the other table, warps, stages": tuple(tiles)} | measure_full(bench))
    kernels.BY_INPUTS, kernels.BY_OUTPUTS = standard
    found.append({"rows, of the other table, warps, stages": "without a bias"} | measure_full(bench, bias=False))
    for dim, kind in ((256, "bf16"), (128, "tf32")):
        name = {"rows, of the other table, warps, stages": f"d {dim}, {kind}"}
        found.append(name | measure_full(bench, bias=False, dim=dim, kind=kind))
    return found


def measure_full(bench: Bench, bias: bool = True, dim: int = 128, kind: str = "bf16") -> dict[str, float]:
    """Time the present kernels of full softmax; FLOP are those of three products, `kind` what multiplies them."""
    import torch
    from gpu_ceilings import seconds

    from skiplight.objectives.full_softmax_triton import softmax_with_gradients

    dim = 16 if bench.tiny else dim
    dtype = torch.float32 if bench.tiny or kind == "tf32" else torch.bfloat16
    windows = bench.sampler()(next(bench.text.blocks(200_000)))
    inputs, counts = torch.unique(windows.inputs, return_counts=True)
    targets = windows.target[windows.window_of_pair()[torch.argsort(windows.inputs)]].long().to(bench.device)
    words = len(bench.text.counts)
    v, u = (0.3 * torch.randn((rows, dim), device=bench.device).to(dtype) for rows in (len(inputs), words))
    arguments = v, u, torch.zeros(words, device=bench.device) if bias else None, counts.to(bench.device), targets
    work = lambda: softmax_with_gradients(*arguments)  # noqa: E731
    calls = 1 if bench.tiny else 10  # one after the other, as training calls it: launches overlap with kernels
    spent = seconds(lambda: [work() for _ in range(calls)], bench.device, 0 if bench.tiny else 5) / calls
    every = kernel_seconds(bench, work)
    kernels = {name: time for name, time in every.items() if name.startswith("_by_")}
    products, peak = 6 * len(inputs) * words * dim, bench.found["ceilings"][kind]
    return {
        "input words": float(len(inputs)), "pairs": float(len(targets)), "ms": spent * 1e3,
        "of the product rate": products / spent / peak,
        "all kernels": products / sum(every.values()) / peak,
        "the two alone": products / sum(kernels.values()) / peak if kernels else float("nan"),
    } | {f"{name} ms": time * 1e3 for name, time in sorted(kernels.items())}  # fmt: skip


def kernel_seconds(bench: Bench, work: Callable[[], object], calls: int = 5) -> dict[str, float]:
    """Return the seconds on the device of each kernel in one call, by torch's profiler; on a CPU, of each operation."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    on_gpu = bench.device.type == "cuda"
    work()  # compiles
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as profiler:
        for _ in range(calls):
            work()
        if on_gpu:
            torch.cuda.synchronize(bench.device)
    rows = profiler.key_averages()
    return {row.key: (row.device_time_total if on_gpu else row.cpu_time_total) / 1e6 / calls for row in rows}


def measure_sampled(bench: Bench) -> list[dict[str, Any]]:
    """Time sampled softmax with its gradients, by kernels and by tensor operations; FLOP are of three products."""
    return [measure_candidates(bench, negatives) for negatives in ((5,) if bench.tiny else (5, 100))]


def measure_candidates(bench: Bench, negatives: int) -> dict[str, Any]:
    import torch
    from gpu_ceilings import seconds

    from skiplight.objectives.base import Tables
    from skiplight.objectives.sampled_softmax import SampledSoftmax
    from skiplight.sampling.windows import WindowSampler

    dim, subsample = (16, 0) if bench.tiny else (128, SUBSAMPLE)
    sampler = WindowSampler(bench.text.counts, window=WINDOW, negatives=negatives, subsample=subsample, exclude="none")
    windows = sampler(next(bench.text.blocks(100_000)).to(bench.device))
    objective = SampledSoftmax(sampler.noise.probabilities).to(bench.device)
    tables = Tables(len(bench.text.counts), dim).to(bench.device)
    torch.nn.init.normal_(tables.output.weight, std=0.1)

    def step(loss: Callable[..., Any]) -> float:
        tables.zero_grad()
        made = loss(tables, windows).sum
        made.backward()
        return float(made.detach())

    ways = objective.loss_on_chip, objective.loss_by_tensors
    spent = [seconds(lambda way=way: step(way), bench.device, 0 if bench.tiny else 5) for way in ways]  # type: ignore[misc]
    kernels, tensors = (step(way) for way in ways)
    return {
        "K": negatives, "M pairs/s": windows.pairs / spent[0] / 1e6, "times tensor operations": spent[1] / spent[0],
        "TFLOP/s": 3 * 2 * windows.pairs * (negatives + 1) * dim / spent[0] / 1e12,
        "relative difference of the loss": abs(kernels / tensors - 1),
    }  # fmt: skip


def similarities(bench: Bench, table: Any) -> dict[str, float]:
    """Return the scores on the given sets; none if the text has no words."""
    from torch.nn.functional import normalize

    from skiplight.evaluation.similarity import similarity

    if not bench.text.words:
        return {}
    vocabulary = types.new_class("Words")()
    vocabulary.words = bench.text.words
    unit = normalize(table)
    vectors = types.SimpleNamespace(vocabulary=vocabulary, unit=lambda: unit, unit_rows=lambda rows: unit[rows])
    return {Path(path).stem: similarity(vectors, path).score for path in bench.options.sets}  # type: ignore[arg-type]


def measure_input(bench: Bench) -> dict[str, float]:
    """Return words/s from a file to the device; on a CPU, to a copy."""
    from skiplight.data.prefetch import prefetch_blocks

    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "ids.npy"), bench.text.ids)
        mapped = Text(vars(bench.text) | {"ids": np.load(Path(folder, "ids.npy"), mmap_mode="r")})
        rates = []
        for _ in range(2 if bench.tiny else 5):
            begin = time.perf_counter()
            for block in prefetch_blocks(mapped.blocks(1_000_000), bench.device):
                last = block.ids[-1:]
            int(last)  # waits for the last copy
            rates.append(len(mapped.ids) / (time.perf_counter() - begin) / 1e6)
    return {"M words/s": float(np.median(rates))}


def plot(bench: Bench, path: Path) -> None:
    """Plot effective words/s of both layouts by dimension, below the limits of reads and additions (a roofline)."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    limits, rows = bench.found["ceilings"], bench.found["speed"]
    for kind, style in (("warp", "^-"), ("resident", "o-"), ("reloaded", "s-")):
        own = [row for row in rows if row["layout"] == kind]
        axes.plot([r["d"] for r in own], [r["M effective words/s"] for r in own], style, label=kind)
        color = axes.lines[-1].get_color()
        if not own or kind == "resident":  # its limits are those of the warps
            continue
        for share, dashes, what in (("of ceiling", "--", "reads"), ("of their ceiling", ":", "additions")):
            roof = [row["M effective words/s"] / row[share] for row in own]
            axes.plot([r["d"] for r in own], roof, dashes, color=color, label=f"{what} alone, {kind}")
    axes.set(xscale="log", yscale="log", xlabel="dimension", ylabel="M effective words/s")
    smoke = ", smoke test without meaning" if bench.tiny else ""
    axes.set_title(f"{bench.found['device']}: {limits['copy'] / 1e12:.2f} TB/s copied{smoke}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=150)


PARTS: dict[str, Callable[[Bench], Any]] = {
    "ceilings": measure_ceilings,
    "speed": measure_speed,
    "settings": measure_settings,
    "profile": measure_profile,
    "input": measure_input,
    "full softmax": measure_softmax,
    "sampled softmax": measure_sampled,
    "quality": measure_quality,
    "rows read again": measure_again,
    "block size and windows in flight": measure_blocks,
    "rivals": measure_rivals,
    "peers": measure_peers,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", metavar="TEXT")
    parser.add_argument("--text", type=Path)
    parser.add_argument("--sets", nargs="*", default=[])
    parser.add_argument("--full-w2v", metavar="FOLDER", type=Path, help="the source of FULL-W2V, to be built with nvcc")
    parser.add_argument("--output", type=Path, default=Path("benchmarks"))
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--interpret", action="store_true")
    options = parser.parse_args()
    if options.prepare:
        prepare(options.prepare, options.output)
        return
    if options.full_w2v and options.interpret:
        parser.error("--full-w2v runs on a GPU only: leave it out with --interpret")
    if options.interpret:
        os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported
    options.output.mkdir(parents=True, exist_ok=True)
    bench = Bench(options)
    print(bench.name(), "- a smoke test: no figure means anything" if bench.tiny else "")
    for name in options.parts or PARTS:
        work = PARTS[name]
        if work is measure_peers and options.full_w2v is None:
            print(f"{name}: left out, since no `--full-w2v` was given")
            continue
        bench.part(name, lambda work=work: work(bench))  # type: ignore[misc]
    if "speed" in bench.found:
        plot(bench, options.output / "gpu.png")
    if bench.failed:
        raise SystemExit(f"failed: {', '.join(bench.failed)}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
