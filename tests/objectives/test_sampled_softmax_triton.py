"""Sampled softmax in kernels that write no scores gives what it gives in plain PyTorch; without a GPU, interpreted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from skiplight.objectives.base import Tables
from skiplight.objectives.sampled_softmax import SampledSoftmax
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.windows import WindowSampler

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
COUNTS = np.array([9, 7, 5, 3, 2, 1])
BLOCK = TokenBlock.of([[0, 1, 2, 0, 4, 3, 1, 0, 5, 2], [2, 2, 1], [3, 0]])


def gradients(tables: Tables) -> list[torch.Tensor]:
    return [p.grad.to_dense() for p in tables.parameters()]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("window", "negatives", "shared", "exclude", "dim", "bias", "sparse", "mixed"),
    [
        (3, 5, "window", "none", 16, True, True, False),
        (2, 20, "window", "target", 33, False, False, False),
        (3, 3, "pair", "window", 20, True, True, False),
        (9, 5, "window", "window", 8, True, True, False),
        (3, 5, "window", "target", 20, False, True, True),
    ],
)
def test_loss_and_gradients_are_those_of_tensor_operations(
    window: int, negatives: int, shared: str, exclude: str, dim: int, bias: bool, sparse: bool, mixed: bool
) -> None:
    sampler = WindowSampler(
        COUNTS, window=window, negatives=negatives, shared=shared, exclude=exclude, subsample=0, seed=4
    )  # type: ignore[arg-type]
    objective = SampledSoftmax(sampler.noise.probabilities, accidental_hits=exclude == "none").to(DEVICE)
    start = objective.unigram_bias(COUNTS) if bias else None
    found = []
    for kernels in (False, True):
        tables = Tables(len(COUNTS), dim, sparse=sparse, bias=start)
        generator = torch.Generator().manual_seed(0)
        for table in tables.parameters():
            torch.nn.init.normal_(table, generator=generator)
        tables, windows = tables.to(DEVICE), sampler(BLOCK.to(DEVICE))
        assert kernels or exclude != "window" or not bool(windows.mask.all())  # some slots do not count
        with torch.autocast(DEVICE.type, torch.float16, enabled=mixed and kernels):
            loss = (objective.loss_on_chip if kernels else objective.loss_by_tensors)(tables, windows)
        (3 * loss.sum).backward()
        assert all(table.grad.is_sparse == sparse for table in tables.parameters())  # type: ignore[union-attr]
        found.append((loss, gradients(tables)))
    (want, expected), (got, made) = found
    relative = 5e-3 if mixed or DEVICE.type == "cuda" else 1e-5
    assert got.pairs == want.pairs
    assert float(got.sum) == pytest.approx(float(want.sum), rel=relative)
    for ours, theirs in zip(made, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=relative, atol=relative * float(theirs.abs().max()))


def test_scores_far_apart_do_not_overflow() -> None:
    sampler = WindowSampler(COUNTS, window=2, negatives=4, subsample=0)
    objective = SampledSoftmax(sampler.noise.probabilities).to(DEVICE)
    tables = Tables(len(COUNTS), 16)
    with torch.no_grad():
        tables.input.weight.fill_(20.0)
        tables.output.weight.copy_(torch.linspace(-20, 20, len(COUNTS))[:, None].expand(-1, 16))
    loss = objective.loss_on_chip(tables.to(DEVICE), sampler(BLOCK.to(DEVICE)))
    loss.sum.backward()
    assert bool(torch.isfinite(loss.sum))
    assert all(bool(torch.isfinite(gradient).all()) for gradient in gradients(tables))
