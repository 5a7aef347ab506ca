"""The Huffman tree of a vocabulary, whose mean path length is minimal: frequent words are near the root."""

from __future__ import annotations

import dataclasses
import heapq

import numpy as np


@dataclasses.dataclass
class HuffmanTree:
    """A binary tree with V leaves, the words, and V - 1 inner nodes.

    Attributes:
        depth: int64 [2 V - 1], the distance of each word, then of each inner node, from the root.
        nodes: int32 [V, longest], the inner nodes on each word's path, the root first; 0 beyond the path's end.
        signs: int8 [V, longest], 1 where the path turns left, -1 where right; 0 beyond its end.
        left, right: int64 [V - 1], children of each inner node: a word, or V + an inner node. A node comes after both
            its children, so the root is the last.

    >>> HuffmanTree.build(np.array([4, 2, 1])).depth.tolist()
    [1, 2, 2, 1, 0]
    """

    depth: np.ndarray
    nodes: np.ndarray
    signs: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @classmethod
    def build(cls, counts: np.ndarray) -> HuffmanTree:
        """Return the tree for word counts, int64 [V], V at least 2.

        Ties go to the node made first, which keeps the longest path short.
        """
        size = len(counts)
        if size < 2:
            raise ValueError("a tree needs two words or more")
        heap = [(int(count), word) for word, count in enumerate(counts)]
        heapq.heapify(heap)
        left, right = np.zeros(size - 1, np.int64), np.zeros(size - 1, np.int64)
        for node in range(size - 1):
            (light, right[node]), (heavy, left[node]) = heapq.heappop(heap), heapq.heappop(heap)
            heapq.heappush(heap, (light + heavy, size + node))

        depth = np.zeros(2 * size - 1, np.int64)
        for node in range(size - 2, -1, -1):
            depth[left[node]] = depth[right[node]] = depth[size + node] + 1
        nodes = np.zeros((size, depth.max()), np.int32)
        signs = np.zeros((size, depth.max()), np.int8)
        parent, turn = np.zeros(2 * size - 1, np.int64), np.zeros(2 * size - 1, np.int8)
        for children, sign in ((left, 1), (right, -1)):
            parent[children], turn[children] = np.arange(size - 1), sign
        # All paths at once: each pass moves every word whose path is not complete one node up.
        node_of = np.arange(size)
        words = np.arange(size)
        while len(words):
            step = depth[node_of] - 1
            nodes[words, step], signs[words, step] = parent[node_of], turn[node_of]
            node_of = size + parent[node_of]
            below = depth[node_of] > 0
            words, node_of = words[below], node_of[below]
        return cls(depth, nodes, signs, left, right)
