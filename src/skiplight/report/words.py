"""The most frequent words of a run for its map: position in the plane, group, and vector, with one byte per number."""

from __future__ import annotations

import base64
import warnings
from typing import Any

import numpy as np
import torch

from skiplight.vectors.word_vectors import WordVectors

WORDS = 4000
"""The most words on the map."""

BYTES = 4_000_000
"""The most bytes of their vectors; longer vectors mean fewer words."""

GROUPS = 10
"""The number of groups by k-means, shown as colours."""

SEED = 0
"""The seed of k-means and t-SNE, so that the same vectors make the same map."""


def map_words(vectors: WordVectors, *, tsne: bool) -> dict[str, Any] | None:
    """Return the data of the page's map and neighbours, or None for fewer than three words.

    The vectors must be finite. A layout by t-SNE takes some seconds.
    """
    unit = torch.nn.functional.normalize(vectors.input[: min(WORDS, BYTES // vectors.dim)].cpu(), dim=1)
    if len(unit) < 3:
        return None
    layouts = {"PCA": project_on_axes(unit)}
    if tsne:
        layouts["t-SNE"] = neighbour_embedding(unit)
    return {
        "words": vectors.vocabulary.words[: len(unit)],
        "counts": vectors.vocabulary.counts[: len(unit)].tolist(),
        "groups": cluster_words(unit).tolist(),
        "layouts": {name: _placed(plane) for name, plane in layouts.items()},
        "vectors": {"dim": vectors.dim, "int8": base64.b64encode(quantise_vectors(unit).tobytes()).decode()},
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

    begin = "pca" if unit.shape[1] > 1 else "random"
    return TSNE(perplexity=min(30.0, (len(unit) - 1) / 3), init=begin, random_state=SEED).fit_transform(unit.numpy())


def cluster_words(unit: torch.Tensor) -> np.ndarray:
    """Return the k-means group of each unit vector, [n, d], as int [n]; the largest group is 0."""
    from scipy.cluster.vq import kmeans2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about an empty group
        _, group = kmeans2(unit.numpy(), min(GROUPS, len(unit)), minit="++", seed=SEED)
    order = np.argsort(-np.bincount(group, minlength=GROUPS), kind="stable")
    return np.argsort(order)[group]


def quantise_vectors(unit: torch.Tensor) -> np.ndarray:
    """Quantise vectors to int8 [n, d], each scaled to a largest number of ±127, which leaves cosines unchanged.

    >>> quantise_vectors(torch.tensor([[0.6, -0.8], [0.0, 0.0]])).tolist()
    [[95, -127], [0, 0]]
    """
    largest = unit.abs().amax(1, keepdim=True)
    return (unit * (127 / torch.where(largest > 0, largest, 1.0))).round().to(torch.int8).numpy()


def _placed(plane: np.ndarray) -> list[list[float]]:
    """Return x and y in a square of side 1, with one scale and the median in its centre."""
    centred = plane - np.median(plane, axis=0)
    reach = float(np.abs(centred).max()) or 1.0
    return (centred / (2 * reach) + 0.5).round(4).T.tolist()
