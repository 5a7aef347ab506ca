"""The map's layouts, groups and quantised vectors are those of the vectors."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skiplight.corpus.vocabulary import Vocabulary
from skiplight.report.words import (
    BYTES,
    GROUPS,
    WORDS,
    map_words,
    neighbour_embedding,
    project_on_axes,
    quantise_vectors,
)
from skiplight.vectors.word_vectors import WordVectors


def vectors(n: int, dim: int, seed: int = 0) -> WordVectors:
    """Vectors around ten centres, as trained ones lie in groups."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(10, dim, generator=generator)
    table = centres[torch.arange(n) % 10] + 0.7 * torch.randn(n, dim, generator=generator)
    return WordVectors(Vocabulary([f"w{i}" for i in range(n)], np.arange(n, 0, -1)), table)


@pytest.mark.parametrize("dim", [16, 100, 300])
def test_neighbours_by_quantised_vectors_are_the_exact_ones(dim: int) -> None:
    unit = vectors(2000, dim).unit()
    small = torch.nn.functional.normalize(torch.from_numpy(quantise_vectors(unit)).float(), dim=1)
    exact, ours = unit @ unit.T, small @ small.T
    assert (exact - ours).abs().max() < 0.02
    nearest = [(scores - 2 * torch.eye(len(unit))).topk(10).indices.tolist() for scores in (exact, ours)]
    shared = [len(set(a) & set(b)) for a, b in zip(*nearest, strict=True)]
    assert np.mean(shared) > 9.5


@given(st.integers(2, 40), st.integers(1, 40), st.integers(0, 100))
def test_principal_axes_hold_the_variance_that_no_two_others_exceed(n: int, dim: int, seed: int) -> None:
    unit = vectors(n, dim, seed).unit()
    variances = torch.linalg.svdvals(unit - unit.mean(0))[:2].square()
    plane = project_on_axes(unit)
    assert plane.shape == (n, 2)
    assert np.square(plane).sum(0)[: len(variances)] == pytest.approx(variances.numpy(), abs=1e-4)


def test_what_a_map_holds() -> None:
    of = vectors(300, 20)
    found = map_words(of, tsne=True)
    assert found is not None
    assert found["words"] == of.vocabulary.words
    assert set(found["groups"]) == set(range(GROUPS))
    for plane in found["layouts"].values():
        assert np.shape(plane) == (2, 300)
        assert 0 <= np.min(plane) < np.max(plane) <= 1
    assert len(base64.b64decode(found["vectors"]["int8"])) == 300 * 20
    assert found == map_words(of, tsne=True)


def test_tsne_puts_a_group_together() -> None:
    plane = neighbour_embedding(vectors(300, 20).unit())
    group = np.arange(300) % 10
    distances = np.square(plane[:, None] - plane[None]).sum(-1) + np.diag(np.full(300, np.inf))
    assert np.mean(group[distances.argmin(1)] == group) > 0.9


@pytest.mark.parametrize(("n", "dim", "shown"), [(WORDS + 10, 4, WORDS), (3, 1, 3), (5, BYTES // 4, 4), (2, 8, None)])
def test_how_many_words_are_shown(n: int, dim: int, shown: int | None) -> None:
    found = map_words(vectors(n, dim), tsne=False)
    assert (found and len(found["words"])) == shown
