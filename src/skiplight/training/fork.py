"""Train a short fork of a run that was paused: the same run with a smaller budget, whose learning rate falls from here.

Under `optim.schedule=wsd` the rate is constant between the warm-up and the decay, so the runs of all budgets share that
part, the trunk (Hu et al. 2024). The fork begins with the newest checkpoint of the run, is bit for bit the run that had
the smaller budget from the beginning, and is thrown away. The run itself does not change.
"""

from __future__ import annotations

import math
import shutil
from typing import Any

from skiplight.config.schema import Config, ScheduleConfig
from skiplight.errors import Stopped, command
from skiplight.files import remove, writing
from skiplight.registry import own_options
from skiplight.training import fit
from skiplight.training.checkpoints import FolderCheckpointIO, list_checkpoints
from skiplight.training.run_folder import RunFolder
from skiplight.training.schedules import trunk_tokens

FOLDER = "fork"


def can_fork(config: Config, tokens: int, total: int) -> bool:
    """Return whether the beginning of a run, up to a number of tokens, is that of a run which is shorter.

    Args:
        config: options of the run.
        tokens: tokens of the beginning.
        total: tokens of the whole run.
    """
    schedule = config.optim.schedule
    if schedule.name != "wsd" or config.noise.name == "annealed_power":
        return False
    return tokens <= trunk_tokens(schedule, total) < total


def fork_tokens(schedule: ScheduleConfig, tokens: int) -> int:
    """Return the budget of the run whose learning rate begins to fall after a number of tokens."""
    decay: float = own_options("optim.schedule", schedule)["decay"]
    return math.ceil(tokens / (1 - decay) if decay <= 1 else tokens + decay)


def train_fork(run: RunFolder) -> dict[str, Any]:
    """Train a fork from the newest checkpoint of a run that was paused, and return its summary.

    Raises:
        Stopped: a signal requested a stop; the fork is to be trained again.
    """
    config, fork = run.config(), RunFolder(run.path / FOLDER)
    checkpoint = list_checkpoints(run.checkpoints)[-1]
    state = FolderCheckpointIO().load_checkpoint(checkpoint)
    with writing(fork.path):
        remove(fork.path)  # of a process that was killed
        config.trainer.max_tokens = fork_tokens(config.optim.schedule, state["skiplight"]["tokens"])
        config.data.block_tokens = state["SkipGramDataModule"]["block_tokens"]
        config.logger, config.evaluation.every, config.run_dir = {}, None, str(fork.path)
        fork.create(config)
        shutil.copytree(checkpoint, fork.checkpoints / checkpoint.name)
        if run.metrics.exists():
            shutil.copy(run.metrics, fork.metrics)
    try:
        fit.resume(fork.path)
    except Stopped as error:
        raise Stopped(f"stopped; go on with: {command('resume', run.path)}", error.signal) from None
    summary = fork.read_summary()
    with writing(fork.path):
        remove(fork.path)
    return summary
