"""From a pandas frame of sessions to item vectors and recommendations, compared with recommending popular items.

    python scripts/examples/items.py

The shop is synthetic: 600 items in 30 departments, with Zipf-distributed popularity. A session stays in one department,
except for an occasional item of another. The last item of every session is hidden, vectors are trained on the others,
and the ten items nearest to the mean of a session are recommended. The hit rate at 10 is the share of sessions whose
hidden item is among them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import skiplight

ITEMS, DEPARTMENTS, SESSIONS = 600, 30, 8_000


def make_sessions(seed: int = 0) -> pd.DataFrame:
    """Return a frame of sessions with one row per click: session, item."""
    rng = np.random.default_rng(seed)
    popularity = 1 / np.arange(1, ITEMS + 1) ** 0.8
    department = rng.integers(0, DEPARTMENTS, ITEMS)
    members = [np.flatnonzero(department == d) for d in range(DEPARTMENTS)]
    rows = []
    for session in range(SESSIONS):
        shelf = members[rng.integers(DEPARTMENTS)]
        weights = popularity[shelf] / popularity[shelf].sum()
        for _ in range(rng.integers(4, 12)):
            stray = rng.random() < 0.1
            item = rng.choice(ITEMS, p=popularity / popularity.sum()) if stray else rng.choice(shelf, p=weights)
            rows.append((session, f"item-{item}"))
    return pd.DataFrame(rows, columns=["session", "item"])


def hit_rates(sessions: pd.Series, vectors: skiplight.WordVectors, k: int = 10) -> tuple[float, float]:
    """Return the share of sessions whose last item is among k recommendations, by vectors and by popularity."""
    vocabulary, unit = vectors.vocabulary, vectors.unit()
    by_vectors = by_popularity = asked = 0
    for items in sessions:
        seen = [row for row in (vocabulary.get(item) for item in items[:-1]) if row is not None]
        hidden = vocabulary.get(items[-1])
        if not seen or hidden is None or hidden in seen:
            continue
        asked += 1
        scores = unit @ unit[seen].mean(0)
        scores[seen] = -torch.inf
        by_vectors += hidden in scores.topk(k).indices
        by_popularity += hidden in [row for row in range(len(vocabulary)) if row not in seen][:k]  # ids: by count
    return by_vectors / asked, by_popularity / asked


def main(options: list[str]) -> tuple[float, float]:
    """Train and print both hit rates; `options` are overrides as for `skiplight train`."""
    clicks = make_sessions()
    sessions = clicks.groupby("session")["item"].agg(list)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sessions.parquet"
        sessions.map(lambda items: items[:-1]).rename("items").to_frame().to_parquet(path)
        run = skiplight.train(
            "data=sequences", f"data.path={path}", "data.column=items", f"data.store={folder}/stores",
            # Sessions are short and unordered: wide windows, and frequent items count like any other.
            "sampling.window=10", "sampling.subsample=0", "noise.exponent=0.5", "vocabulary.min_count=3",
            "model.dim=32", "trainer.max_epochs=10",
            "data.heldout=0", "evaluation.similarity=[]", "logger=none", *options, run_dir=f"{folder}/run",
        )  # fmt: skip
        vectors = run.vectors
    ours, popular = hit_rates(sessions, vectors)
    print(f"hit rate at 10: {ours:.3f} by item vectors, {popular:.3f} by popularity")
    return ours, popular


if __name__ == "__main__":
    main(sys.argv[1:])
