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

from skiplight.objectives.base import Loss, Objective, Tables
from skiplight.sampling.windows import Windows


class NegativeSampling(Objective):
    """Mikolov's negative sampling.

    Args:
        noise: the probabilities P_n of the noise distribution, float64 [V], which `log_prob` needs.
    """

    needs_noise = True

    def __init__(self, noise: np.ndarray) -> None:
        self.log_noise = torch.from_numpy(np.log(noise)).float()

    def loss(self, tables: Tables, windows: Windows) -> Loss:
        if windows.pairs == 0:
            return Loss(tables.input.weight.new_zeros(()), 0)
        inputs = tables.input(windows.inputs)
        if windows.shared:
            score, negative = _window_scores(tables, windows, inputs)
            mask = windows.mask[windows.window_of_pair()]
        else:
            score = (inputs * tables.output(windows.target)[windows.window_of_pair()]).sum(-1)
            negative = torch.einsum("pd,pkd->pk", inputs, tables.output(windows.negatives))
            mask = windows.mask
        loss = -F.logsigmoid(score).sum() - (F.logsigmoid(-negative) * mask).sum()
        return Loss(loss, windows.pairs)

    def log_prob(self, tables: Tables, inputs: Tensor) -> Tensor:
        scores = tables.input(inputs) @ tables.output.weight.T
        return torch.log_softmax(scores + self.log_noise.to(scores.device), dim=-1)


def _window_scores(tables: Tables, windows: Windows, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of the target [pairs] and of the window's negatives [pairs, K].

    All K + 1 output rows of a window meet all its context rows in one small matrix product, so that an output row is
    read once a window and not once a pair; contexts are padded to the longest for it.
    """
    window = windows.window_of_pair()
    place = torch.arange(windows.pairs, device=window.device) - windows.offsets[window]
    context = int(windows.offsets.diff().max())
    padded = inputs.new_zeros(len(windows.target), context, inputs.shape[1])
    padded = padded.index_put((window, place), inputs)
    outputs = tables.output(torch.cat([windows.target[:, None], windows.negatives], dim=1))
    scores = torch.bmm(padded, outputs.transpose(1, 2))[window, place]
    return scores[:, 0], scores[:, 1:]
