"""The score of a trial at a rung under `optim.schedule=wsd`: that of a fork whose learning rate falls to its end there.

The vectors of the trunk, whose rate has not fallen, rank trials unfairly: a rate that is too high looks worse than it
ends. RUN/forks.jsonl has a line for each fork: the rung, the tokens of the trunk and of the fork, and its metrics.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from skiplight.data.from_config import prepare_text, total_tokens
from skiplight.experiments.folder import find_experiment
from skiplight.experiments.metrics import read_metrics
from skiplight.experiments.sweeps.points import RUNG
from skiplight.experiments.sweeps.study import Study
from skiplight.files import replacing, writing
from skiplight.training.checkpoints import FolderCheckpointIO, list_checkpoints
from skiplight.training.fork import can_fork, train_fork
from skiplight.training.run_folder import RunFolder


def record_fork(path: Path) -> None:
    """Train the fork of a trial that was paused at its rung, if its schedule allows it, and record its metrics.

    Args:
        path: folder of the run.

    Raises:
        Stopped: a signal requested a stop.
    """
    run = RunFolder(path)
    found = find_experiment(run)
    assert found is not None
    experiment, number = found
    rung, config = Study.load(experiment.path).trials[number].user_attrs[RUNG], run.config()
    tokens = FolderCheckpointIO().load_checkpoint(list_checkpoints(run.checkpoints)[-1])["skiplight"]["tokens"]
    total = total_tokens(config, prepare_text(config))
    before = run.read_forks()
    if not can_fork(config, tokens, total) or any(fork["rung"] == rung for fork in before):
        return
    summary = train_fork(run)
    line: dict[str, Any] = {"rung": rung, "tokens": tokens, "fork_tokens": summary["tokens"], **read_metrics(summary)}
    with writing(run.forks), replacing(run.forks, parents=False) as temporary:
        temporary.write_text("".join(json.dumps(fork) + "\n" for fork in [*before, line]), encoding="utf-8")
