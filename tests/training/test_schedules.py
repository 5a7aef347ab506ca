"""Learning-rate schedules over tokens, arguments of optimisers, and optimisers and schedulers of one's own."""

from __future__ import annotations

import csv
import dataclasses
import functools
import math
from pathlib import Path
from typing import Any, ClassVar

import lightning
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from skiplight import SkipGramDataModule, SkipGramModule, compose, register_schedule
from skiplight.engines.optimizers import changed_args, optimizer_args, optimizer_class
from skiplight.errors import ConfigError
from skiplight.registry import SCHEDULES
from skiplight.training.fit import train
from skiplight.training.module import learning_rate
from skiplight.training.schedules import FINAL_LR, cosine, linear, make_schedule, wsd
from tests.support.own_script import make_components, make_trainer, small_options
from tests.support.reference import adagrad_slack
from tests.support.runs import metrics
from tests.support.texts import write_texts

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schedules")
    write_texts(folder / "texts", files=1, documents=20)
    return folder


def options(folder: Path, *more: str) -> list[str]:
    return small_options(folder, "model.dim=8", "data.block_tokens=700", "trainer.max_epochs=1", *more)


PARTS = st.floats(0, 1)
SHARES = st.floats(0.01, 0.99)


class TestShapes:
    """The built-in schedules, as functions."""

    @given(PARTS)
    def test_linear_is_word2vecs(self, progress: float) -> None:
        assert linear(progress) == max(1 - progress, FINAL_LR)

    @given(PARTS, SHARES)
    def test_cosine_rises_and_falls_by_half_a_wave(self, progress: float, warmup: float) -> None:
        factor = cosine(progress, warmup, 0.1, total=1000)
        if progress < warmup:
            assert factor == progress / warmup
        else:
            turn = math.pi * (progress - warmup) / (1 - warmup)
            assert factor == pytest.approx(0.1 + 0.9 * math.cos(turn / 2) ** 2)

    @given(PARTS, SHARES, SHARES)
    def test_wsd_is_continuous_and_ends_where_it_is_told(self, progress: float, warmup: float, decay: float) -> None:
        def factor(progress: float) -> float:
            return wsd(progress, warmup, decay, 0.25, total=1000)

        assert (factor(0.0), factor(1.0)) == (0, 0.25)
        if warmup < progress < 1 - decay:
            assert factor(progress) == 1
        before = max(progress - 1e-6, 0)
        assert abs(factor(progress) - factor(before)) <= 1.01e-6 / min(warmup, decay) + 1e-12

    @given(st.integers(1, 5_000), st.integers(5_000, 10**9))
    def test_a_trunk_has_the_same_rates_whatever_the_length_of_the_run(self, tokens: int, total: int) -> None:
        def rate(total: int) -> float:
            return learning_rate(0.1, tokens, total, functools.partial(wsd, warmup=2000, decay=0, final=0, total=total))

        assert rate(total) == pytest.approx(rate(5_000), rel=1e-9)
        assert rate(total) == pytest.approx(0.1 * min(tokens / 2000, 1))

    def test_amounts_are_shares_below_1_and_else_tokens(self) -> None:
        shares, tokens = ["warmup=0.1", "decay=0.25"], ["warmup=400", "decay=1000"]
        made = [
            make_schedule(compose("optim.schedule=wsd", *(f"optim.schedule.{one}" for one in own)).optim.schedule, 4000)
            for own in (shares, tokens)
        ]
        for part in range(101):
            assert made[0](part / 100) == pytest.approx(made[1](part / 100))


def test_a_schedule_that_is_no_factor_is_an_error_that_names_it() -> None:
    bad = {
        "below": lambda progress: -progress,
        "endless": lambda progress: 1 / progress if progress else math.inf,
        "still": lambda progress: 0.0,
        "broken": lambda progress: progress.missing,
    }
    config = compose().optim.schedule
    for name, target in bad.items():
        SCHEDULES.register(name)(target)
        try:
            with pytest.raises(ConfigError, match=rf"`optim.schedule={name}` \(tests.training.test_schedules\): "):
                make_schedule(dataclasses.replace(config, name=name), 10)
        finally:
            del SCHEDULES._entries[name]


@pytest.mark.parametrize("engine", ["fused", "autograd"])
def test_the_rate_follows_a_schedule_of_ones_own_on_every_engine(folder: Path, tmp_path: Path, engine: str) -> None:
    seen: list[int] = []

    @register_schedule("power_law")
    class PowerLaw:
        def __init__(self, *, power: float = 2.0, total: int = 0) -> None:
            self.power = power
            seen.append(total)

        def __call__(self, progress: float) -> float:
            return (1 - progress / 2) ** self.power

    try:
        own = ["optim.schedule=power_law", "optim.schedule.power=3", f"engine={engine}", "optim.lr=0.05"]
        train(compose(*options(folder, *own)), tmp_path / "run")
    finally:
        del SCHEDULES._entries["power_law"]
    lines = [line for line in metrics(tmp_path / "run") if "lr" in line]
    total = lines[-1]["tokens"]
    assert seen == [total]
    assert len(lines) > 5
    for line in lines:
        assert line["lr"] == pytest.approx(0.05 * (1 - line["tokens"] / total / 2) ** 3)


