"""Negative sampling is its formula and converges where theory says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from skiplight.objectives.base import Tables
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.windows import WindowSampler
from tests.support.reference import log_prob_of

COUNTS = np.array([30, 20, 10, 5, 5])


def by_the_formula(tables: Tables, windows) -> float:
    total = 0.0
    v, u = tables.input.weight.double(), tables.output.weight.double()
    for pair, window in enumerate(windows.window_of_pair().tolist()):
        i, o = int(windows.inputs[pair]), int(windows.target[window])
        total -= math.log(torch.sigmoid(u[o] @ v[i]))
        row = window if windows.shared else pair
        for k, used in zip(windows.negatives[row].tolist(), windows.mask[row].tolist(), strict=True):
            if used:
                total -= math.log(torch.sigmoid(-(u[k] @ v[i])))
    return total


def some_windows(shared: str, exclude: str = "window"):
    sampler = WindowSampler(COUNTS, window=3, subsample=0, negatives=3, shared=shared, exclude=exclude, seed=4)  # type: ignore[arg-type]
    return sampler, sampler(TokenBlock.of([[0, 1, 2, 0, 4, 3, 1], [2, 2, 1]]))


@pytest.mark.parametrize("shared", ["window", "pair"])
def test_the_loss_is_the_formula(shared: str) -> None:
    sampler, windows = some_windows(shared)
    assert not windows.mask.all()
    tables = Tables(5, 4)
    torch.nn.init.normal_(tables.output.weight)
    loss = NegativeSampling(sampler.noise.probabilities).loss(tables, windows)
    assert float(loss.sum.detach()) == pytest.approx(by_the_formula(tables, windows), rel=1e-5)
    assert loss.pairs == windows.pairs


def test_converges_to_shifted_pmi() -> None:
    # With enough dimensions and noise that may draw the target, the scores are log p(o|i) - log(K·P_n(o)) exactly.
    rng = np.random.default_rng(0)
    joint = rng.dirichlet(np.ones(9)).reshape(3, 3)  # p(i, o)
    noise, k = np.array([0.5, 0.3, 0.2]), 2
    v = torch.eye(3, dtype=torch.float64)
    u = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    p, q = torch.from_numpy(joint), torch.from_numpy(noise)
    optimizer = torch.optim.LBFGS([u], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-15)

    def expected_loss() -> torch.Tensor:
        optimizer.zero_grad()
        s = v @ u.T
        positive = -(p * torch.nn.functional.logsigmoid(s)).sum()
        negative = -(p.sum(1, keepdim=True) * k * q * torch.nn.functional.logsigmoid(-s)).sum()
        (positive + negative).backward()
        return positive + negative

    optimizer.step(expected_loss)
    conditional = p / p.sum(1, keepdim=True)
    torch.testing.assert_close((v @ u.T).detach(), (conditional / (k * q)).log(), atol=1e-5, rtol=0)
    # ... so that the corrected likelihood is the data's own, and log_prob gives it.
    tables = Tables(3, 3)
    with torch.no_grad():
        tables.input.weight.copy_(v.float())
        tables.output.weight.copy_(u.float())
    log_prob = log_prob_of(NegativeSampling(noise), tables, torch.arange(3))
    torch.testing.assert_close(log_prob.exp(), conditional.float(), atol=1e-4, rtol=0)
