"""Sequences with a known structure: sessions in a synthetic shop, to study the effect of options on item vectors.

600 items of Zipf-distributed popularity are in 30 departments. The items of a session are of one department, except for
a tenth of them, which are of any. The last item of each session is hidden: it is not in the text, and the hit rate
measures whether it is predicted.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skiplight.files import replacing

ITEMS, DEPARTMENTS, SESSIONS, STRAY = 600, 30, 8_000, 0.1
CREDIT = f"{SESSIONS:,} made-up sessions over {ITEMS} items in {DEPARTMENTS} departments"
TEXT, ASKED = "planted.txt", "planted-asked.txt"


def write_synthetic_sessions(cache: Path) -> tuple[Path, Path]:
    """Return the files of the sessions without their last items, and of the whole sessions, a line per session.

    Args:
        cache: the folder of the files, which are written where they do not exist.
    """
    text, asked = cache / TEXT, cache / ASKED
    if not (text.exists() and asked.exists()):
        sessions = [[f"item-{item}" for item in session] for session in make_sessions()]
        for path, lines in ((asked, sessions), (text, [session[:-1] for session in sessions])):
            with replacing(path) as temporary:
                temporary.write_text("".join(f"{' '.join(line)}\n" for line in lines), encoding="utf-8")
    return text, asked


def make_sessions(seed: int = 0) -> list[list[int]]:
    """Return the numbers of the items of each session, 4 to 11 per session; item 0 is the most popular."""
    rng = np.random.default_rng(seed)
    popularity = 1 / np.arange(1, ITEMS + 1) ** 0.8
    everywhere = np.cumsum(popularity / popularity.sum())
    department = rng.integers(0, DEPARTMENTS, ITEMS)
    shelves = [np.flatnonzero(department == number) for number in range(DEPARTMENTS)]
    shares = [np.cumsum(popularity[shelf] / popularity[shelf].sum()) for shelf in shelves]
    sessions = []
    for _ in range(SESSIONS):
        here, length = rng.integers(DEPARTMENTS), rng.integers(4, 12)
        # By rounding, the last sum may be below 1.
        on_shelf = np.minimum(np.searchsorted(shares[here], rng.random(length)), len(shelves[here]) - 1)
        anywhere = np.minimum(np.searchsorted(everywhere, rng.random(length)), ITEMS - 1)
        stray = rng.random(length) < STRAY
        sessions.append(np.where(stray, anywhere, shelves[here][on_shelf]).tolist())
    return sessions
