"""Noise that changes during a training: a function of the tokens consumed, for every engine and after a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from skiplight import SkipGramDataModule, SkipGramModule, compose, register_noise, register_objective
from skiplight.engines.fused_cpu import FusedCpuEngine
from skiplight.errors import ConfigError
from skiplight.objectives import NegativeSampling, Objective, make_objective
from skiplight.objectives.base import Tables
from skiplight.registry import NOISE, OBJECTIVES
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.noise import STAGES, AnnealedNoise, NoiseDistribution, power_weights
from skiplight.sampling.windows import WindowSampler
from skiplight.training.fit import train
from tests.support.own_script import make_components, make_trainer, small_options
from tests.support.reference import one_window_a_step
from tests.support.runs import metrics
from tests.support.texts import write_texts

pytestmark = pytest.mark.filterwarnings("ignore")

COUNTS = np.array([500, 200, 100, 50, 20, 10, 5, 2])
TEXT = np.random.default_rng(0).choice(8, 300, p=COUNTS / COUNTS.sum()).tolist()


def annealed() -> AnnealedNoise:
    return AnnealedNoise(lambda progress: power_weights(COUNTS, -1 + 3 * progress))


def constant(stage: int) -> NoiseDistribution:
    return NoiseDistribution(power_weights(COUNTS, -1 + 3 * (stage / (STAGES - 1))))


@pytest.mark.parametrize("shared", ["window", "pair"])
def test_one_thread_trains_across_stages_as_the_reference_does(shared: Any) -> None:
    options: dict[str, Any] = {"negatives": 5, "shared": shared, "subsample": 0, "window": 3}
    sampler = WindowSampler(COUNTS, noise=annealed(), **options)
    tables, expected = Tables(8, 20), Tables(8, 20)
    objective = NegativeSampling(sampler.noise.probabilities)
    engine = FusedCpuEngine(objective, tables, torch.optim.SGD(tables.parameters(), lr=1), sampler, 1)
    for index, stage in enumerate((0, 1, 10, STAGES - 1, 4)):
        block = TokenBlock.of([TEXT[index * 60 : index * 60 + 60]], epoch=index)
        sampler.enter_stage(stage)
        engine.change_noise()
        windows = WindowSampler(COUNTS, noise=constant(stage), **options).reference(block)
        assert torch.equal(sampler(block).negatives, windows.negatives)
        loss, _ = one_window_a_step(expected, windows, [0.05] * len(windows.target))
        assert float(engine.step(block, 0.05, 0.05).loss_sum) == pytest.approx(loss, rel=1e-5)
        for got, want in zip(tables.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(got, want, rtol=1e-3, atol=2e-5)
    before = sampler(block).negatives
    assert sampler.enter_stage(19)
    assert not sampler.enter_stage(19)
    assert not torch.equal(sampler(block).negatives, before)


def test_steps_of_frequent_words_are_shortened_by_the_noise_of_the_stage() -> None:
    sampler = WindowSampler(COUNTS, noise=annealed())
    tables = Tables(8, 20)
    objective, optimizer = NegativeSampling(sampler.noise.probabilities), torch.optim.SGD(tables.parameters(), lr=1)
    engine = FusedCpuEngine(objective, tables, optimizer, sampler, 1, 64)
    first = engine.scales.in_flight["output"][0]
    sampler.enter_stage(STAGES - 1)
    engine.change_noise()
    last = WindowSampler(COUNTS, noise=constant(STAGES - 1))
    other = FusedCpuEngine(objective, tables, optimizer, last, 1, 64)
    assert engine.scales.in_flight["output"].tolist() == other.scales.in_flight["output"].tolist()
    assert engine.scales.in_flight["output"][0] > 2 * first


def test_the_gpu_engine_takes_the_table_of_the_stage() -> None:
    pytest.importorskip("triton")
    from skiplight.engines.fused_gpu import FusedGpuEngine

    device = "cuda" if torch.cuda.is_available() else "cpu"
    sampler, tables = WindowSampler(COUNTS, noise=annealed()), Tables(8, 16).to(device)
    engine = FusedGpuEngine(
        NegativeSampling(sampler.noise.probabilities), tables, torch.optim.SGD(tables.parameters(), lr=1), sampler
    )
    sampler.enter_stage(7)
    engine.change_noise()
    assert engine.device_sampler.columns.cpu().numpy().view(np.uint64).tolist() == constant(7).columns.tolist()
    in_flight = [rows.cpu().tolist() for rows in engine.in_flight]
    assert in_flight == [rows.tolist() for rows in engine.scales.in_flight.values()]


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if OBJECTIVES[name].target.needs_noise])
@pytest.mark.parametrize("exclude", ["none", "target"])
def test_corrections_are_those_of_the_stage(name: str, exclude: Any) -> None:
    sampler = WindowSampler(COUNTS, noise=annealed(), subsample=0, exclude=exclude)
    objective = make_objective(name, COUNTS, sampler)
    sampler.enter_stage(13)
    objective.set_noise(sampler.noise.probabilities)
    fresh = make_objective(name, COUNTS, WindowSampler(COUNTS, noise=constant(13), exclude=exclude))
    windows, tables = sampler(TokenBlock.of([TEXT[:100]])), Tables(8, 4)
    torch.nn.init.normal_(tables.output.weight)
    assert float(objective.loss(tables, windows).sum) == float(fresh.loss(tables, windows).sum)
    assert torch.equal(objective.logits(tables, torch.arange(8)), fresh.logits(tables, torch.arange(8)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("annealed")
    write_texts(folder / "texts", files=1, documents=150, words=60)
    return folder


def options(folder: Path, *more: str) -> list[str]:
    small = ["model.dim=20", "data.block_tokens=250", "trainer.max_epochs=2"]
    return small_options(folder, *small, "noise=annealed_power", "noise.begin=-0.5", "noise.end=1.5", *more)


class Stages(lightning.Callback):
    """Keeps the tokens before each step, and the stage in which it draws."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int]] = []

    def on_before_zero_grad(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.seen.append((module.tokens, module.sampler.stage))


def trained(folder: Path, engine: str, *callbacks: Any, resume: Path | None = None, **options_: Any) -> SkipGramModule:
    module, data = make_components(options(folder, f"engine={engine}", "optim.lr=0.01"))
    trainer = make_trainer(callbacks, limit_val_batches=0, max_epochs=2, **options_)
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    return module


@pytest.mark.parametrize("engine", ["fused", "autograd"])
def test_a_run_that_stops_within_a_stage_goes_on_as_if_it_had_not(folder: Path, tmp_path: Path, engine: str) -> None:
    stages = Stages()
    whole = trained(folder, engine, stages)
    assert stages.seen == [(t, AnnealedNoise.stage(t, whole.total_tokens)) for t, _ in stages.seen]
    assert {stage for _, stage in stages.seen} == set(range(STAGES))
    steps = next(n for n, (_, stage) in enumerate(stages.seen) if stage == 9) + 1  # the second of the stage is next
    assert stages.seen[steps][1] == 9
    trained(folder, engine, ModelCheckpoint(tmp_path, save_last=True, every_n_train_steps=1), max_steps=steps)
    again = Stages()
    rest = trained(folder, engine, again, resume=tmp_path / "last.ckpt")
    assert again.seen == stages.seen[steps:]
    for table, other in zip(whole.tables.parameters(), rest.tables.parameters(), strict=True):
        assert torch.equal(table, other)
    log_noise = np.log(rest.sampler.noise.probabilities)  # type: ignore[union-attr]
    torch.testing.assert_close(rest.objective.log_noise, torch.from_numpy(log_noise).float())  # type: ignore[arg-type]


def test_a_run_of_nce_is_not_judged_by_the_noise_of_its_beginning(folder: Path, tmp_path: Path) -> None:
    given = ["objective=nce", "noise.begin=0.9", "noise.end=-2", "optim.lr=1e-9"]
    train(compose(*options(folder, *given)), tmp_path / "run")
    losses = [line["train/loss"] for line in metrics(tmp_path / "run") if "train/loss" in line]
    assert len(losses) > 5


def test_what_cannot_follow_the_noise_is_refused_by_name(folder: Path) -> None:
    @register_objective("stuck")
    class Stuck(OBJECTIVES["nce"].target):  # type: ignore[misc, name-defined]
        set_noise = Objective.set_noise

    @register_noise("vanishing")
    def vanishing(counts: np.ndarray, *, progress: float = 0.0, level: float = 0.5) -> np.ndarray:
        return np.where(np.arange(len(counts)) == 0, 1.0, 1.0 if progress < level else np.nan)

    try:
        config = compose(*options(folder, "objective=stuck"))
        with pytest.raises(ConfigError, match=r"`noise=annealed_power` changes .* has no method `set_noise`"):
            SkipGramModule.from_config(config, SkipGramDataModule.from_config(config))
        data = [one for one in options(folder) if not one.startswith("noise")]
        with pytest.raises(ConfigError, match=r"`noise=vanishing` .* is not finite"):
            SkipGramDataModule.from_config(compose(*data, "noise=vanishing", "noise.level=0.7"))
    finally:
        del OBJECTIVES._entries["stuck"], NOISE._entries["vanishing"]
