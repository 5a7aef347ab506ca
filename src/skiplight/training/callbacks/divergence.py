"""Stop a training whose loss stays above the loss of untrained tables.

The bound is the larger of two losses per pair of zero vectors, as the objective computes them: with the initial output
bias and without a bias. It is measured once, on targets and negatives drawn from the vocabulary, because the first
batch may have ten tokens or a single subject. The draws also show the chance variation of the loss, which is added to
the bound. One dimension is enough, since the vectors are zero. With noise that changes during the training, the losses
of its first and its last stage count.
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
from skiplight.sampling.noise import STAGES
from skiplight.sampling.windows import WindowSampler
from skiplight.training.module import SkipGramModule

PIECES, WINDOWS = 16, 500
"""The number of samples for the bound, and the windows of one pair in each."""

SLACK = 1.01
LINES, STEPS = 3, 50
"""A loss above the bound for this many lines of metrics ends a run; if the tables move once per step, it must also last
this many steps. Adaptive optimisers may overshoot in their first steps and recover: Adagrad with a learning rate of 0.4
for about ten."""

FAR = 10.0
"""A loss of this multiple of the bound ends a run immediately."""


@dataclasses.dataclass(frozen=True)
class Blank:
    """The loss per pair of untrained tables.

    Attributes:
        mean: the mean, in nats.
        deviation: the standard deviation over windows.
    """

    mean: float
    deviation: float

    def loss_bound(self, windows: float) -> float:
        """Return the bound that the mean loss over `windows` windows does not exceed by chance.

        Consecutive windows share a subject, so more than `WINDOWS` of them do not make the mean more certain.
        """
        return SLACK * self.mean + 4 * self.deviation / math.sqrt(min(max(windows, 1.0), WINDOWS))


class DivergenceCheck(lightning.Callback):
    """Judge the loss of every line of metrics, which `Tracking` passes on; no cost between two lines."""

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
        if not self.blanks:  # else read from a checkpoint, since the bias is trained by now
            for stage in (0,) if self.sampler.annealed is None else (0, STAGES - 1):
                pl_module.enter_noise_stage(stage)
                self.blanks += _measure(pl_module, self.sampler)
            pl_module.follow_noise()

    def loss_bound(self, pairs: int) -> float:
        """Return the loss per pair above which a mean over `pairs` pairs is worse than untrained tables."""
        windows = pairs / (self.sampler.window + 1)  # the mean pairs per window, which share their target
        return max(blank.loss_bound(windows) for blank in self.blanks)

    def judge(self, module: SkipGramModule, loss: float, pairs: int, *, step: int, last: bool) -> None:
        """Judge the mean loss of a line, which is the same on every rank.

        Args:
            module: the module in training.
            loss: the mean loss per pair since the previous line, over all ranks.
            pairs: the number of pairs in the mean.
            step: the number of steps of the run.
            last: whether the run ends here.

        Raises:
            DivergedError: the tables stay worse than untrained ones.
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
                f"the loss is {loss:,.4g} per pair, above the {bound:,.4g} of untrained vectors,"
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
    """Measure the loss of zero vectors, and of the initial vectors if they come from another run."""
    objective, tables = module.objective, module.tables
    rows = len(tables.output.weight)
    biases: list[Tensor | None] = [None]
    if tables.bias is not None:
        biases.append(tables.bias.weight.detach().squeeze(1))
    found = []
    # The input words do not matter with zero vectors; using one for all saves rows of a full softmax.
    pieces = [
        dataclasses.replace(piece, inputs=torch.zeros_like(piece.inputs)) for piece in _pieces(sampler, PIECES, WINDOWS)
    ]
    for bias in biases:
        blank = Tables(len(tables.input.weight), 1, rows, bias=bias)
        torch.nn.init.zeros_(blank.input.weight)
        found.append(_blank(objective, blank.to(tables.input.weight), pieces))
    if tables.output.weight.any():
        # Another run's vectors may be worse than zero on this text, most of all on independent input and output words.
        # These vectors have all dimensions, so fewer windows are used.
        found.append(_blank(objective, tables, _pieces(sampler, 4, WINDOWS // 4)))
    return found


def _pieces(sampler: WindowSampler, number: int, size: int) -> list[Windows]:
    """Return `number` samples of `size` windows of one pair each, with words drawn independently by frequency."""
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
