"""The environment of a run: command, versions, hardware, git commit, and the job of torchrun or Slurm."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from skiplight.errors import ConfigError

OPTIONAL = ("triton", "tensorboard", "mlflow", "hydra-submitit-launcher", "hydra-joblib-launcher", "optunahub")
"""Packages that are not required, but that a run may use."""


def describe_environment(seed: int) -> dict[str, Any]:
    """Return the command line, versions, hardware, git commit of the working folder, and seed, for environment.json."""
    import torch

    commit = None
    if git := shutil.which("git"):
        done = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
        commit = done.stdout.strip() or None
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "packages": installed_versions(),
        "platform": platform.platform(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "memory": memory_size(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "git_commit": commit,
        "seed": seed,
    }


def installed_versions() -> dict[str, str]:
    """Return the versions of this package, of those that it requires, and of the optional ones that are installed."""
    required = map(Requirement, importlib.metadata.requires("skiplight") or ())
    names = ["skiplight", *(one.name for one in required if one.marker is None), *OPTIONAL]
    found = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def processor_name() -> str:
    """Return the processor's model as the system names it, else its architecture."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def memory_size() -> int | None:
    """Return the main memory in bytes; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


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
