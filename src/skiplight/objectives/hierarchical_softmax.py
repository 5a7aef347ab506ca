r"""Hierarchical softmax over a Huffman tree (Morin and Bengio 2005; Mikolov et al. 2013, section 2.1).

The words are the leaves of a binary tree (`huffman.py`), and each of its V - 1 inner nodes, not a word, has an output
vector u_n. The probability of a word is the product over the turns on its path,

    p(o|i) = Π_n σ(±u_n·v_i)   over the nodes n from the root to o, + where the path turns left, - where right,

which sums to 1 over the words. A pair costs about log2 V scores instead of V, and no noise is drawn.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from skiplight.objectives.base import Gradients, Loss, Objective, Tables, empty_loss
from skiplight.objectives.huffman import HuffmanTree
from skiplight.objectives.scores import score_rows
from skiplight.objectives.scoring import Paths, Scoring
from skiplight.registry import register_objective
from skiplight.sampling.batches import Windows
from skiplight.sampling.windows import WindowSampler


@register_objective("hierarchical_softmax")
class HierarchicalSoftmax(Objective):
    """Softmax as a product of decisions along the path in a Huffman tree.

    Args:
        counts: int64 [V], how often each word occurs.
    """

    needs_noise: ClassVar[bool] = False

    lengths: Tensor
    nodes: Tensor
    signs: Tensor
    left: Tensor
    right: Tensor
    by_level: Tensor

    def __init__(self, counts: np.ndarray) -> None:
        super().__init__()
        tree = HuffmanTree.build(counts)
        for name in ("nodes", "signs", "left", "right"):
            self._constant(name, getattr(tree, name))
        self._constant("lengths", tree.depth[: len(counts)])
        # Inner nodes from the root down, and the number of them on each level.
        inner = tree.depth[len(counts) :]
        self._constant("by_level", np.argsort(inner, kind="stable"))
        self.level_sizes = np.bincount(inner).tolist()

    @classmethod
    def build(cls, counts: np.ndarray, sampler: WindowSampler, **options: Any) -> Self:
        return cls(counts, **options)

    def output_rows(self, vocabulary: int) -> int:
        return vocabulary - 1

    def scores_per_pair(self, sampler: WindowSampler) -> float:
        return float(sampler.frequency @ self.lengths.cpu().numpy())

    def unigram_bias(self, counts: np.ndarray) -> Tensor:
        """Return the log odds of turning left at each node, float32 [V - 1]."""
        left, right = self.left.cpu().numpy(), self.right.cpu().numpy()
        weights = np.concatenate([counts, np.zeros(len(left))])
        for node in range(len(left)):  # children come before their node
            weights[len(counts) + node] = weights[left[node]] + weights[right[node]]
        return torch.from_numpy(np.log(weights[left]) - np.log(weights[right])).float()

    def loss(self, tables: Tables, windows: Windows) -> Loss:
        if windows.pairs == 0:
            return empty_loss(tables)
        nodes, signs = self._paths(windows.target)
        scores, used = score_rows(tables, windows, nodes)
        counted = (signs != 0)[:, :, None] & used
        loss = -(F.logsigmoid(scores * signs[:, :, None]) * counted).sum(dtype=torch.float64)
        return Loss(loss, windows.pairs)

    def _paths(self, words: Tensor) -> tuple[Tensor, Tensor]:
        """Return nodes and signs of the words' paths, [words, longest path]."""
        words = words.long()
        longest = int(self.lengths[words].max())
        return self.nodes[words, :longest], self.signs[words, :longest]

    def gradients(self, tables: Tables, windows: Windows) -> Gradients:
        sizes = windows.offsets.diff().double()
        nodes, signs = self._paths(windows.target)
        lengths = self.lengths[windows.target.long()].double()[windows.window_of_pair()]
        inputs = torch.bincount(windows.inputs, weights=lengths, minlength=len(tables.input.weight))
        weights = sizes[:, None] * (signs != 0)
        outputs = torch.bincount(nodes.flatten(), weights=weights.flatten(), minlength=len(tables.output.weight))
        return Gradients(inputs, outputs)

    def scoring(self, sampler: WindowSampler) -> Scoring:
        lengths, nodes, turns = (getattr(self, name).cpu().numpy() for name in ("lengths", "nodes", "signs"))
        through = np.zeros(len(self.left))  # the share of the targets whose paths have a node
        for level in range(nodes.shape[1]):
            longer = lengths > level
            through += np.bincount(nodes[longer, level], sampler.frequency[longer], minlength=len(through))
        paths = Paths(lengths.astype(np.int32), nodes, turns)
        return Scoring(float(sampler.frequency @ lengths), through, paths=paths)

    def logits(self, tables: Tables, inputs: Tensor) -> Tensor:
        """Return log-probabilities, float32 [n, V], for n input words, int64 [n]."""
        scores = super().logits(tables, inputs)
        size = len(tables.input.weight)
        log_prob = scores.new_zeros(len(inputs), 2 * size - 1)
        for level in self.by_level.split(self.level_sizes):
            above, turn = log_prob[:, size + level], scores[:, level]
            log_prob[:, self.left[level]] = above + F.logsigmoid(turn)
            log_prob[:, self.right[level]] = above + F.logsigmoid(-turn)
        return log_prob[:, :size]
