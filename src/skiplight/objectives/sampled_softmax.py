r"""Sampled softmax with the logQ correction (Bengio and Senécal 2008; Jean et al. 2015, "On using very large target
vocabulary for neural machine translation").

The softmax over the vocabulary is replaced by one over the target and K candidates drawn from a proposal Q, each score
s = u·v_i + b less the logarithm of how often its word is expected among the candidates:

    loss = -log( exp(c_o) / (exp(c_o) + Σ_k exp(c_k)) ).

The correction depends on whether a draw may be the target (an accidental hit):

- Hits kept (`noise.exclude=none`): c = s - log Q for target and candidates alike. The optimum is s = log p(o|i) up to
  a constant per input word, for every K: the loss is that of identifying the observed one of K + 1 words (Ma and
  Collins 2018, "Noise contrastive estimation and negative sampling for conditional models", the ranking form).
- Hits removed (`noise.exclude=target`): the target is always a candidate and keeps its score, c_o = s; a sampled
  candidate has c_k = s - log(K·Q(k) / (1 - Q(o))). The denominator is then an unbiased estimate of the softmax's, and
  the gradient converges to the full softmax's as K grows; for small K it is biased.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from skiplight.objectives.base import Bias, Gradients, Loss, Objective, Tables, empty_loss
from skiplight.objectives.dispatch import product_type, use_kernels
from skiplight.objectives.scores import count_candidate_gradients, gather_candidates, score_candidates
from skiplight.objectives.scoring import Scoring, score_candidates_of
from skiplight.registry import register_objective
from skiplight.sampling.batches import Windows
from skiplight.sampling.windows import Exclude, WindowSampler

LARGEST = 2**13
"""The most numbers of a window's context vectors that kernels keep in registers, together with their gradient."""

FEW = 8
"""The most negatives for kernels: on an H200 they are 1.08 times as fast as tensor operations at 5, .70 at 100."""


def longest_row(windows: Windows) -> int:
    """Return the largest number of context words that are scored with the same candidates."""
    return int(windows.offsets.diff().max()) if windows.shared else 1


def round_up(size: int) -> int:
    """Return the power of two that holds `size`, at least 16, the smallest tile of tensor cores."""
    return max(16, 1 << (size - 1).bit_length())


def log_others(probabilities: np.ndarray) -> np.ndarray:
    """Return the log of the share of all other words than each, float64 [V]."""
    return np.log1p(-np.minimum(probabilities, 1 - 1e-12))


@register_objective("sampled_softmax")
class SampledSoftmax(Objective):
    """Softmax over the target and K sampled words.

    Args:
        proposal: the probabilities Q of the proposal, float64 [V].
        accidental_hits: whether a sampled candidate may be the target.
    """

    needs_noise: ClassVar[bool] = True
    default_bias: ClassVar[Bias] = "learned"
    default_exclude: ClassVar[Exclude] = "none"
    corrects_noise: ClassVar[bool] = True

    log_proposal: Tensor
    log_others: Tensor

    def __init__(self, proposal: np.ndarray, accidental_hits: bool = True) -> None:
        super().__init__()
        self.accidental_hits = accidental_hits
        self._constant("log_proposal", np.log(proposal))
        self._constant("log_others", log_others(proposal))

    @classmethod
    def build(cls, counts: np.ndarray, sampler: WindowSampler, **options: Any) -> Self:
        return cls(sampler.noise.probabilities, accidental_hits=sampler.exclude == "none", **options)

    def set_noise(self, probabilities: np.ndarray) -> None:
        self._replace("log_proposal", np.log(probabilities))
        self._replace("log_others", log_others(probabilities))

    def loss(self, tables: Tables, windows: Windows) -> Loss:
        if windows.pairs == 0:
            return empty_loss(tables)
        return (self.loss_on_chip if self._on_chip(tables, windows) else self.loss_by_tensors)(tables, windows)

    def loss_by_tensors(self, tables: Tables, windows: Windows) -> Loss:
        """Return the loss of windows, computed by tensor operations."""
        words, scores, counted = score_candidates(tables, windows)
        corrected = scores - self._log_expected(words, windows.mask)[:, :, None]
        corrected = torch.where(counted, corrected, -torch.inf)
        pair = counted[:, 0]  # the target counts in every pair
        losses = torch.logsumexp(corrected, dim=1)[pair] - corrected[:, 0][pair]
        return Loss(losses.sum(dtype=torch.float64), windows.pairs)

    def loss_on_chip(self, tables: Tables, windows: Windows) -> Loss:
        """Return the loss of windows, computed by Triton kernels that write no scores."""
        from skiplight.objectives.sampled_softmax_triton import CandidatesLoss

        words, there = gather_candidates(windows)
        added = -self._log_expected(words.long(), windows.mask)
        if tables.bias is not None:
            added = added + tables.bias(words).squeeze(2)
        added = added.masked_fill(~there, -torch.inf)
        ends = windows.offsets if windows.shared else torch.arange(windows.pairs + 1, device=added.device)
        input, output = tables.input.weight, tables.output.weight
        room = round_up(longest_row(windows))
        loss = CandidatesLoss.apply(
            input, output, added, windows.inputs, ends, words, room, product_type(input), tables.sparse
        )
        return Loss(loss, windows.pairs)

    @staticmethod
    def _on_chip(tables: Tables, windows: Windows) -> bool:
        if tables.input.weight.device.type != "cuda":
            return False
        longest, dim = longest_row(windows), tables.input.weight.shape[1]
        negatives, room = windows.negatives.shape[1], round_up(longest) * round_up(dim) <= LARGEST
        problems = {
            f"{longest} context vectors of {dim} numbers are many": not room,
            f"they are faster with {negatives} negatives": negatives > FEW,
        }
        return use_kernels("sampled softmax", tables.input.weight, problems)

    def _log_expected(self, words: Tensor, mask: Tensor) -> Tensor:
        """Return the log of each word's expected count among the candidates, [rows, 1 + K], up to a constant."""
        log_q = self.log_proposal[words]
        if self.accidental_hits:
            return log_q
        drawn = mask.sum(1, keepdim=True).clamp(min=1).log()
        log_q = log_q + drawn - self.log_others[words[:, :1]]
        log_q[:, 0] = 0.0
        return log_q

    def gradients(self, tables: Tables, windows: Windows) -> Gradients:
        return count_candidate_gradients(tables, windows, min(4, 1 + windows.negatives.shape[1]))

    def scoring(self, sampler: WindowSampler) -> Scoring:
        plain = score_candidates_of(sampler, min(4, 1 + sampler.negatives))
        softmax = dataclasses.replace(plain, rule="softmax", shift=-self.log_proposal.cpu().numpy())
        if self.accidental_hits:
            return softmax
        # A number added to all scores of a pair changes nothing, so the target bears what its negatives share.
        return dataclasses.replace(softmax, target_shift=-self.log_others.cpu().numpy(), counts_drawn=True)
