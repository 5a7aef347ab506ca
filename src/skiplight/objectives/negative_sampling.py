r"""Negative sampling (Mikolov et al. 2013, "Distributed representations of words and phrases...", equation 4).

For an observed pair of an input word i and an output word o, and K noise words k drawn from P_n,

    loss = -log σ(u_o·v_i) - Σ_k log σ(-u_k·v_i).

It is minimised where u_o·v_i = log p(o|i) - log(K·P_n(o)) (Levy and Goldberg 2014, "Neural word embedding as implicit
matrix factorization"), exactly so when the noise may also draw the target. The likelihood of the model is therefore
that of softmax(u_o·v_i + log P_n(o)); without the correction it looks falsely bad. Where the target is excluded from
the noise, the correction is approximate.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from skiplight.objectives.base import Loss, Objective, Tables, at_least_float32
from skiplight.sampling.batches import Windows


class NegativeSampling(Objective):
    """Mikolov's negative sampling.

    Args:
        noise: the probabilities P_n of the noise distribution, float64 [V], which `log_prob` needs.

    >>> from skiplight.sampling.batches import Block
    >>> from skiplight.sampling.windows import WindowSampler
    >>> sampler = WindowSampler(np.array([4, 3, 2]), window=2, subsample=0, negatives=5)
    >>> objective = NegativeSampling(sampler.noise.probabilities)
    >>> loss = objective.loss(Tables(vocabulary=3, dim=8), sampler(Block.of([[0, 1, 2, 0]])))
    >>> round(loss.sum.item() / loss.pairs, 4)  # outputs begin at zero: (1 + 5) · log 2
    4.1589
    """

    needs_noise = True

    def __init__(self, noise: np.ndarray) -> None:
        self.log_noise = torch.from_numpy(np.log(noise)).float()

    def loss(self, tables: Tables, windows: Windows) -> Loss:
        if windows.pairs == 0:
            return Loss(tables.input.weight.new_zeros((), dtype=torch.float64), 0)
        score = _by_window if windows.shared else _by_pair
        positive, negative, mask = score(tables, windows)
        positive, negative = at_least_float32(positive), at_least_float32(negative)
        # Sums in float64: a step may have millions of terms.
        loss = -F.logsigmoid(positive).sum(dtype=torch.float64)
        loss = loss - (F.logsigmoid(-negative) * mask).sum(dtype=torch.float64)
        return Loss(loss, windows.pairs)

    def log_prob(self, tables: Tables, inputs: Tensor) -> Tensor:
        scores = tables.input(inputs) @ tables.output.weight.T
        return torch.log_softmax(scores + self.log_noise.to(scores.device), dim=-1)


def _by_pair(tables: Tables, windows: Windows) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of the target [pairs] and of each pair's own negatives [pairs, K], and the negatives' mask."""
    inputs = tables.input(windows.inputs)
    positive = (inputs * tables.output(windows.target)[windows.window_of_pair()]).sum(-1)
    return positive, torch.einsum("pd,pkd->pk", inputs, tables.output(windows.negatives)), windows.mask


def _by_window(tables: Tables, windows: Windows) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of the target [pairs] and of the window's negatives [windows, K, context], and the negatives' mask.

    All K + 1 output rows of a window meet all its context rows in one small matrix product, so that an output row is
    read once a window and not once a pair. Contexts are padded to the longest by the pairs that follow: rows that the
    block touches anyway, with a gradient of zero.
    """
    sizes = windows.offsets.diff()
    slot = torch.arange(int(sizes.max()), device=sizes.device)
    used = slot < sizes[:, None]
    pair = (windows.offsets[:-1, None] + slot).clamp_(max=windows.pairs - 1)
    context = tables.input(windows.inputs[pair])
    outputs = tables.output(torch.cat([windows.target[:, None], windows.negatives], dim=1))
    scores = torch.bmm(outputs, context.transpose(1, 2))
    return scores[:, 0][used], scores[:, 1:], windows.mask[:, :, None] & used[:, None]
