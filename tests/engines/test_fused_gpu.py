"""The fused GPU engine moves the tables as the reference does; without a GPU, in Triton's interpreter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from skiplight.engines import fused_gpu, in_flight
from skiplight.engines.fused_gpu import FusedGpuEngine
from skiplight.objectives.base import Tables
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.windows import WindowSampler
from skiplight.training.module import SkipGramModule
from tests.support.cuda_on_cpu import run_kernel_on_cpu
from tests.support.own_script import make_trainer
from tests.support.reference import one_window_a_step

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# Tensor cores round factors to 10 bits of mantissa; the interpreter does not.
CLOSE = {"rtol": 3e-3, "atol": 3e-4} if DEVICE.type == "cuda" else {"rtol": 1e-4, "atol": 1e-6}
WORDS = 3000


def some_tables(dim: int, words: int = WORDS) -> Tables:
    """Tables with scores of some size, positive and negative."""
    tables = Tables(words, dim)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for table in (tables.input, tables.output):
            table.weight.normal_(0, dim**-0.25, generator=generator)
    return tables.to(DEVICE)


def a_sampler(words: int = WORDS, **options) -> WindowSampler:
    return WindowSampler(np.ones(words, dtype=int), **{"subsample": 0, "window": 3, "negatives": 5, **options})


LAYOUTS = ["warp", "resident", "reloaded"]


class Laid(FusedGpuEngine):
    """The engine with the layout of the test instead of its own choice."""


@pytest.fixture(autouse=True)
def layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The layout of windows, by default the one in registers; on a CPU the warps are emulated."""
    chosen = getattr(request, "param", "resident")
    monkeypatch.setattr(Laid, "layout", chosen)
    if chosen == "warp" and DEVICE.type == "cpu":
        run_kernel_on_cpu(monkeypatch)
    return chosen


def fused(tables: Tables, sampler: WindowSampler, programs: int = 2) -> FusedGpuEngine:
    objective = NegativeSampling(sampler.noise.probabilities)
    return Laid(objective, tables, torch.optim.SGD(tables.parameters(), lr=1), sampler, programs)


def a_text(*lengths: int, words: int = WORDS) -> TokenBlock:
    """Documents in which no word comes twice, so that windows meet no row of the inputs at the same time."""
    rng = np.random.default_rng(0)
    return TokenBlock.of([rng.permutation(words)[:length].tolist() for length in lengths]).to(DEVICE)


def assert_moved_alike(tables: Tables, expected: Tables, dim: int, atol: float = 2e-3) -> None:
    """The changes agree, relative to the longest of them."""
    for got, want, before in zip(
        tables.parameters(), expected.parameters(), some_tables(dim, len(tables.input.weight)).parameters(), strict=True
    ):
        scale = (want - before).abs().max().item()
        assert scale > 0
        torch.testing.assert_close((got - before) / scale, (want - before) / scale, rtol=1e-2, atol=atol)


