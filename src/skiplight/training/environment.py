"""The environment of a run: versions, hardware, git commit, and the job of torchrun or Slurm."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from typing import Any

from skiplight.errors import ConfigError

PACKAGES = ("skiplight", "torch", "lightning", "numba", "numpy", "pyarrow", "datasets", "hydra-core", "gensim")


def describe_environment(seed: int) -> dict[str, Any]:
    """Return versions, hardware, the git commit of the working folder, and the seed, for environment.json."""
    import torch

    def version(package: str) -> str | None:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return None

    commit = None
    if git := shutil.which("git"):
        done = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        commit = done.stdout.strip() or None
    return {
        "python": platform.python_version(),
        "packages": {package: version(package) for package in PACKAGES},
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "git_commit": commit,
        "seed": seed,
    }


def job_name() -> str | None:
    """Return the name of this torchrun or Slurm job, or None outside of one and in an interactive Slurm shell.

    Raises:
        ConfigError: torchrun has not named its job.
    """
    variables = os.environ
    if (elastic := variables.get("TORCHELASTIC_RUN_ID")) is not None:
        if elastic == "none":
            raise ConfigError("torchrun has no name for this job: give it --rdzv-id, or give `run_dir`")
        return f"torchrun-{elastic}"
    if "SLURM_JOB_ID" not in variables or variables.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    if (array := variables.get("SLURM_ARRAY_JOB_ID")) is not None:
        return f"slurm-{array}-{variables.get('SLURM_ARRAY_TASK_ID', '0')}"
    return f"slurm-{variables['SLURM_JOB_ID']}"
