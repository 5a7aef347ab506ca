"""Compare the speeds of all objectives under the fused CPU engine, and hierarchical softmax with gensim's.

    python scripts/benchmarks/objectives.py TEXT [--column text] [--turns 5] [--threads N] [--dim 100] [--negatives 5]
                                                 [--gensim] [--epochs 5] [--lr 0.025]

TEXT is a value of `data.path`. The objectives take turns, a training of one epoch each in a process of its own; the
output has the median words per second of each, and the median of its ratios to negative sampling in the same turn.
With `--gensim`, skiplight and gensim's `hs=1` then train hierarchical softmax with the same settings for `--epochs`,
and the scores of both follow.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

OBJECTIVES = {
    "negative_sampling": [],
    "nce": ["objective=nce"],
    "sampled_softmax": ["objective=sampled_softmax"],
    "sampled_softmax, hits removed": ["objective=sampled_softmax", "noise.exclude=target"],
    "hierarchical_softmax": ["objective=hierarchical_softmax"],
    "negative_sampling, Adagrad": ["optim.name=adagrad"],
}
HIERARCHICAL = "hierarchical_softmax"


def train_skiplight(
    options: argparse.Namespace, name: str, folder: Path, epochs: int = 1, evaluation: str = "none"
) -> dict[str, Any]:
    """Train by the command line, and return the run's summary; the store stays in the folder for other runs."""
    run = Path(tempfile.mkdtemp(dir=folder)) / "run"
    command = [
        sys.executable, "-m", "skiplight.cli", "train", "data=files", f"data.path='{options.text}'",
        f"data.column={options.column}", f"data.store={folder / 'stores'}", "data.heldout=0", "engine=fused",
        f"model.dim={options.dim}", f"noise.negatives={options.negatives}", f"trainer.threads={options.threads}",
        "sampling.subsample=1e-4", f"optim.lr={options.lr}", f"trainer.max_epochs={epochs}", "trainer.accelerator=cpu",
        "logger=none", f"run_dir={run}", f"evaluation={evaluation}", *OBJECTIVES[name],
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    summary: dict[str, Any] = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return summary


def train_gensim(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train gensim's hierarchical softmax by the benchmark `cpu.py`, and return its words per second and scores."""
    import torch
    from cpu import scores, write_lines  # type: ignore[import-not-found]  # a script of this folder
    from gensim.models import Word2Vec

    from skiplight.corpus.vocabulary import Vocabulary
    from skiplight.vectors.word_vectors import WordVectors

    given = argparse.Namespace(
        path=options.text, column=options.column, similarity=["wordsim353", "simlex999"], analogy=["google"]
    )
    lines = write_lines(given, folder / "lines.txt")
    model = Word2Vec(
        vector_size=options.dim, window=5, min_count=5, sg=1, hs=1, negative=0, sample=1e-4, workers=options.threads,
        alpha=options.lr, min_alpha=options.lr * 1e-4, seed=1,
    )  # fmt: skip
    model.build_vocab(corpus_file=str(lines))
    model.train(
        corpus_file=str(lines), total_examples=model.corpus_count, total_words=model.corpus_total_words,
        epochs=options.epochs,
    )  # fmt: skip
    counts = [model.wv.get_vecattr(word, "count") for word in model.wv.index_to_key]
    vectors = WordVectors(Vocabulary(model.wv.index_to_key, counts), torch.from_numpy(model.wv.vectors))
    return {"words_per_second": sum(counts) * options.epochs / model.total_train_time, **scores(vectors, given)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("--column", default="text")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--dim", type=int, default=100)
    parser.add_argument("--negatives", type=int, default=5)
    parser.add_argument("--gensim", action="store_true")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--lr", type=float, default=0.025)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        speeds: dict[str, list[float]] = {objective: [] for objective in OBJECTIVES}
        for _ in range(options.turns):
            for objective, measured in speeds.items():
                measured.append(train_skiplight(options, objective, folder)["words_per_second"])
        plain = speeds["negative_sampling"]
        for objective, measured in speeds.items():
            share = statistics.median(one / other for one, other in zip(measured, plain, strict=True))
            median = statistics.median(measured)
            print(json.dumps({"objective": objective, "words_per_second": round(median), "share": round(share, 3)}))
        if options.gensim:
            summary = train_skiplight(options, HIERARCHICAL, folder, options.epochs, "full")
            print(json.dumps({"skiplight": {key: summary[key] for key in ("words_per_second", "evaluation")}}))
            print(json.dumps({"gensim": train_gensim(options, folder)}))


if __name__ == "__main__":
    main()
