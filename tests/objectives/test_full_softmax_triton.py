"""Full softmax in kernels that write no logits gives what the chunked one gives; without a GPU, in the interpreter."""

from __future__ import annotations

import pytest
import torch

from skiplight.objectives.full_softmax import _SoftmaxLoss
from skiplight.objectives.full_softmax_triton import BY_INPUTS, PIECE, SHARED, _sums, fit, softmax_with_gradients

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("kind", "relative"), [(torch.float32, 1e-5 if DEVICE.type == "cpu" else 3e-3), (torch.float16, 3e-3)]
)
@pytest.mark.parametrize(("n", "words", "dim", "bias"), [(3, 70, 20, True), (70, 130, 16, False), (64, 64, 33, True)])
def test_loss_and_gradients_are_those_of_the_chunked_softmax(
    n: int, words: int, dim: int, bias: bool, kind: torch.dtype, relative: float
) -> None:
    generator = torch.Generator().manual_seed(n)
    vectors, output = (torch.randn((rows, dim), generator=generator).to(kind) for rows in (n, words))
    counts = torch.randint(1, 9, (n,), generator=generator)
    targets = torch.randint(words, (int(counts.sum()),), generator=generator)
    own = torch.randn((words, 1), generator=generator) if bias else None

    factors = [table.float().requires_grad_() for table in (vectors, output)]
    row = None if own is None else own.clone().requires_grad_()
    loss = _SoftmaxLoss.apply(*factors, row, counts, targets, 32)
    loss.backward()

    moved = [t.to(DEVICE) if t is not None else None for t in (vectors, output, own, counts, targets)]
    made = softmax_with_gradients(
        moved[0], moved[1], None if moved[2] is None else moved[2].squeeze(1), moved[3], moved[4]
    )  # type: ignore[arg-type]
    assert float(made.loss) == pytest.approx(float(loss), rel=relative)
    for got, want in zip(made[1:3], factors, strict=True):
        scale = float(want.grad.abs().max())  # type: ignore[union-attr]
        torch.testing.assert_close(got.cpu(), want.grad, rtol=relative, atol=relative * scale)
    if row is not None:
        torch.testing.assert_close(made.by_bias.cpu()[:, None], row.grad, rtol=1e-2, atol=1e-2)


def test_scores_far_apart_do_not_overflow() -> None:
    vectors, output = torch.full((1, 16), 8.0), torch.ones((3, 16)) * torch.tensor([[-9.0], [0.0], [9.0]])
    made = softmax_with_gradients(
        vectors.to(DEVICE), output.to(DEVICE), None, *(torch.tensor([t], device=DEVICE) for t in (1, 2))
    )
    assert float(made.loss) == 0
    assert bool(torch.isfinite(made.by_vectors).all())
    assert float(made.by_output.abs().max()) == 0


def test_rows_whose_bounds_are_too_far_apart_keep_a_running_maximum() -> None:
    """In one call, tiles of either kind; the mean score is 0, and the bound of some rows 300 powers of two."""
    generator = torch.Generator().manual_seed(0)
    vectors, output = (torch.randn((rows, 16), generator=generator) for rows in (130, 200))
    output -= output.mean(0)
    vectors[70] *= 20
    counts, targets = torch.ones(130, dtype=torch.int64), torch.arange(130)
    made = softmax_with_gradients(
        *(t.to(DEVICE) for t in (vectors, output)), None, counts.to(DEVICE), targets.to(DEVICE)
    )

    v, u = (table.double().requires_grad_() for table in (vectors, output))
    loss = torch.nn.functional.cross_entropy(v @ u.T, targets, reduction="sum")
    loss.backward()
    assert float(made.loss) == pytest.approx(float(loss), rel=1e-3)
    for got, want in zip(made[1:3], (v, u), strict=True):
        torch.testing.assert_close(got.cpu().double(), want.grad, rtol=1e-2, atol=1e-2)


def test_sums_of_runs_from_none_to_many_rows() -> None:
    lengths = torch.tensor([0, 1, PIECE, 0, PIECE + 1, 20 * PIECE + 3, 5, 0])
    generator = torch.Generator().manual_seed(0)
    table, rows = torch.randn((50, 20), generator=generator), torch.randint(50, (int(lengths.sum()),))
    got = _sums(table.to(DEVICE), rows.to(DEVICE), lengths.cumsum(0).to(DEVICE))
    want = torch.stack([table[run].sum(0) for run in rows.split(lengths.tolist())])
    torch.testing.assert_close(got.cpu(), want, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shared", [SHARED, 101_376, 65_536])
@pytest.mark.parametrize(("width", "element"), [(16, 2), (128, 2), (128, 4), (256, 2), (256, 4)])
def test_tiles_fit_the_shared_memory_of_the_device(width: int, element: int, shared: int) -> None:
    tiles = fit(BY_INPUTS, width, element, shared)
    assert tiles.other >= 16
    assert (tiles.own + tiles.stages * tiles.other) * width * element < shared or tiles.other == 16