SHAPES = [
    pytest.param("warp", {"window": 3, "negatives": 5}, 20, (40, 1, 0, 23), id="warps"),
    pytest.param("warp", {"window": 1, "negatives": 1}, 33, (21, 2, 3), id="warps that read one number at a time"),
    pytest.param("warp", {"window": 5, "negatives": 15, "exclude": "window"}, 128, (40, 9), id="warps, full"),
    pytest.param("warp", {"window": 4, "negatives": 7, "exclude": "none"}, 150, (40, 9), id="warps, rows in parts"),
    pytest.param("warp", {"window": 17, "negatives": 2}, 20, (60, 9), id="warps, a wide window"),
    pytest.param("resident", {"window": 3, "negatives": 5}, 20, (40, 1, 0, 23), id="in registers"),
    pytest.param("resident", {"window": 2, "negatives": 18, "exclude": "window"}, 37, (21, 2, 3), id="two groups"),
    pytest.param("reloaded", {"window": 3, "negatives": 5, "exclude": "none"}, 20, (40, 1, 0, 23), id="reloaded"),
    pytest.param("reloaded", {"window": 9, "negatives": 18}, 150, (25, 9), id="reloaded in pieces"),
    pytest.param("reloaded", {"window": 2, "negatives": 3, "shared": "pair"}, 20, (12, 1, 5), id="pairs"),
    pytest.param("reloaded", {"window": 2, "negatives": 2, "shared": "pair"}, 150, (9,), id="pairs in pieces"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("dim", "window", "negatives", "pair", "cuda", "chosen"),
    [
        (128, 5, 5, False, True, "warp"),
        (128, 5, 15, False, True, "warp"),
        (512, 5, 5, False, True, "warp"),
        (128, 5, 16, False, True, "resident"),  # more scores than lanes
        (256, 5, 13, False, True, "resident"),  # more numbers than registers
        (256, 15, 5, False, True, "reloaded"),  # more context rows than shared memory
        (128, 5, 5, True, True, "reloaded"),
        (128, 5, 5, False, False, "resident"),
    ],
)
def test_the_layout_is_the_fastest_that_fits(
    dim: int, window: int, negatives: int, pair: bool, cuda: bool, chosen: str
) -> None:
    assert fused_gpu.shape(dim, window, negatives, pair=pair, cuda=cuda).layout == chosen


@pytest.mark.parametrize("programs", [1, 3])
@pytest.mark.parametrize(("layout", "options", "dim", "lengths"), SHAPES, indirect=["layout"])
def test_tables_are_those_of_the_reference(
    layout: str, options: dict, dim: int, lengths: tuple[int, ...], programs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_gpu, "SHORTEST", 8)  # several programs, whose runs meet within a segment
    sampler, block = a_sampler(**options), a_text(*lengths)
    windows = sampler(block)
    tables, expected = some_tables(dim), some_tables(dim)
    loss, pairs = one_window_a_step(expected, windows, [1e-3] * len(windows.target))
    engine = fused(tables, sampler, programs)
    assert engine.shape.layout == layout
    result = engine.step(block, 1e-3, 1e-3)
    # Where programs run at the same time, those that meet miss what the other has in flight.
    at_once = programs > 1 and DEVICE.type == "cuda"
    assert_moved_alike(tables, expected, dim, atol=2e-2 if at_once else 2e-3)
    assert int(result.pairs) == pairs
    rounded = DEVICE.type == "cuda" and layout != "warp"  # to TF32
    assert float(result.loss_sum) == pytest.approx(loss, rel=1e-3 if at_once or rounded else 1e-4)
    assert result.loss is None


@pytest.mark.parametrize(
    ("layout", "shared"), [("warp", "window"), ("resident", "window"), ("reloaded", "pair")], indirect=["layout"]
)
def test_one_window_is_one_update_with_repeated_words(layout: str, shared: str) -> None:
    # Seven words of four kinds and as few to draw from: contexts, negatives and the target repeat. Only the fourth
    # token's window is left, since the rate is zero at the others.
    sampler = a_sampler(4, window=3, negatives=5, shared=shared, exclude="none")
    block = TokenBlock.of([[0, 1, 2, 0, 1, 0, 3]]).to(DEVICE)
    windows = sampler(block)
    tables, expected = some_tables(20, 4), some_tables(20, 4)
    lrs = [0.0] * 7
    lrs[3] = 0.5
    one_window_a_step(expected, windows, lrs)
    engine = fused(tables, sampler, programs=1)
    only_fourth(engine)
    engine.step(block, 0.5, 0.5)
    for got, want in zip(tables.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(got, want, **CLOSE)


def only_fourth(engine: FusedGpuEngine) -> None:
    """Has the engine think that no other kept token of a block has a window."""
    centres_of = engine.device_sampler.centres

    def centres(block: TokenBlock):
        found = centres_of(block)
        for side in (found.left, found.right):
            side[:3], side[4:] = 0, 0
        return found

    engine.device_sampler.centres = centres  # type: ignore[method-assign]


@pytest.mark.parametrize("layout", LAYOUTS, indirect=True)
def test_rows_that_others_move_too_take_shorter_steps(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resident = layout == "resident"
    monkeypatch.setattr(fused_gpu, "SHORTEST", 8)
    sampler, block = a_sampler(), a_text(30)
    windows, lr = sampler(block), 1e-3
    # The same for every word.
    inputs, outputs = (float(rows.max()) for rows in in_flight.in_flight_gradients(sampler, resident))
    # Two other programs; output rows take half their steps, input rows less where they are resident.
    monkeypatch.setattr(in_flight, "MOST", lr * 2 * outputs / 2)
    tables, expected = some_tables(20), some_tables(20)
    one_window_a_step(expected, windows, [lr] * len(windows.target))
    with torch.no_grad():
        for got, before, rows in zip(
            expected.parameters(), some_tables(20).parameters(), (inputs, outputs), strict=True
        ):
            got.copy_(before + (got - before) * min(1.0, outputs / 2 / rows))
    fused(tables, sampler, programs=3).step(block, lr, lr)
    assert_moved_alike(tables, expected, 20)


@pytest.mark.parametrize("layout", ["warp"], indirect=True)
@pytest.mark.parametrize("frequent", [0, 1500, WORDS])
@pytest.mark.parametrize("dim", [20, 33, 128])
def test_rows_of_frequent_words_are_read_and_added_to_in_each_window(
    layout: str, frequent: int, dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of the first `frequent` words, so many gradients are in flight in a whole reach that the row is read again, but
    # not so many in one window that its steps are shortened.
    monkeypatch.setattr(fused_gpu, "SHORTEST", 8)
    sampler, block, lr = a_sampler(), a_text(30, 5, 20), 1e-3
    tables, expected = some_tables(dim), some_tables(dim)
    one_window_a_step(expected, sampler(block), [lr] * 55)
    engine = fused(tables, sampler, programs=3)
    inputs, outputs = engine.in_flight
    inputs[:frequent], outputs[:] = 0.9 * in_flight.MOST / (2 * lr), 0
    assert float(inputs[frequent:].sum()) * 7 * 2 * lr < in_flight.MOST
    engine.step(block, lr, lr)
    assert_moved_alike(tables, expected, dim, 2e-2 if DEVICE.type == "cuda" else 2e-3)


@pytest.mark.parametrize("layout", LAYOUTS, indirect=True)
def test_the_rate_falls_token_by_token() -> None:
    sampler, block = a_sampler(window=2), a_text(3, 5)
    tables, expected = some_tables(20), some_tables(20)
    one_window_a_step(expected, sampler(block), np.linspace(0.01, 0.0, 8, endpoint=False).tolist())
    fused(tables, sampler).step(block, 0.01, 0.0)
    assert_moved_alike(tables, expected, 20)


@pytest.mark.parametrize("layout", LAYOUTS, indirect=True)
def test_a_block_whose_negatives_do_not_fit_is_trained_in_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler, block = a_sampler(), a_text(30, 15)
    whole, parts = some_tables(20), some_tables(20)
    at_once = fused(whole, sampler).step(block, 1e-3, 1e-3)
    monkeypatch.setattr(fused_gpu, "NEGATIVES", 5 * 16)
    in_parts = fused(parts, sampler).step(block, 1e-3, 1e-3)
    assert int(in_parts.pairs) == int(at_once.pairs)
    assert float(in_parts.loss_sum) == pytest.approx(float(at_once.loss_sum), rel=1e-4)
    assert_moved_alike(parts, whole, 20)


@pytest.mark.parametrize("layout", LAYOUTS, indirect=True)
@pytest.mark.parametrize("score", [-200.0, -60.0, -6.0, 0.0, 0.3, 7.0, 30.0, 200.0])
def test_sigmoid_and_loss_are_exact_and_do_not_saturate(score: float) -> None:
    # Words 0 and 1 predict each other, and no noise may be drawn: row v_1 moves by σ(-score)·u_0 only, and its second
    # number is zero before, so that it shows the sigmoid unrounded.
    sampler = a_sampler(2, window=1, exclude="window")
    tables = some_tables(20, 2)
    with torch.no_grad():
        tables.input.weight.zero_()
        tables.output.weight.zero_()
        tables.input.weight[1, 0] = score
        tables.output.weight[0, :2] = 1.0
    result = fused(tables, sampler, programs=1).step(TokenBlock.of([[0, 1]]).to(DEVICE), 1.0, 1.0)
    sigmoid = math.exp(-max(score, 0.0)) / (1 + math.exp(-abs(score)))
    assert float(tables.input.weight[1, 1].detach()) == pytest.approx(sigmoid, rel=1e-3, abs=1e-30)
    softplus = max(-score, 0.0) + math.log1p(math.exp(-abs(score)))
    assert float(result.loss_sum) == pytest.approx(softplus + math.log(2), rel=1e-3)


@pytest.mark.parametrize("layout", LAYOUTS, indirect=True)
def test_not_a_number_is_seen() -> None:
    tables = some_tables(20)
    with torch.no_grad():
        tables.input.weight[1, 3] = math.nan
    result = fused(tables, a_sampler()).step(TokenBlock.of([[0, 1, 2]]).to(DEVICE), 0.1, 0.1)
    assert math.isnan(float(result.loss_sum))


@pytest.mark.parametrize("layout", LAYOUTS, indirect=True)
def test_empty_blocks_do_nothing() -> None:
    tables = some_tables(20)
    engine = fused(tables, a_sampler())
    for texts in ([], [[]], [[1]], [[], [2], []]):
        result = engine.step(TokenBlock.of(texts).to(DEVICE), 0.1, 0.1)
        assert (float(result.loss_sum), int(result.pairs)) == (0, 0)
    for got, want in zip(tables.parameters(), some_tables(20).parameters(), strict=True):
        assert torch.equal(got, want)


def test_lightning_trains_with_it_and_learns_of_loss_and_pairs_later() -> None:
    class Here(FusedGpuEngine):
        device = DEVICE.type

    sampler, tables = a_sampler(window=2), some_tables(20).cpu()
    blocks = [a_text(6).to("cpu"), a_text(5, 4).to("cpu")]
    objective = NegativeSampling(sampler.noise.probabilities)
    module = SkipGramModule(tables, objective, lr=1e-3, total_tokens=15, engine=Here.maker(sampler, None))
    trainer = make_trainer(accelerator=DEVICE.type, max_epochs=1)
    trainer.fit(module, DataLoader(blocks, batch_size=None))  # type: ignore[arg-type]
    assert trainer.global_step == 2
    assert module.tokens == 15
    loss, pairs = module.take_loss()
    assert pairs == sum(sampler(block).pairs for block in blocks)
    assert isinstance(pairs, int)
    assert loss / pairs == pytest.approx(5.0, abs=1.5)
    assert not torch.equal(tables.input.weight.cpu(), some_tables(20).input.weight.cpu())


@pytest.mark.parametrize("layout", LAYOUTS, indirect=True)
def test_words_that_repeat_learn_as_in_the_reference_in_the_mean() -> None:
    # Few words that collide all the time: programs work on rows of one another, and the loss falls as it should.
    rng = np.random.default_rng(0)
    texts = [np.repeat(rng.permutation(4), 2)[:8].tolist() for _ in range(12)]
    sampler = WindowSampler(np.array([24, 24, 24, 24]), window=2, subsample=0, negatives=3)
    losses = {}
    for kind in ("reference", "fused"):
        tables = Tables(4, 20).to(DEVICE)
        losses[kind] = []
        engine = fused(tables, sampler, programs=3)
        for epoch in range(3):
            block = TokenBlock.of(texts, epoch).to(DEVICE)
            windows = sampler(block)
            if kind == "fused":
                losses[kind].append(float(engine.step(block, 0.1, 0.1).loss_sum))
            else:
                losses[kind].append(one_window_a_step(tables, windows, [0.1] * len(windows.target))[0])
    assert losses["reference"][2] < 0.97 * losses["reference"][0]
    assert losses["fused"] == pytest.approx(losses["reference"], rel=0.05 if DEVICE.type == "cuda" else 0.03)
