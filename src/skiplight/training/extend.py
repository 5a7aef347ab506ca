"""Give a finished run more epochs: it goes on from its trunk, the part before its learning rate began to fall.

Under `optim.schedule=wsd` the rate is constant between the warm-up and the decay, so runs of any length share that part
(Hu et al. 2024). A run with this schedule keeps a checkpoint from just before its decay, `checkpoints/trunk-<step>`.
The run that goes on from there is bit for bit the one that had the larger number of epochs from the beginning, if the
size of its blocks was the same. Under `constant` the trunk is the whole run.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from skiplight.config.schema import Config
from skiplight.errors import ConfigError, RunError
from skiplight.files import remove, replacing, writing
from skiplight.training.checkpoints import TRUNK, FolderCheckpointIO, list_checkpoints
from skiplight.training.run_folder import RunFolder
from skiplight.training.schedules import trunk_tokens


def extend_run(run: RunFolder, max_epochs: int) -> None:
    """Prepare a finished run to go on to more epochs; the caller holds its lock, and then resumes it.

    A process that is killed in here leaves a run that is finished as before, or one that the same command resumes.

    Args:
        run: the run.
        max_epochs: number of epochs of the whole run from now on.

    Raises:
        ConfigError: the number is not larger than that of the run, or the run's options have no trunk.
        RunError: the run is not finished, is part of an experiment, or has no checkpoint of its trunk.
    """
    config = run.config()
    summary = run.read_summary()
    if max_epochs <= summary["epochs"]:
        raise ConfigError(
            f"--max-epochs {max_epochs}: {run.path} has {summary['epochs']:g} epochs; give a larger number"
        )
    _check_trunk(config, run.path)
    if run.trial_info is not None:
        raise RunError(f"{run.path} is a run of an experiment, whose results stand: train a run of the same options")
    end = trunk_tokens(config.optim.schedule, summary["tokens"])
    folders = [*list_checkpoints(run.checkpoints), *run.checkpoints.glob(f"{TRUNK}-*")]
    states = [(state["skiplight"]["tokens"], path, state) for path in folders if (state := _read_state(path))]
    usable = [(tokens, path, state) for tokens, path, state in states if tokens <= end]
    if not usable:
        raise RunError(f"{run.path} has no checkpoint from before its learning rate fell: it cannot go on")
    _, trunk, state = max(usable, key=lambda found: (found[0], found[1].name))
    target = run.checkpoints / f"step-{state['global_step']:010d}"
    with writing(run.checkpoints):
        for path in list_checkpoints(run.checkpoints):
            if path not in (trunk, target):
                remove(path)
        if not target.exists():
            with replacing(target, parents=False) as folder:
                shutil.copytree(trunk, folder)
    config.trainer.max_epochs = max_epochs
    config.data.block_tokens = state["SkipGramDataModule"]["block_tokens"]
    run.rewrite(config)
    with writing(run.summary):
        remove(run.summary)


def _check_trunk(config: Config, run: Path) -> None:
    """Check that the beginning of a run does not depend on its length.

    Raises:
        ConfigError: it does.
    """
    schedule = config.optim.schedule
    if schedule.name not in ("wsd", "constant"):
        raise ConfigError(
            f"{run} has `optim.schedule={schedule.name}`, whose rates depend on the length of the run: only runs with"
            " wsd or constant can be made longer"
        )
    if 0 < (warmup := getattr(schedule, "warmup", 0)) < 1:
        raise ConfigError(
            f"{run} has `optim.schedule.warmup={warmup}`, a share of its length: only a run with a warm-up in"
            " tokens can be made longer"
        )
    if config.trainer.max_tokens is not None:
        raise ConfigError(
            f"{run} has `trainer.max_tokens={config.trainer.max_tokens}`, which ends it before --max-epochs"
        )
    if config.noise.name == "annealed_power":
        raise ConfigError(f"{run} has `noise=annealed_power`, whose exponents depend on the length of the run")


def _read_state(path: Path) -> dict | None:
    try:
        return FolderCheckpointIO().load_checkpoint(path)
    except RunError:  # a damaged one is of no use here
        return None
