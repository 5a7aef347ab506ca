"""The words of a run for its page: neighbours, and for the most frequent ones a position on the map and a group."""

from __future__ import annotations

import base64
import warnings
from typing import Any

import numpy as np
import torch

from skiplight.vectors.nearest import nearest_rows
from skiplight.vectors.word_vectors import WordVectors

WORDS = 4000
"""The most words on the map."""

NEAREST = 10
"""Neighbours of each word."""

PAIRS, MORE_PAIRS = 2 * 10**8, 4 * 10**9
"""The most pairs of words that are compared for neighbours: within a second or two, and within half a minute."""

GROUPS = 10
"""The number of groups by k-means, shown as colours."""

SEED = 0
"""The seed of k-means and t-SNE, so that the same vectors make the same map."""


def map_words(vectors: WordVectors, *, thorough: bool) -> dict[str, Any] | None:
    """Return the data of the page's map and neighbours, or None for fewer than three words.

    The neighbours, among all words, are those of the `searched` most frequent words: of all words, where no more than
    `PAIRS` pairs are compared. Words that are only neighbours follow them.

    Args:
        vectors: must be finite.
        thorough: compare up to `MORE_PAIRS` pairs, and lay words out by t-SNE too, which takes some seconds.
    """
    words, counts, unit = vectors.vocabulary.words, vectors.vocabulary.counts, vectors.unit().cpu()
    if len(unit) < 3:
        return None
    shown = unit[:WORDS]
    layouts = {"PCA": project_on_axes(shown)}
    if thorough:
        layouts["t-SNE"] = neighbour_embedding(shown)
    searched = min(len(words), max(WORDS, (MORE_PAIRS if thorough else PAIRS) // len(words)))
    rows, cosines = nearest_rows(unit, searched, min(NEAREST, len(words) - 1))
    beyond, places = np.unique(rows[rows >= searched], return_inverse=True)
    rows[rows >= searched] = searched + places
    kept = [*range(searched), *beyond.tolist()]
    return {
        "words": [words[row] for row in kept],
        "counts": counts[kept].tolist(),
        "searched": searched,
        "vocabulary": len(words),
        "groups": cluster_words(shown).tolist(),
        "layouts": {name: _placed(plane) for name, plane in layouts.items()},
        # In thousandths, as the command shows them.
        "nearest": {
            "rows": _encode(rows, np.uint16 if len(kept) < 2**16 else np.uint32),
            "cosines": _encode(np.rint(1000 * cosines), np.int16),
        },
    }


def project_on_axes(unit: torch.Tensor) -> np.ndarray:
    """Project unit vectors, [n, d], on their two principal axes, float32 [n, 2]."""
    centred = unit - unit.mean(0)
    _, axes = torch.linalg.eigh(centred.T @ centred) if unit.shape[1] <= len(unit) else (None, None)
    if axes is None:  # more dimensions than words
        axes = torch.linalg.svd(centred, full_matrices=False).Vh.T.flip(1)
    plane = torch.zeros(len(unit), 2)
    plane[:, : min(2, axes.shape[1])] = centred @ axes[:, -2:].flip(1)
    return plane.numpy()


def neighbour_embedding(unit: torch.Tensor) -> np.ndarray:
    """Embed unit vectors, [n, d], by t-SNE (van der Maaten and Hinton 2008), float32 [n, 2]."""
    from sklearn.manifold import TSNE

    begin, perplexity = "pca" if unit.shape[1] > 1 else "random", min(30.0, (len(unit) - 1) / 3)
    # Twice as fast as by the defaults, .5 and 1,000: 6.7 s for 4,000 words of the demo text, with as many of the ten
    # nearest neighbours kept near (37 %).
    faster: dict[str, Any] = {"angle": 0.8, "max_iter": 750}
    return TSNE(perplexity=perplexity, init=begin, random_state=SEED, **faster).fit_transform(unit.numpy())


def cluster_words(unit: torch.Tensor) -> np.ndarray:
    """Return the k-means group of each unit vector, [n, d], as int [n]; the largest group is 0."""
    from scipy.cluster.vq import kmeans2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about an empty group
        _, group = kmeans2(unit.numpy(), min(GROUPS, len(unit)), minit="++", seed=SEED)
    order = np.argsort(-np.bincount(group, minlength=GROUPS), kind="stable")
    return np.argsort(order)[group]


def _encode(numbers: np.ndarray, kind: type) -> str:
    """Return the bytes of an array in base64."""
    return base64.b64encode(np.ascontiguousarray(numbers, kind).tobytes()).decode()


def _placed(plane: np.ndarray) -> list[list[float]]:
    """Return x and y in a square of side 1, with one scale and the median in its centre."""
    centred = plane - np.median(plane, axis=0)
    reach = float(np.abs(centred).max()) or 1.0
    return (centred / (2 * reach) + 0.5).round(4).T.tolist()
