"""Options: what is unknown or out of range is refused with a remedy; what is saved comes back the same."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

import lightning
import pytest
import yaml

from skiplight.config import conf_dir
from skiplight.config.compose import compose
from skiplight.config.schema import CHOSEN, EXPERIMENT_GROUPS, LOGGERS, Config, StudyConfig, TrainerConfig, chosen
from skiplight.config.trainer_arguments import REFUSED
from skiplight.config.validate import (
    check_ranges,
    describe_options,
    iterate_options,
    load_config,
    run_options,
    save_config,
)
from skiplight.data.from_config import noise_exclude
from skiplight.errors import ConfigError
from skiplight.experiments.folder import flat_options
from skiplight.experiments.sweeps.space import apply_parameters, build_distributions, check_values
from skiplight.registry import NOISE, OBJECTIVES, REGISTRIES, SCHEDULES, load_built_in
from skiplight.training.targets import make_callbacks


def presets() -> list[str]:
    """Every file of every group, also of groups within groups; launchers of Hydra need packages of their own."""
    files = [path.relative_to(conf_dir()) for path in sorted(conf_dir().rglob("*/*.yaml"))]
    return [f"{path.parent.as_posix()}={path.stem}" for path in files if path.parts[0] != "hydra"]


def read(group: str, name: str) -> dict:
    return yaml.safe_load((conf_dir() / group / f"{name}.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("group", "name"), [("model", "default"), ("trainer", "default"), ("optim", "sgd")])
def test_a_groups_default_file_has_every_option_with_the_default_of_the_schema(group: str, name: str) -> None:
    options = dataclasses.asdict(getattr(Config(), group))
    assert read(group, name) == {name: value for name, value in options.items() if f"{group}.{name}" not in CHOSEN}


@pytest.mark.parametrize("name", LOGGERS)
def test_a_loggers_file_has_every_option_with_the_default_of_the_schema(name: str) -> None:
    assert read("logger", name) == {name: dataclasses.asdict(LOGGERS[name]())}


def test_the_options_that_have_no_group_stand_in_the_main_file() -> None:
    main = yaml.safe_load((conf_dir() / "config.yaml").read_text(encoding="utf-8"))
    grouped = {key for entry in main["defaults"] if isinstance(entry, dict) for key in entry}
    plain = {name: value for name, value in main.items() if name not in ("defaults", "hydra")}
    assert set(plain) | grouped - {"experiment", "debug", "optim/schedule"} == {
        field.name for field in dataclasses.fields(Config)
    }
    plain["sampling"]["subsample"] = float(plain["sampling"]["subsample"])  # 1e-3 is a text in YAML 1.1
    defaults = dataclasses.asdict(Config())
    assert plain == {name: defaults[name] for name in plain}


def test_every_file_of_conf_begins_with_what_it_is_for() -> None:
    for path in conf_dir().glob("*/*.yaml"):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line != "# @package _global_"]
        assert lines[0].startswith("# "), path


def test_every_argument_of_lightnings_trainer_is_an_option_or_is_refused_with_a_reason() -> None:
    arguments = set(inspect.signature(lightning.Trainer.__init__).parameters) - {"self"}
    options = {field.name for field in dataclasses.fields(TrainerConfig)}
    assert not options & set(REFUSED)
    assert arguments == (options - {"max_tokens", "threads"}) | set(REFUSED)
    for name, reason in REFUSED.items():
        with pytest.raises(ConfigError, match=f"`trainer.{name}` is refused: "):
            compose([f"trainer.{name}=1"])
        for option in re.findall(r"`([a-z]+\.[a-z_.]+)", reason):
            assert option in {known for known, _ in iterate_options()}, option


@pytest.mark.parametrize(
    ("overrides", "found"),
    [
        (["logger=[wandb,csv]"], ["wandb", "csv"]),
        (["logger=csv"], ["csv"]),
        (["logger=none"], []),
        (["logger=null"], []),
        (["~logger"], []),
        (["logger=[]"], []),
        (["logger=[wandb,csv]", "logger.wandb=null"], ["csv"]),
        (["~logger.wandb"], []),
        (["logger={csv: {}}"], ["csv"]),
        (["logger=csv", "+logger.mine={_target_: a.B}"], ["csv", "mine"]),
    ],
)
def test_loggers_are_chosen_by_name_several_at_once(overrides: list[str], found: list[str]) -> None:
    assert list(compose(overrides).logger) == found


def test_callbacks_are_chosen_by_name_and_changed_by_option() -> None:
    config = compose(["callbacks=[early_stopping,timer]", "callbacks.early_stopping.patience=7"])
    assert set(config.callbacks) == {"early_stopping", "timer"}
    assert config.callbacks["early_stopping"]["patience"] == 7
    for path in (conf_dir() / "callbacks").glob("*.yaml"):
        made = make_callbacks(compose([f"callbacks={path.stem}"]).callbacks)
        assert len(made) == (path.stem != "none")


def test_the_defaults_of_conf_are_those_of_the_schema() -> None:
    assert compose([]) == Config()


@pytest.mark.parametrize("preset", presets())
def test_every_preset_composes(preset: str) -> None:
    compose([preset])


def test_overrides_win_over_experiments_and_experiments_over_defaults() -> None:
    assert compose(["experiment=quickstart"]).trainer.max_epochs == 20
    assert compose(["experiment=quickstart", "trainer.max_epochs=2"]).trainer.max_epochs == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("noise.negativ=5", "unknown option `noise.negativ`; did you mean `noise.negatives`"),
        ("dim=5", "did you mean `model.dim`"),
        ("+model.depth=3", "unknown option `model.depth`"),
        ("noise.negatives=0", "`noise.negatives=0` is out of range: it must be at least 1 and at most 4096"),
        ("model.dim=0", "`model.dim=0` is out of range"),
        ("optim.lr=0", "`optim.lr=0.0` is out of range: it must be above 0"),
        ("noise.exponent=nan", "`noise.exponent=nan` is out of range: it must be a finite number"),
        ("data.normalise=unicod", "did you mean unicode?"),
        ("data.block_tokens=0", "`data.block_tokens=0` is out of range"),
        ("data.block_tokens=many", "must be auto or an integer"),
        ("data.heldout=half", "data.heldout"),
        ("model.dim=1.5", "model.dim"),
        ("data=vitl", "vital"),
        ("optim=adm", "did you mean adam?"),
        ("debug=fdr", "`debug=fdr` is none of default, fast, limit, overfit, profile"),
        ("nonsense", "name=value"),
        ("evaluation.metrics=[similarity]", "it needs sets, give them as `evaluation.similarity=[...]`"),
        ("evaluation.metrics=[f]", "`evaluation.metrics=f` is not registered: it must be one of"),
        ("evaluation.metrics.f.top=3", "`evaluation.metrics=f` is not registered: it must be one of"),
        ("evaluation.metrics=f", "must be a list of names, [name], or have their options"),
        ("evaluation.words=[é]", "for Hydra as well"),
        ("model.start=run", "`model.start` no longer exists: give `model.init_from`"),
        ("evaluation.hits=[a]", "`evaluation.hits` no longer exists: give `evaluation.hit_rate`"),
        ("distributed.every=5", "give `distributed.bytes_per_token`"),
        ("data=planted", "`data=planted` no longer exists: give `data=synthetic_sessions`"),
        ("noise=unifrm", "`noise=unifrm` is not registered: it must be one of power, annealed_power, uniform"),
        ("noise=unifrm", "did you mean uniform?"),
        ("objective.name=nec", "did you mean nce?"),
        ("objective.chunk=5", "give `objective=full_softmax`, or leave it out"),
        ("data.path=texts", "give `data=files` or `data=sequences`, or leave it out"),
        ("data.name=owner/name", "give `data=hub`, or leave it out"),
        ("data.source=fils", "did you mean files?"),
        ("objective.proposal=log_uniform", "give `noise=log_uniform`"),
        ("plugins=[nowhere_at_all]", "`plugins=[nowhere_at_all]` cannot be imported: ModuleNotFoundError"),
        ("plugins=mine", "give plugins=[module,./file.py]"),
        ("trainer.limit_train_batches=0", "`trainer.limit_train_batches=0` trains on nothing"),
        ("trainer.limit_train_batches=1.5", "must be a number of batches, or a share from 0.0 to 1.0"),
        ("trainer.fast_dev_run=-1", "must be true, false or a number of batches"),
        ("trainer.deterministic=maybe", "must be true, false or warn"),
        ("trainer.deterministic=1", "must be true, false or warn"),
        ("trainer.max_time=5", "must be DD:HH:MM:SS"),
        ("trainer.max_time={fortnights: 1}", "must be DD:HH:MM:SS"),
        ("trainer.gradient_clip_algorithm=norm", "needs `trainer.gradient_clip_val`"),
        ("trainer.profiler=fast", "it must be one of simple, advanced, pytorch"),
        ("trainer.precision=16-mixd", "did you mean 16-mixed?"),
        ("logger.offline=false", "give `logger.wandb.offline`"),
        ("logger.group=a", "give `logger.wandb.group`"),
        ("logger.name=csv", "as in `logger=csv`"),
        ("logger.wandb.ofline=false", "did you mean `logger.wandb.offline`"),
        ("logger.csv.project=a", "unknown option `logger.csv.project`"),
        ("logger.wandb=3", "`logger.wandb=3` must be a mapping of its options, or null"),
        ("+logger.mine.a=1", "`logger.mine` needs a `_target_`"),
        ("hydra.mode=MULTIRUN", "give `skiplight train -m`"),
        ("--config-dir=/nowhere/at/all", "is no folder"),
        ("--frobnicate", "`--frobnicate` is not an option of `skiplight train`"),
        ("seed=-1", "`seed=-1` is out of range"),
        (
            "optim.schedule=cosin",
            "`optim.schedule=cosin` is not registered: it must be one of linear, constant, cosine",
        ),
        ("optim.schedule.decay=1", "`optim.schedule.decay` is an option of `optim.schedule=wsd` only"),
        ("optim.schedule.dekay=1", "did you mean `optim.schedule.decay`"),
        ("optim.lr=fast", "`optim.lr`: Value 'fast'"),
    ],
)
def test_a_wrong_option_is_an_error_that_says_what_is_right(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose([override])
    assert message in str(error.value)


def test_every_option_has_a_line_of_help_and_a_default_in_its_range() -> None:
    check_ranges(Config())
    for name, field in iterate_options():
        assert field.metadata["help"], name
    assert len(list(describe_options())) == len(list(iterate_options())) > 30


def test_a_saved_config_comes_back(tmp_path: Path) -> None:
    config = compose(
        ["model.dim=7", "data=files", "data.path=[a.txt,b.txt]", "noise.exponent=-0.5", "evaluation.words=['é']"]
    )
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config
    saved = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert saved == {name: value for name, value in dataclasses.asdict(config).items() if name not in EXPERIMENT_GROUPS}


def test_a_runs_config_knows_nothing_of_the_study_that_it_is_a_trial_of(tmp_path: Path) -> None:
    config = compose(["study.sampler=grid", "study.space={noise.exponent: [0, 1], model.dim: {low: 8, high: 64}}"])
    assert config.study.space["model.dim"] == {"low": 8, "high": 64}
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == dataclasses.replace(config, study=StudyConfig())


@pytest.mark.parametrize(
    "text",
    [
        "data: {path: '${hydra:runtime.cwd}'}",
        "_target_: os.system",
        "hydra: {run: {dir: x}}",
        "model: !!python/object/apply:os.system [ls]",
        "- a list",
        "model: {dim: 0}",
        "model: {dim: [",
    ],
)
def test_a_runs_config_from_a_stranger_runs_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError):
        load_config(tmp_path / "config.yaml")


def test_a_runs_config_holds_texts_that_look_like_interpolations(tmp_path: Path) -> None:
    config = dataclasses.replace(Config(), run_dir=r"runs/a${oc.env:HOME}b\${c")
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml").run_dir == config.run_dir  # as it is written, nothing is resolved


load_built_in()


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in CHOSEN for name in REGISTRIES[group]])
def test_the_files_of_conf_have_the_defaults_of_the_schema(group: str, name: str) -> None:
    written = yaml.safe_load((conf_dir() / group.replace(".", "/") / f"{name}.yaml").read_text(encoding="utf-8"))
    own = {"normalise": "none"} if name in ("sequences", "synthetic_sessions") else {}
    assert written == dataclasses.asdict(chosen(group, name)) | own


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_is_the_same_by_its_group_by_its_name_and_by_its_option(name: str, tmp_path: Path) -> None:
    config = compose([f"optim/schedule={name}", "optim.args.betas=[0.9, 0.99]", "optim.args.momentum=0.5"])
    for override in (f"optim.schedule={name}", f"optim.schedule.name={name}"):
        assert compose([override, "optim.args={betas: [0.9, 0.99], momentum: 0.5}"]) == config
    assert config.optim.schedule.name == name
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


def test_options_of_a_schedule_and_of_an_optimiser_can_be_searched() -> None:
    config = compose(["optim.schedule=wsd", "optim.schedule.final=0.5"])
    space = {"optim.schedule.name": ["wsd", "linear"], "optim.args.momentum": {"low": 0.0, "high": 0.9}}
    found = build_distributions(space, config)
    check_values(space, config)
    assert list(found) == list(space)
    made = apply_parameters(config, {"optim.schedule.name": "linear", "optim.args.momentum": 0.5})
    assert (made.optim.schedule, made.optim.args) == (compose([]).optim.schedule, {"momentum": 0.5})
    flat = flat_options(run_options(apply_parameters(config, {"optim.args.momentum": 0.5})))
    assert (flat["optim.schedule.final"], flat["optim.args.momentum"]) == (0.5, 0.5)


@pytest.mark.parametrize("name", NOISE)
def test_a_noise_distribution_is_the_same_by_its_group_and_by_its_name(name: str) -> None:
    assert compose([f"noise={name}"]) == compose([f"noise.name={name}"])
    assert compose([f"noise={name}", "noise.negatives=9"]).noise.negatives == 9


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_is_the_same_experiment_by_its_group_and_by_its_name(name: str) -> None:
    assert compose([f"objective={name}"]) == compose([f"objective.name={name}"])


def test_the_noise_leaves_out_what_the_objective_is_exact_without() -> None:
    expected = {"nce": "none", "sampled_softmax": "none"}
    for name in OBJECTIVES:
        assert noise_exclude(compose([f"objective={name}"]), OBJECTIVES[name].target) == expected.get(name, "target")
    assert noise_exclude(compose(["objective=nce", "noise.exclude=target"]), OBJECTIVES["nce"].target) == "target"


def test_an_option_of_an_earlier_version_in_a_runs_config_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    save_config(Config(), path)
    path.write_text(path.read_text().replace("init_from:", "start:"))
    with pytest.raises(ConfigError) as error:
        load_config(path)
    assert str(error.value) == f"{path}: `model.start` no longer exists: give `model.init_from`"