class Rates(lightning.Callback):
    """Keeps the rate of each step, when the gradients are there."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []

    def on_before_zero_grad(self, trainer: Any, module: Any, optimizer: Any) -> None:
        self.rates.append([group["lr"] for group in optimizer.param_groups])


def components(folder: Path, kind: type[SkipGramModule], *more: str) -> tuple[SkipGramModule, SkipGramDataModule]:
    return make_components(options(folder, *more), kind)


class OwnScheduler(SkipGramModule):
    """The optimiser of the options, and a torch scheduler."""

    def configure_optimizers(self) -> Any:
        optimizer = super().configure_optimizers()
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class OwnOptimizer(SkipGramModule):
    """Another optimiser, with a rate for each table and no scheduler."""

    def configure_optimizers(self) -> Any:
        tables = [{"params": [self.tables.input.weight], "lr": 0.002}, {"params": [self.tables.output.weight]}]
        return torch.optim.RMSprop(tables, lr=0.01)


@pytest.mark.parametrize("engine", ["fused", "autograd"])
def test_a_torch_scheduler_sets_the_rate(folder: Path, tmp_path: Path, engine: str) -> None:
    module, data = components(folder, OwnScheduler, f"engine={engine}", "optim.lr=0.05")
    rates, logger = Rates(), CSVLogger(tmp_path)
    trainer = make_trainer([rates, LearningRateMonitor("step")], logger=logger, log_every_n_steps=1, max_epochs=1)
    trainer.fit(module, data)
    expected = [[pytest.approx(0.05 * 0.9**step)] for step in range(trainer.global_step)]
    assert rates.rates == expected
    assert len(expected) > 5
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        logged = [[float(line["lr-SGD"])] for line in csv.DictReader(file) if line["lr-SGD"]]
    assert logged == expected
    assert module.lr_at(0) == pytest.approx(0.05 * 0.9**trainer.global_step)
    assert float(module.tables.output.weight.abs().sum()) > 0


def test_the_fused_engine_trains_with_the_rate_of_a_torch_scheduler(folder: Path) -> None:
    class Still(OwnScheduler):
        def configure_optimizers(self) -> Any:
            optimizer = super(OwnScheduler, self).configure_optimizers()
            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: float(step < 2))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    class Tables(lightning.Callback):
        seen: ClassVar[list[torch.Tensor]] = []

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            self.seen.append(pl_module.tables.input.weight.detach().clone())

    module, data = components(folder, Still, "engine=fused")
    tables = Tables()
    make_trainer([tables], max_epochs=1).fit(module, data)
    moved = [not torch.equal(a, b) for a, b in zip(tables.seen, tables.seen[1:], strict=False)]
    assert moved == [True] + [False] * (len(moved) - 1)


def test_an_optimiser_of_ones_own_keeps_its_rates_and_gets_dense_gradients(folder: Path, tmp_path: Path) -> None:
    module, data = components(folder, OwnOptimizer, "engine=autograd")
    assert module.tables.sparse  # as the options say
    rates, saving = Rates(), ModelCheckpoint(tmp_path)
    make_trainer([rates, saving], max_epochs=1).fit(module, data)
    assert rates.rates
    assert all(pair == [0.002, 0.01] for pair in rates.rates)
    assert type(module.engine.optimizer) is torch.optim.RMSprop
    assert not module.tables.sparse
    again = OwnOptimizer.load_from_checkpoint(saving.best_model_path)
    assert torch.equal(again.tables.input.weight, module.tables.input.weight)


def test_what_the_fused_engine_cannot_do_with_ones_own_optimiser_is_refused(folder: Path) -> None:
    module, data = components(folder, OwnOptimizer, "engine=fused")
    with pytest.raises(ConfigError, match="the optimiser RMSprop, parameter groups with different learning rates"):
        make_trainer(max_epochs=1).fit(module, data)

    class Two(SkipGramModule):
        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD([table], lr=0.1) for table in self.tables.parameters()]

    module, data = components(folder, Two, "engine=autograd")
    module.automatic_optimization = False  # Lightning itself refuses two otherwise
    with pytest.raises(ConfigError, match="returns 2 optimisers: the tables take one"):
        make_trainer(max_epochs=1).fit(module, data)


def test_a_checkpoint_of_ones_own_trainer_carries_schedule_and_arguments(folder: Path, tmp_path: Path) -> None:
    own = ["optim.schedule=wsd", "optim.schedule.decay=0.5", "optim.args.momentum=0.9", "optim.args.nesterov=true"]
    module, data = components(folder, SkipGramModule, *own, "optim.lr=0.01")
    rates, saving = Rates(), ModelCheckpoint(tmp_path)
    make_trainer([rates, saving], max_epochs=1).fit(module, data)
    assert module.engine.name == "autograd"
    assert rates.rates[0] == [0.01]
    assert rates.rates[-1][0] < 0.002
    again = SkipGramModule.load_from_checkpoint(saving.best_model_path)
    total = again.total_tokens
    assert [again.lr_at(n) for n in range(0, total, 99)] == [module.lr_at(n) for n in range(0, total, 99)]
    again.configure_optimizers()
    assert changed_args(again.engine.optimizer) == {"momentum": 0.9, "nesterov": True}


class TestArguments:
    """optim.args"""

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("optim.args.momentun=0.9", r"`optim.args.momentun=0.9`: SGD has momentum, dampening"),
            ("optim.args.lr=0.9", r"`optim.args.lr=0.9`: give `optim.lr=0.9`"),
            ("optim.args.momentum=-1", r"`optim.args.momentum=-1`: SGD refuses it: Invalid momentum"),
            ("optim.args.nesterov=true", r"`optim.args.nesterov=True`: SGD refuses it"),
            ("optim.args=5", r"`optim.args=5` must be a mapping"),
        ],
    )
    def test_what_an_optimiser_does_not_take_is_refused_before_the_text_is_read(
        self, override: str, message: str
    ) -> None:
        config = compose("data=files", "data.path=nowhere.txt", override)
        with pytest.raises(ConfigError, match=message):
            SkipGramDataModule.from_config(config)

    def test_the_fused_engine_takes_plain_sgd_only(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        config = compose(*options(folder, "engine=fused", "optim.args.momentum=0.9"))
        with pytest.raises(ConfigError, match=r"cannot do SGD with momentum=0.9: choose `engine=autograd`"):
            SkipGramDataModule.from_config(config)
        with caplog.at_level("INFO", "skiplight"):
            module, _ = components(folder, SkipGramModule, "optim.args.momentum=0.9")
        assert "engine=autograd: fused cannot do SGD with momentum=0.9" in caplog.text
        assert "dense gradients: sgd with momentum moves every row" in caplog.text
        assert not module.tables.sparse
        plain, _ = components(folder, SkipGramModule, "optim.args.foreach=true", "optim.args.momentum=0")
        plain.configure_optimizers()
        assert plain.engine.name == "fused"

    @pytest.mark.parametrize(
        ("name", "args", "sparse"),
        [
            ("sgd", {"momentum": 0.9, "weight_decay": 0.01}, False),
            ("sgd", {"foreach": True}, True),
            ("sgd", {"fused": True}, False),
            ("adagrad", {"lr_decay": 0.01, "eps": 1e-6}, True),
            ("adagrad", {"weight_decay": 0.01}, False),
            ("sparse_adam", {"betas": [0.8, 0.9]}, True),
            ("adamw", {"weight_decay": 0.1, "amsgrad": True}, False),
        ],
    )
    def test_tables_move_as_torchs_optimiser_moves_them(
        self, folder: Path, name: str, args: dict[str, Any], sparse: bool
    ) -> None:
        given = [f"optim.args.{key}={value}".replace("True", "true") for key, value in args.items()]
        module, data = components(folder, SkipGramModule, f"optim.name={name}", *given, "engine=autograd")
        assert module.tables.sparse == sparse
        reference, _ = components(folder, SkipGramModule, f"optim.name={name}", "engine=autograd")
        if name != "sparse_adam":
            reference.tables.make_dense()
        plain = optimizer_class(name)(reference.tables.parameters(), lr=0.01, **optimizer_args(name, args))
        slack = adagrad_slack(plain, 0.01, 4e-7) if name == "adagrad" else {}
        module.configure_optimizers()
        optimizer = module.engine.optimizer
        for number, block in enumerate(data.train_dataloader()):
            if number == 3:
                break
            windows = data.windows(block)
            reference.objective.loss(reference.tables, windows).sum.backward()
            module.engine.step(windows, 0.01, 0.01).loss.backward()
            if name != "sgd":  # whose sums are shortened
                module.engine.prepare_step({})
            for moved in (optimizer, plain):
                moved.step()
                moved.zero_grad()
        for table, other in zip(module.tables.parameters(), reference.tables.parameters(), strict=True):
            allowed = 1e-6 + 1e-4 * other.abs() + slack.get(other, 0.0)
            assert bool(((table - other).abs() <= allowed).all())
