"""The most frequent words of a run for its map: where each lies in the plane, its group, and its vector in a byte a
number, small enough to travel in a page."""

from __future__ import annotations

import base64
import warnings
from typing import Any

import numpy as np
import torch

from skiplight.vectors.word_vectors import WordVectors

WORDS = 4000
"""So many words are on the map, if there are as many."""

BYTES = 4_000_000
"""Their vectors take no more than this; of longer vectors there are fewer."""

GROUPS = 10
"""Colours of the map: groups of words by k-means."""

SEED = 0
"""Of k-means and t-SNE: the same vectors make the same map."""


def map_words(vectors: WordVectors, *, tsne: bool) -> dict[str, Any] | None:
    """What the page's map and neighbours are made of; None where fewer than three words could be shown.

    Args:
        vectors: of a run, finite.
        tsne: whether to lay the words out by t-SNE as well, which takes seconds.
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
    """The words along their two principal axes, float32 [n, 2].

    Args:
        unit: unit vectors [n, d].
    """
    centred = unit - unit.mean(0)
    _, axes = torch.linalg.eigh(centred.T @ centred) if unit.shape[1] <= len(unit) else (None, None)
    if axes is None:  # longer vectors than there are words
        axes = torch.linalg.svd(centred, full_matrices=False).Vh.T.flip(1)
    plane = torch.zeros(len(unit), 2)
    plane[:, : min(2, axes.shape[1])] = centred @ axes[:, -2:].flip(1)
    return plane.numpy()


def neighbour_embedding(unit: torch.Tensor) -> np.ndarray:
    """The words by t-SNE (van der Maaten and Hinton 2008), which keeps near words near, float32 [n, 2].

    Args:
        unit: unit vectors [n, d].
    """
    from sklearn.manifold import TSNE

    begin = "pca" if unit.shape[1] > 1 else "random"
    return TSNE(perplexity=min(30.0, (len(unit) - 1) / 3), init=begin, random_state=SEED).fit_transform(unit.numpy())


def cluster_words(unit: torch.Tensor) -> np.ndarray:
    """The group of each word by k-means, int [n]; the largest group is 0.

    Args:
        unit: unit vectors [n, d].
    """
    from scipy.cluster.vq import kmeans2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a group that has lost its last word
        _, found = kmeans2(unit.numpy(), min(GROUPS, len(unit)), minit="++", seed=SEED)
    order = np.argsort(-np.bincount(found, minlength=GROUPS), kind="stable")
    return np.argsort(order)[found]


def quantise_vectors(unit: torch.Tensor) -> np.ndarray:
    """Vectors in a byte a number, int8 [n, d], each scaled so that its largest number is ±127: cosines need no scale.

    >>> quantise_vectors(torch.tensor([[0.6, -0.8], [0.0, 0.0]])).tolist()
    [[95, -127], [0, 0]]
    """
    largest = unit.abs().amax(1, keepdim=True)
    return (unit * (127 / torch.where(largest > 0, largest, 1.0))).round().to(torch.int8).numpy()


def _placed(plane: np.ndarray) -> list[list[float]]:
    """x and y in a square of side 1, of one scale, the middle half of the words in its middle."""
    centred = plane - np.median(plane, axis=0)
    reach = float(np.abs(centred).max()) or 1.0
    return (centred / (2 * reach) + 0.5).round(4).T.tolist()
