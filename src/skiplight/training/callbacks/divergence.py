"""Ends a training whose loss stays above that of tables that know nothing, which it would otherwise call finished.

The bound is the loss per pair of vectors that are all zero, as the objective itself computes it: with the output bias
that the run begins with, and without one, whichever is more. It is measured once, on targets and negatives drawn from
the vocabulary rather than on the run's first batch, which may be ten tokens or about one subject: the draws also show
how much the loss of so many windows varies by chance, which the bound allows for. Vectors of one number are enough,
since they are zero.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from skiplight.objectives.base import Objective, Tables
from skiplight.sampling.batches import TokenBlock, Windows
from skiplight.sampling.windows import WindowSampler
from skiplight.training.module import SkipGramModule

PIECES, WINDOWS = 16, 500
"""The bound is measured on so many pieces of so many windows of one pair each."""

SLACK = 1.01
LINES, STEPS = 3, 50
"""A loss that stays so many lines above the bound ends a run; where the tables move once in a step, it must stay there
for so many steps too. Adaptive optimisers may go too far in their first steps, before they know how far is enough, and
come back: Adagrad with a learning rate of 0.4 for about ten."""

FAR = 10.0
"""A loss so many times the bound ends a run at once."""


@dataclasses.dataclass(frozen=True)
class Blank:
    """The loss per pair of tables that know nothing of the text.

    Attributes:
        mean: its mean, in nats.
        deviation: the standard deviation over windows.
    """

    mean: float
    deviation: float

    def loss_bound(self, windows: float) -> float:
        """Return what the mean over so many windows does not exceed by chance.

        Many windows of a text in a row are about the same things, so that more than `WINDOWS` do not make the mean
        more certain.
        """
        return SLACK * self.mean + 4 * self.deviation / math.sqrt(min(max(windows, 1.0), WINDOWS))


class DivergenceCheck(lightning.Callback):
    """Judges every line of metrics, which `Tracking` hands over; costs nothing between two lines.

    Args:
        sampler: what the run draws its windows and negatives with.
    """

    def __init__(self, sampler: WindowSampler) -> None:
        self.sampler = sampler
        self.blanks: list[Blank] = []  # the largest is the bound
        self._above, self._since = 0, 0  # lines in a row above the bound, and the step of the first

    @property
    def is_above(self) -> bool:
        """Whether the last line was above the bound."""
        return self._above > 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, SkipGramModule)
        if not self.blanks:  # else they are those of a checkpoint: the bias has learned meanwhile
            self.blanks = _measure(pl_module, self.sampler)

    def loss_bound(self, pairs: int) -> float:
        """Return the loss per pair above which a mean over so many pairs is worse than that of no knowledge."""
        windows = pairs / (self.sampler.window + 1)  # the mean number of pairs of a window; they share their target
        return max(blank.loss_bound(windows) for blank in self.blanks)

    def judge(self, module: SkipGramModule, loss: float, pairs: int, *, step: int, last: bool) -> None:
        """Judge the mean loss of a line; every rank is given the same.

        Args:
            module: what is trained.
            loss: the mean loss per pair since the line before, over all ranks.
            pairs: how many pairs it is the mean of.
            step: how many steps the run has made.
            last: whether the run ends here.

        Raises:
            DivergedError: the tables are worse than tables that know nothing, and stay so.
        """
        bound = self.loss_bound(pairs)
        if not loss > bound:
            self._above = 0
            return
        self._since = self._since if self._above else step
        self._above += 1
        long = self._above >= LINES and (module.engine.takes_blocks or step - self._since >= STEPS)
        if last or long or loss > FAR * bound:
            raise module.divergence_error(
                f"the loss is {loss:,.4g} a pair, above the {bound:,.4g} of vectors that know nothing,"
            )

    def state_dict(self) -> dict[str, Any]:
        return {
            "blanks": [dataclasses.astuple(blank) for blank in self.blanks],
            "above": self._above,
            "since": self._since,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.blanks = [Blank(*blank) for blank in state_dict["blanks"]]
        self._above, self._since = state_dict["above"], state_dict["since"]


def _measure(module: SkipGramModule, sampler: WindowSampler) -> list[Blank]:
    """What the loss is with vectors of zero, and with those that the run begins with where they are another run's."""
    objective, tables = module.objective, module.tables
    rows = len(tables.output.weight)
    biases: list[Tensor | None] = [None]
    if tables.bias is not None:
        biases.append(tables.bias.weight.detach().squeeze(1))
    found = []
    # With vectors of zero it makes no difference which the input words are; one alone spares a softmax many rows.
    pieces = [
        dataclasses.replace(piece, inputs=torch.zeros_like(piece.inputs)) for piece in _pieces(sampler, PIECES, WINDOWS)
    ]
    for bias in biases:
        blank = Tables(len(tables.input.weight), 1, rows, bias=bias)
        torch.nn.init.zeros_(blank.input.weight)
        found.append(_blank(objective, blank.to(tables.input.weight), pieces))
    if tables.output.weight.any():
        # Another run's vectors may know worse than nothing of this text. Where no input word has to do with its
        # target, they are at their worst. These have all their numbers, so fewer windows do.
        found.append(_blank(objective, tables, _pieces(sampler, 4, WINDOWS // 4)))
    return found


def _pieces(sampler: WindowSampler, number: int, size: int) -> list[Windows]:
    """So many pieces of windows of one pair each, whose words are drawn one by one as they are in the mean."""
    rng = np.random.default_rng(0)
    noise = sampler.noise.probabilities
    shape = (number, size)
    inputs, targets = (rng.choice(len(noise), shape, p=sampler.frequency).astype(np.int32) for _ in range(2))
    negatives = rng.choice(len(noise), (*shape, sampler.negatives), p=noise).astype(np.int32)
    return [
        Windows(
            inputs=torch.from_numpy(inputs[piece]),
            offsets=torch.arange(size + 1),
            target=torch.from_numpy(targets[piece]),
            negatives=torch.from_numpy(negatives[piece]),
            mask=torch.ones((size, sampler.negatives), dtype=torch.bool),
            block=TokenBlock.of([]),
        )
        for piece in range(number)
    ]


@torch.no_grad()
def _blank(objective: Objective, tables: Tables, pieces: list[Windows]) -> Blank:
    device = tables.input.weight.device
    losses = []
    for piece in pieces:
        tensors = {
            name: getattr(piece, name).to(device) for name in ("inputs", "offsets", "target", "negatives", "mask")
        }
        losses.append(float(objective.loss(tables, dataclasses.replace(piece, **tensors)).sum) / piece.pairs)
    return Blank(float(np.mean(losses)), float(np.std(losses, ddof=1)) * math.sqrt(pieces[0].pairs))
