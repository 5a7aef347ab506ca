"""`skiplight sweep --slurm N`: an array of Slurm jobs, each of which is a worker of one study.

The command checks the options, makes the study, submits the array, and ends. A worker claims one trial after the other
(`skiplight.experiments.sweeps.study`), so nothing else has to stay alive. Slurm tells the script of a job two minutes
before its time is over; the script lets the trial save its state, and puts the job into the queue again, where it goes
on with the same trial or another one. A job that is preempted, or whose machine fails, is put there by Slurm itself,
and one that is cancelled is not.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from skiplight.config.compose import quote_value
from skiplight.errors import ConfigError, RunError
from skiplight.experiments.sweeps.study import Study
from skiplight.experiments.sweeps.sweep import check_end, compose_study
from skiplight.files import replacing, writing
from skiplight.training.loggers import check_logger

SCRIPT = "slurm/workers.sbatch"

NOTICE_SECONDS = 120
"""Seconds before the end of a job's time at which its trial saves its state."""

TEMPLATE = """\
#!/usr/bin/env bash
# Workers of the study {folder}; `skiplight sweep --slurm {count}` has written and submitted this file.
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --requeue
#SBATCH --signal=B:USR1@{notice}
#SBATCH --open-mode=append
#SBATCH --output={log}

# The time of the job is nearly over: the worker saves the state of its trial, and the job goes on later. The id of one
# of the jobs is that of the whole array, so a job is named by its place in the array.
again() {{
    trap '' USR1
    kill -TERM "$worker" 2>/dev/null
    wait "$worker"
    code=$?
    if [ "$code" -eq 143 ]; then scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"; fi
    exit "$code"
}}
trap again USR1

{command} &
worker=$!
wait "$worker"
"""


def submit_workers(
    overrides: Sequence[str],
    arguments: Sequence[str],
    count: int,
    options: Sequence[str] = (),
    trials: int | None = None,
    timeout: float | None = None,
) -> tuple[Path, str]:
    """Create a study, or check one that exists, write the script of its workers into it, and submit that to Slurm.

    Args:
        overrides: Hydra overrides with the search space.
        arguments: further arguments of `skiplight sweep` for each worker.
        count: number of jobs.
        options: options of sbatch, as in `--time=08:00:00`.
        trials: number of points, which is among the arguments too.
        timeout: seconds of a worker, which are among the arguments too.

    Returns:
        The folder of the study, and what sbatch has answered.

    Raises:
        ConfigError: an option is wrong, the study began with others, or there is no sbatch here.
        RunError: Slurm has refused the jobs.
    """
    if count < 1:
        raise ConfigError(f"--slurm {count} must be at least 1")
    if (sbatch := shutil.which("sbatch")) is None:
        raise ConfigError(
            f"--slurm {count} needs Slurm's `sbatch`, which is not here: give the command on a login node"
        )
    if wrong := [option for option in options if not option.startswith("-")]:
        raise ConfigError(f"--sbatch {wrong[0]} is no option of sbatch: give it as in --sbatch=--time=08:00:00")
    config, folder = compose_study(overrides)
    check_end(config, trials, timeout)
    check_logger(config)
    folder = folder.resolve()
    if not str(folder).isprintable():  # a line break would make a command of what follows it
        raise ConfigError(f"`run_dir={str(folder)!r}` becomes a line of a script: choose a folder without line breaks")
    Study.create_or_load(folder, config, trials)
    own = [text for text in overrides if text.lstrip("+").partition("=")[0] != "run_dir"]
    worker = [sys.executable, "-m", "skiplight.cli", "sweep", *own, f"run_dir={quote_value(str(folder))}", *arguments]
    script = folder / SCRIPT
    with writing(script), replacing(script) as temporary:
        text = TEMPLATE.format(
            folder=folder.name,
            name=shlex.quote(folder.name),
            count=count,
            last=count - 1,
            notice=NOTICE_SECONDS,
            log=shlex.quote(str(script.parent).replace("%", "%%") + "/%A_%a.log"),
            command=shlex.join(worker),
        )
        temporary.write_text(text, encoding="utf-8")
    done = subprocess.run([sbatch, *options, str(script)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"sbatch has refused {script}: {done.stderr.strip()}; give other options by --sbatch")
    return folder, done.stdout.strip()
