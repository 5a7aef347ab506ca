"""Small texts for tests, and the stores and streams made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skiplight.corpus.prepare import prepare
from skiplight.corpus.sources.registry import open_source


def write_texts(folder: Path, *, files: int = 3, documents: int = 12, words: int = 600, seed: int = 0) -> Path:
    """Writes `files` text files of documents, a line each, of Zipf-distributed words; returns a glob for them."""
    rng = np.random.default_rng(seed)
    vocabulary = np.array(["".join(rng.choice(list("abcdefgh"), 5)) for _ in range(200)])
    p = 1 / np.arange(1, 201)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        lengths = rng.integers(0, 2 * words, documents)
        lines = [" ".join(rng.choice(vocabulary, length, p=p / p.sum())) for length in lengths]
        (folder / f"{number}.txt").write_text("\n".join(lines) + "\n")
    return folder / "*.txt"


def prepared(texts: Path, folder: Path, *, streaming: bool = False, min_count: int = 2, heldout: float = 0.1):
    """The token store or stream of `texts`, a document a line."""
    source = open_source("files", path=str(texts), document="line", cache=folder / "cache")
    return prepare(
        source,
        normalise="text8",
        min_count=min_count,
        heldout=heldout,
        stores=folder / "stores",
        streaming=streaming,
    )
