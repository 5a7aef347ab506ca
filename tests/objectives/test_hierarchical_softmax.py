"""The Huffman tree is the shortest there is, and the turns on it are a distribution over words."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skiplight.objectives.hierarchical_softmax import HierarchicalSoftmax
from skiplight.objectives.huffman import HuffmanTree
from tests.objectives.test_objectives import COUNTS, some_case, some_tables
from tests.support.reference import log_prob_of


@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=60))
def test_the_tree_is_a_prefix_code_of_least_length(counts: list[int]) -> None:
    tree = HuffmanTree.build(np.array(counts))
    lengths = tree.depth[: len(counts)]
    codes = {tuple(signs[:length]) for signs, length in zip(tree.signs.tolist(), lengths, strict=True)}
    assert len(codes) == len(counts)
    assert sum(2.0**-length for length in lengths) == 1  # no code is the beginning of another, and none is wasted
    assert int((lengths * counts).sum()) == least_length(counts)
    assert ((tree.signs != 0).sum(1) == lengths).all()


def least_length(counts: list[int]) -> int:
    """Huffman's: the sum of the weights of all merges."""
    heap, total = list(counts), 0
    heapq.heapify(heap)
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        total += merged
        heapq.heappush(heap, merged)
    return total


def test_paths_lead_from_the_root_to_the_word() -> None:
    tree = HuffmanTree.build(COUNTS)
    size = len(COUNTS)
    for word in range(size):
        place = 2 * size - 2  # the root
        for node, sign in zip(tree.nodes[word], tree.signs[word], strict=True):
            if sign == 0:
                break
            assert place == size + node
            place = tree.left[node] if sign == 1 else tree.right[node]
        assert place == word


def test_the_loss_is_that_of_the_words_probabilities() -> None:
    objective, windows = some_case("hierarchical_softmax", "window")
    for bias in (False, True):
        tables = some_tables(objective, bias)
        log_prob = log_prob_of(objective, tables, windows.inputs.long())
        targets = windows.target[windows.window_of_pair()].long()
        expected = -log_prob[torch.arange(windows.pairs), targets].sum()
        assert float(objective.loss(tables, windows).sum.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_two_words_are_one_node() -> None:
    objective = HierarchicalSoftmax(np.array([3, 1]))
    assert objective.output_rows(2) == 1
    with pytest.raises(ValueError, match="two words"):
        HierarchicalSoftmax(np.array([3]))
