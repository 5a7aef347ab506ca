"""The Huffman tree of a vocabulary: frequent words near the root, so that the mean path is as short as can be."""

from __future__ import annotations

import dataclasses
import heapq

import numpy as np


@dataclasses.dataclass
class HuffmanTree:
    """A binary tree with V leaves, the words, and V - 1 inner nodes.

    Attributes:
        depth: int64 [2 V - 1], how far each word, then each inner node, is from the root.
        nodes: int32 [V, longest], those nodes, the root first; 0 beyond a path's end.
        signs: int8 [V, longest], 1 where the path turns left, -1 where right; 0 beyond its end.
        left, right: int64 [V - 1], children of each inner node: a word, or V + an inner node. A node comes after both
            its children, so the root is the last.

    >>> HuffmanTree.of(np.array([4, 2, 1])).depth.tolist()
    [1, 2, 2, 1, 0]
    """

    depth: np.ndarray
    nodes: np.ndarray
    signs: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray) -> HuffmanTree:
        """The tree of words that occur so often, int64 [V], V at least 2.

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
        # All paths at once, a step up from every place that is not yet the root.
        place = np.arange(size)
        words = np.arange(size)
        while len(words):
            step = depth[place] - 1
            nodes[words, step], signs[words, step] = parent[place], turn[place]
            place = size + parent[place]
            below = depth[place] > 0
            words, place = words[below], place[below]
        return cls(depth, nodes, signs, left, right)
