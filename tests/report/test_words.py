"""The map's layouts and groups, and the neighbours of all words, are those of the vectors."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skiplight.corpus.vocabulary import Vocabulary
from skiplight.evaluation.neighbors import neighbors
from skiplight.report import words
from skiplight.report.words import GROUPS, WORDS, map_words, neighbour_embedding, project_on_axes
from skiplight.vectors.word_vectors import WordVectors


def vectors(n: int, dim: int, seed: int = 0) -> WordVectors:
    """Vectors around ten centres, as trained ones lie in groups."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(10, dim, generator=generator)
    table = centres[torch.arange(n) % 10] + 0.7 * torch.randn(n, dim, generator=generator)
    return WordVectors(Vocabulary([f"w{i}" for i in range(n)], np.arange(n, 0, -1)), table)


def neighbours(found: dict[str, Any]) -> list[list[tuple[str, float]]]:
    """The words and cosines of each word that is searched, as the page reads them."""
    nearest = {name: base64.b64decode(text) for name, text in found["nearest"].items()}
    kind = np.uint16 if len(found["words"]) < 2**16 else np.uint32
    rows = np.frombuffer(nearest["rows"], kind).reshape(found["searched"], -1)
    cosines = np.frombuffer(nearest["cosines"], np.int16).reshape(rows.shape) / 1000
    return [
        [(found["words"][row], cosine) for row, cosine in zip(*one, strict=True)]
        for one in zip(rows, cosines.tolist(), strict=True)
    ]


@pytest.mark.parametrize("pairs", [10**9, 1])
def test_neighbours_are_those_of_the_command(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where only the most frequent words are searched, whose neighbours may be other words."""
    monkeypatch.setattr(words, "PAIRS", pairs)
    monkeypatch.setattr(words, "WORDS", 100)
    of = vectors(700, 30)
    found = map_words(of, thorough=False)
    assert found is not None
    assert found["searched"] == (700 if pairs > 1 else 100)
    assert found["vocabulary"] == 700
    assert found["words"][: found["searched"]] == of.vocabulary.words[: found["searched"]]
    assert found["counts"] == [of.vocabulary.counts[of.vocabulary.get(word)] for word in found["words"]]
    for word, near in zip(found["words"], neighbours(found), strict=False):
        exact = neighbors(of, word)
        assert [other for other, _ in near] == [other for other, _ in exact]
        assert [cosine for _, cosine in near] == pytest.approx([cosine for _, cosine in exact], abs=0.0005001)


def test_many_words_have_larger_numbers() -> None:
    found = map_words(vectors(66_000, 2), thorough=False)
    assert found is not None
    assert found["searched"] == WORDS
    assert {len(near) for near in neighbours(found)} == {10}


@given(st.integers(2, 40), st.integers(1, 40), st.integers(0, 100))
def test_principal_axes_hold_the_variance_that_no_two_others_exceed(n: int, dim: int, seed: int) -> None:
    unit = vectors(n, dim, seed).unit()
    variances = torch.linalg.svdvals(unit - unit.mean(0))[:2].square()
    plane = project_on_axes(unit)
    assert plane.shape == (n, 2)
    assert np.square(plane).sum(0)[: len(variances)] == pytest.approx(variances.numpy(), abs=1e-4)


def test_what_a_map_holds() -> None:
    of = vectors(300, 20)
    found = map_words(of, thorough=True)
    assert found is not None
    assert found["words"] == of.vocabulary.words
    assert set(found["groups"]) == set(range(GROUPS))
    for plane in found["layouts"].values():
        assert np.shape(plane) == (2, 300)
        assert 0 <= np.min(plane) < np.max(plane) <= 1
    assert found == map_words(of, thorough=True)


def test_tsne_puts_a_group_together() -> None:
    plane = neighbour_embedding(vectors(300, 20).unit())
    group = np.arange(300) % 10
    distances = np.square(plane[:, None] - plane[None]).sum(-1) + np.diag(np.full(300, np.inf))
    assert np.mean(group[distances.argmin(1)] == group) > 0.9


@pytest.mark.parametrize(("n", "dim", "shown"), [(WORDS + 10, 4, WORDS), (3, 1, 3), (2, 8, None)])
def test_how_many_words_are_shown(n: int, dim: int, shown: int | None) -> None:
    found = map_words(vectors(n, dim), thorough=False)
    assert (found and len(found["groups"])) == shown
