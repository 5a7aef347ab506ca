"""Compare skiplight's fused CPU engine with gensim and fastText: speed, quality and memory on the same text.

    python scripts/benchmarks/cpu.py PATH [--systems skiplight gensim fasttext] [--dims 100 300] [--seeds 0 1 2]
                                          [--epochs 5] [--more-epochs 20] [--output FOLDER] [--scaling]
                                          [--similarity wordsim353 simlex999 men.txt] [--engine autograd]

PATH is any value of `data.path`. All systems train on the same words (text8's normalisation): gensim from a line file
by `corpus_file`, its fastest way, and fastText (`pip install fasttext-numpy2`) from the same file without n-grams.
Every run is a separate process, since peak memory is that of a process. The systems take turns, so that a busy machine
affects all of them. Runs whose results are in FOLDER are not repeated. For a short try, give one small file and
`--epochs 1 --seeds 0 --dims 100`.

- x gensim is the ratio of words/s to gensim's in the same turn: the median of all turns, the smallest and the largest.
  Below the table stands how much of the machine other processes used meanwhile.
- gensim's workers each lower the learning rate by their own part of the file, so that after one epoch with two workers
  it has fallen only to half. For one epoch `min_alpha` is set so that it falls to zero, as skiplight's; over several
  epochs gensim's falls in steps, and is left as it is.
- raw words/s counts in-vocabulary tokens before subsampling, during the training only; effective words/s counts the
  tokens after it.
- end to end is from raw text to vectors, with compiled kernels. For gensim it includes writing the line file (by
  skiplight's normaliser, faster than a loop in Python); `prepared` does not. fastText counts and trains in one call, so
  its seconds of training include both.
- `--more-epochs` also trains skiplight longer, to show its quality in gensim's time.
- `--scaling` varies dimension, K, window and threads instead, one at a time, without evaluation.

Writes cpu.json, a row per run, and cpu.png, the mean score against seconds of training, a curve per system, to FOLDER.
With `--engine autograd`, skiplight trains by that engine, with its own default step size.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SETTINGS = {"dim": 100, "negatives": 5, "window": 5, "threads": len(os.sched_getaffinity(0)), "subsample": 1e-4}
SCALING = {
    "dim": [50, 100, 200, 300, 600],
    "negatives": [1, 5, 10, 20, 50],
    "window": [2, 5, 10, 20],
    "threads": sorted({1, 2, SETTINGS["threads"] // 2 or 1, SETTINGS["threads"]}),
}


def skiplight(run: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train from raw text through a new store, and evaluate."""
    from skiplight.config.validate import from_mapping
    from skiplight.training.fit import train
    from skiplight.vectors.word_vectors import WordVectors

    if run.engine == "fused":
        compile_kernel(run)
    config = {
        "data": {
            "source": "files", "path": run.path, "column": run.column, "heldout": 0.0, "store": str(folder / "stores")
        },
        "vocabulary": {"min_count": 5},
        "sampling": {"window": run.window, "subsample": run.subsample},
        "noise": {"negatives": run.negatives},
        "model": {"dim": run.dim},
        "engine": {"name": run.engine},
        "optim": {"lr": run.lr},
        "trainer": {"max_epochs": run.epochs, "accelerator": "cpu", "threads": run.threads},
        "evaluation": {"similarity": [], "analogy": []},
        "checkpoint": {"every": 1e6},
        "logger": {},
        "seed": run.seed,
    }  # fmt: skip
    summary = train(from_mapping(config), folder / "run")
    seconds = summary["seconds"]
    result = {key: summary[key] for key in ("words_per_second", "effective_words_per_second", "pairs_per_second")}
    result |= {"tokens": summary["tokens"] // run.epochs, "train": seconds["train"], "peak": peak()}
    result["end_to_end"] = seconds["total"] - seconds["evaluate"]
    return result | {"scores": scores(WordVectors.load(folder / "run"), run)}


def compile_kernel(run: argparse.Namespace) -> None:
    """Compile the kernel, unless it is cached."""
    import numpy as np
    import torch

    from skiplight.engines.fused_cpu import FusedCpuEngine
    from skiplight.objectives.base import Tables
    from skiplight.objectives.negative_sampling import NegativeSampling
    from skiplight.sampling.windows import WindowSampler

    tables, sampler = Tables(2, run.dim), WindowSampler(np.array([1, 1]), negatives=run.negatives)
    objective = NegativeSampling(sampler.noise.probabilities)
    FusedCpuEngine(objective, tables, torch.optim.SGD(tables.parameters(), lr=1), sampler)


def gensim(run: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write the line file, train on it, and evaluate."""
    import torch
    from gensim.models import Word2Vec

    from skiplight.corpus.vocabulary import Vocabulary
    from skiplight.vectors.word_vectors import WordVectors

    begin = time.perf_counter()
    lines = write_lines(run, folder / "lines.txt")
    prepared = time.perf_counter()
    least = run.lr * (1 - run.threads) if run.epochs == 1 else run.lr * 1e-4
    model = Word2Vec(
        vector_size=run.dim, window=run.window, min_count=5, sg=1, negative=run.negatives, sample=run.subsample,
        workers=run.threads, alpha=run.lr, min_alpha=least, seed=run.seed + 1,
    )  # fmt: skip
    model.build_vocab(corpus_file=str(lines))
    ready = time.perf_counter()
    effective, _ = model.train(
        corpus_file=str(lines), total_examples=model.corpus_count, total_words=model.corpus_total_words,
        epochs=run.epochs,
    )  # fmt: skip
    end = time.perf_counter()
    vectors = model.wv
    counts = [vectors.get_vecattr(word, "count") for word in vectors.index_to_key]
    tokens = int(sum(counts))
    result = {
        "words_per_second": tokens * run.epochs / (end - ready),
        "effective_words_per_second": effective / (end - ready),
        "tokens": tokens,
        "train": end - ready,
        "end_to_end": end - begin,
        "prepared": end - prepared,
        "peak": peak(),
    }
    theirs = WordVectors(Vocabulary(vectors.index_to_key, counts), torch.from_numpy(vectors.vectors))
    return result | {"scores": scores(theirs, run)}


def fasttext(run: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write the line file, train on it without n-grams, and evaluate; fastText's noise exponent is always 0.5."""
    import torch
    from fasttext import train_unsupervised

    from skiplight.corpus.vocabulary import Vocabulary
    from skiplight.vectors.word_vectors import WordVectors

    begin = time.perf_counter()
    lines = write_lines(run, folder / "lines.txt")
    prepared = time.perf_counter()
    model = train_unsupervised(
        str(lines), model="skipgram", dim=run.dim, ws=run.window, minCount=5, neg=run.negatives, t=run.subsample,
        thread=run.threads, lr=run.lr, epoch=run.epochs, maxn=0, minn=0, bucket=0, verbose=0,
    )  # fmt: skip
    end = time.perf_counter()
    words, counts = model.get_words(include_freq=True)
    keep = [i for i, word in enumerate(words) if word != "</s>"]  # its mark for the end of a line
    result = {
        "words_per_second": int(counts[keep].sum()) * run.epochs / (end - prepared),
        "tokens": int(counts[keep].sum()),
        "train": end - prepared,
        "end_to_end": end - begin,
        "prepared": end - prepared,
        "peak": peak(),
    }
    order = sorted(keep, key=lambda i: -counts[i])
    vectors = torch.from_numpy(model.get_input_matrix()[order].copy())
    theirs = WordVectors(Vocabulary([words[i] for i in order], [int(counts[i]) for i in order]), vectors)
    return result | {"scores": scores(theirs, run)}


SYSTEMS = {"skiplight": skiplight, "gensim": gensim, "fasttext": fasttext}


def write_lines(run: argparse.Namespace, path: Path, longest: int = 10_000) -> Path:
    """Write the text for gensim: words separated by spaces, at most 10,000 per line, since it drops all others."""
    from skiplight.corpus.sources.registry import open_source
    from skiplight.corpus.text.normalise import split_tokens

    source = open_source("files", path=run.path, column=run.column, cache=path.parent)
    with path.open("w", encoding="utf-8") as file:
        for documents in source.documents():
            words, lengths = split_tokens(documents.texts, "text8")
            place = 0
            for length in lengths.tolist():
                for begin in range(place, place + length, longest):
                    size = min(longest, place + length - begin)
                    file.write(" ".join(words.slice(begin, size).to_pylist()) + "\n")
                place += length
    return path


def scores(vectors: Any, run: argparse.Namespace) -> dict[str, float]:
    """Return the scores on all sets, by skiplight's evaluation for all systems."""
    from skiplight.evaluation.suite import evaluate

    results = evaluate(vectors, run.similarity, run.analogy)
    return {name: result["score"] for name, result in results.items() if "score" in result}


def peak() -> int:
    """Return the peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def runs(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the settings of all runs: dimensions, seeds and numbers of epochs, with the systems in turn."""
    for dim in options.dims:
        for seed in options.seeds:
            for epochs in [*options.epochs, *options.more_epochs]:
                systems = options.systems if epochs in options.epochs else ["skiplight"]
                yield from ({"system": name, "dim": dim, "seed": seed, "epochs": epochs} for name in systems)


def scaling_runs(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield settings that vary one at a time over its range, with the others unchanged."""
    for name, values in SCALING.items():
        for value in values:
            varied = {name: value, "seed": options.seeds[0], "epochs": options.epochs[0]}
            for system in options.systems:
                yield varied | {"system": system, "varied": name, "similarity": [], "analogy": []}


def run_apart(options: argparse.Namespace, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the results of one run in its own process."""
    settings = vars(options) | settings
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, options.path, "--run", json.dumps(settings), "--folder", folder]
        before, begin = busy_seconds(), time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        others = (busy_seconds() - before) / (time.perf_counter() - begin)
    return key(settings) | {"others": others} | json.loads(done.stdout.splitlines()[-1])


def busy_seconds() -> float:
    """Return the CPU seconds that processes other than this one and its ended children have used since the start."""
    user, nice, system, _, _, interrupts, soft = map(int, Path("/proc/stat").read_text().split()[1:8])
    own = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK") - own


def key(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the name that identifies a run."""
    return {name: settings.get(name) for name in ("system", "engine", "seed", "epochs", "lr", "varied", *SETTINGS)}


def show(rows: list[dict[str, Any]]) -> None:
    """Return a row per setting and system: median speed and mean scores over the seeds, and each score."""
    from rich.console import Console
    from rich.table import Table

    names = list(dict.fromkeys(name for row in rows for name in row["scores"]))
    heads = ["system", "d", "K", "W", "threads", "epochs", "M raw words/s", "x gensim", "M effective", "M pairs/s"]
    table = Table(*heads, "train s", "end to end s", "prepared s", "peak MB", *names)
    kinds: dict[tuple, list[dict[str, Any]]] = {}
    for row in rows:
        setting = tuple(row[name] for name in ("dim", "negatives", "window", "threads", "epochs"))
        kinds.setdefault((*setting, row["system"]), []).append(row)
    for (*setting, system), group in kinds.items():

        def median(name: str, unit: float = 1.0, digits: int = 2, group: list[dict[str, Any]] = group) -> str:
            values = [row[name] for row in group if name in row]
            return f"{statistics.median(values) / unit:.{digits}f}" if values else ""

        peers = {row["seed"]: row["words_per_second"] for row in kinds.get((*setting, "gensim"), [])}
        ratios = [row["words_per_second"] / peers[row["seed"]] for row in group if row["seed"] in peers]
        ratio = f"{statistics.median(ratios):.1f}\n{min(ratios):.1f} to {max(ratios):.1f}" if ratios else ""
        quality = [", ".join(f"{row['scores'][name]:.3f}" for row in group if row["scores"]) for name in names]
        if len(group) > 1:
            quality = [
                f"{statistics.mean(row['scores'][name] for row in group):.4f}\n{each}" if each else ""
                for name, each in zip(names, quality, strict=True)
            ]
        table.add_row(
            system, *map(str, setting), median("words_per_second", 1e6), "" if system == "gensim" else ratio,
            median("effective_words_per_second", 1e6), median("pairs_per_second", 1e6, 1), median("train", 1, 1),
            median("end_to_end", 1, 1), median("prepared", 1, 1), median("peak", 1e6, 0), *quality,
        )  # fmt: skip
    Console(width=220 if len(names) else 150).print(table)
    if others := [row["others"] for row in rows if "others" in row]:
        print(f"other processes used {statistics.median(others):.2f} cores (median), at most {max(others):.2f}")


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot the mean score over all sets against seconds of training, a curve per system and dimension."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for dim in sorted({row["dim"] for row in rows}):
        for system, style in (("skiplight", "o-"), ("gensim", "s--"), ("fasttext", "^:")):
            points = []
            for epochs in sorted({row["epochs"] for row in rows}):
                group = [r for r in rows if (r["system"], r["dim"], r["epochs"]) == (system, dim, epochs)]
                if group:
                    score = statistics.mean(statistics.mean(row["scores"].values()) for row in group)
                    points.append((statistics.median(row["train"] for row in group), score))
            if points:
                axes.plot(*zip(*points, strict=True), style, label=f"{system}, d = {dim}")
    axes.set(xscale="log", xlabel="seconds of training", ylabel="mean score of all sets")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("--column", default="text")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=["skiplight", "gensim"])
    parser.add_argument("--engine", choices=["fused", "autograd"], default="fused")
    parser.add_argument("--dims", type=int, nargs="+", default=[100, 300])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, nargs="+", default=[5])
    parser.add_argument("--more-epochs", type=int, nargs="*", default=[])
    parser.add_argument("--lr", type=float, default=0.025)
    for name, default in SETTINGS.items():
        if name != "dim":
            parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--similarity", nargs="*", default=["wordsim353", "simlex999"])
    parser.add_argument("--analogy", nargs="*", default=["google"])
    parser.add_argument("--output", type=Path, default=Path("benchmarks"))
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run = argparse.Namespace(**json.loads(options.run))
        print(json.dumps(SYSTEMS[run.system](run, options.folder)))
        return

    output = options.output
    output.mkdir(parents=True, exist_ok=True)
    del options.run, options.folder, options.output
    options.dim = options.dims[0]
    file = output / "cpu.json"
    rows = json.loads(file.read_text()) if file.exists() else []
    for settings in (scaling_runs if options.scaling else runs)(options):
        if all(key(row) != key(vars(options) | settings) for row in rows):
            rows.append(run_apart(options, settings))
            file.write_text(json.dumps(rows, indent=1))
    rows = [row for row in rows if bool(row["varied"]) == options.scaling]
    show(rows)
    if not options.scaling and any(row["scores"] for row in rows):
        plot([row for row in rows if row["scores"]], output / "cpu.png")


if __name__ == "__main__":
    main()
