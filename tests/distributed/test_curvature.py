"""The curvature of the loss in the rows of a table, and the scores that it is measured on."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch

from skiplight.distributed.curvature import FLOOR, Curvature, Sample
from skiplight.errors import DataError
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.windows import WindowSampler


def test_the_curvature_of_gradients_is_found_and_followed() -> None:
    generator = torch.Generator().manual_seed(0)
    u, v = torch.randn(2, 500, 20, generator=generator) * torch.linspace(2, 0.1, 20)
    u += 1.5  # the direction that all share
    curvature = Curvature(20)
    for moved in (u, 0.5 * u.flip(1)):
        scores = (moved * v).sum(1)
        for _ in range(10):
            curvature.measure(moved, scores)
        slopes = torch.sigmoid(scores) * torch.sigmoid(-scores)
        exact = torch.linalg.eigvalsh((moved * slopes[:, None]).T @ moved / 500).flip(0)
        exact = exact.clamp(min=FLOOR * float(exact[0]))
        torch.testing.assert_close(curvature.values, exact[:16], rtol=0.02, atol=0)
        torch.testing.assert_close(curvature.directions.T @ curvature.directions, torch.eye(16), rtol=0, atol=1e-4)


def test_tables_that_are_not_finite_leave_the_curvature_as_it_was() -> None:
    curvature = Curvature(4)
    curvature.measure(torch.ones(9, 4), torch.zeros(9))
    before = curvature.values.clone()
    curvature.measure(torch.full((9, 4), math.nan), torch.zeros(9))
    assert torch.equal(curvature.values, before)


def test_a_sample_has_the_pairs_and_the_noise_of_the_text() -> None:
    sampler = WindowSampler(np.array([5, 4, 3, 2, 1]), subsample=0, negatives=3, window=2)
    windows = sampler(TokenBlock.of([[0, 1, 2, 3, 4, 0, 1]]))
    sample = Sample.draw(sampler, [TokenBlock.of([[0, 1, 2, 3, 4, 0, 1]])])
    assert len(sample.signs) == windows.pairs + int(windows.mask[windows.window_of_pair()].sum())
    observed = sample.signs > 0
    found = Counter(zip(sample.inputs[observed].tolist(), sample.outputs[observed].tolist(), strict=True))
    targets = windows.target[windows.window_of_pair()]
    assert found == Counter(zip(windows.inputs.tolist(), targets.tolist(), strict=True))
    with pytest.raises(DataError, match="documents of one word"):
        Sample.draw(sampler, [TokenBlock.of([[1], [2]])])
