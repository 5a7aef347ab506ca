"""A plug-in for skiplight: registered when it is imported, a source, a noise distribution, two objectives, an
evaluation and a callback.

pip install scripts/examples/plugin
skiplight train data=walks data.path=edges.txt data.length=20 callbacks=norms callbacks.norms.top=10
skiplight sweep data=files data.path=text.txt noise.name=power,clipped study.sampler=grid run_dir=runs/noise
skiplight train data=files data.path=text.txt objective=info_nce objective.temperature=0.5 optim.name=adagrad
skiplight train data=files data.path=text.txt evaluation.metrics=[anisotropy] evaluation.metrics.anisotropy.top=500
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import lightning
import numpy as np
import torch
from torch import Tensor

import skiplight
from skiplight.registry import option


@skiplight.register_source("walks")
def walks(*, path: str = "edges.txt", walks: int = 10, length: int = 40) -> Iterator[list[str]]:
    """Yield random walks on a graph, whose file has two nodes a line (Perozzi et al. 2014, "DeepWalk")."""
    neighbors: dict[str, list[str]] = {}
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        first, second = line.split()
        neighbors.setdefault(first, []).append(second)
        neighbors.setdefault(second, []).append(first)
    random = Random(0)  # the same walks at each pass
    for start in list(neighbors) * walks:
        walk = [start]
        while len(walk) < length:
            walk.append(random.choice(neighbors[walk[-1]]))
        yield walk


@dataclass
class ClippedOptions:
    """Options of `noise=clipped`, with ranges and help."""

    quantile: float = option(0.9, "counts above this quantile are drawn as often as those at it", low=0, high=1)


@skiplight.register_noise("clipped", options=ClippedOptions)
def clipped(counts: np.ndarray, quantile: float) -> np.ndarray:
    """Return the counts, none above a quantile of them: the most frequent words are not drawn all the time."""
    return np.minimum(counts, np.quantile(counts, quantile))


@skiplight.register_objective("info_nce")
class InfoNCE(skiplight.ScoreObjective):
    """InfoNCE: the softmax over a pair's target and negatives (van den Oord et al. 2018, "Representation learning with
    contrastive predictive coding").

    Args:
        noise: float64 [V], the noise distribution.
        temperature: divides the scores.
    """

    def __init__(self, noise: np.ndarray, *, temperature: float = 1.0) -> None:
        super().__init__(noise)
        if temperature <= 0 or not math.isfinite(temperature):
            raise ValueError(f"`objective.temperature={temperature}` must be above 0")
        self.temperature = temperature

    def score_loss(self, scores: Tensor, counted: Tensor) -> Tensor:
        """Return -Σ log softmax of the target."""
        scores = torch.where(counted, scores / self.temperature, -torch.inf)
        pair = counted[:, 0]  # the target counts in every pair
        return (torch.logsumexp(scores, 1)[pair] - scores[:, 0][pair]).sum(dtype=torch.float64)


@skiplight.register_objective("margin")
class Margin(skiplight.ScoreObjective):
    """A ranking loss: each negative should score lower than the target by a margin (Weston et al. 2011, "WSABIE").

    Args:
        noise: float64 [V], the noise distribution.
        margin: the margin.
    """

    def __init__(self, noise: np.ndarray, *, margin: float = 1.0) -> None:
        super().__init__(noise)
        self.margin = margin

    def score_loss(self, scores: Tensor, counted: Tensor) -> Tensor:
        """Return Σ max(0, margin - target + negative)."""
        short = (self.margin - scores[:, :1] + scores[:, 1:]).clamp(min=0)
        return (short * counted[:, 1:]).sum(dtype=torch.float64)


@skiplight.register_evaluation("anisotropy")
def anisotropy(vectors: skiplight.WordVectors, *, top: int = 1000) -> float:
    """Return the mean cosine of two of the most frequent words: 0 if vectors point in all directions alike (Ethayarajh
    2019, "How contextual are contextualized word representations?").
    """
    return float(vectors.unit()[:top].mean(0).square().sum())


@skiplight.register_callback("norms")
class Norms(lightning.Callback):
    """Write the mean length of the vectors of the most frequent words at the end of every epoch.

    Args:
        path: the file, which gets a line per epoch.
        top: number of words.
    """

    def __init__(self, *, path: str = "norms.txt", top: int = 1000) -> None:
        self.path, self.top = Path(path), top

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Append a line."""
        if trainer.is_global_zero:
            norm = module.tables.input.weight[: self.top].norm(dim=1).mean()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{trainer.current_epoch}\t{norm:.4f}\n")
