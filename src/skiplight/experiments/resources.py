"""The resources of each worker: its devices, and its share of the CPU cores."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from skiplight.config.schema import TrainerConfig
from skiplight.errors import ConfigError
from skiplight.process import usable_cores


@dataclasses.dataclass(frozen=True)
class Resources:
    """The devices and CPU cores of a worker.

    Attributes:
        cores: core numbers; empty for all cores, if there is a single worker.
        devices: names of GPUs; empty if training is on the CPU.
    """

    cores: tuple[int, ...] = ()
    devices: tuple[str, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that its trials need."""
        return {"CUDA_VISIBLE_DEVICES": ",".join(self.devices)} if self.devices else {}


def claim_resources(trainer: TrainerConfig, workers: int, devices_per_trial: int | None) -> list[Resources]:
    """Return the resources of each worker of this process, and set `trainer.devices` to the devices of a trial.

    Args:
        trainer: the options of the trials, which are changed.
        workers: number of trials that are trained at once.
        devices_per_trial: GPUs per trial; default: `trainer.devices`.

    Raises:
        ConfigError: a number is below 1 or contradicts `trainer.devices`, or there are fewer devices than are needed.
    """
    devices_per_trial = trainer.devices if devices_per_trial is None else devices_per_trial
    if workers < 1 or devices_per_trial < 1:
        raise ConfigError(f"--workers {workers} and --devices-per-trial {devices_per_trial} must be at least 1")
    if trainer.devices not in (1, devices_per_trial):
        raise ConfigError(
            f"`trainer.devices={trainer.devices}` and --devices-per-trial {devices_per_trial} contradict each other:"
            " give only one of them"
        )
    trainer.devices = devices_per_trial
    return share_resources(workers, devices_per_trial, visible_devices(trainer.accelerator), usable_cores())


def share_resources(workers: int, per_trial: int, devices: Sequence[str], cores: Sequence[int]) -> list[Resources]:
    """Return the resources of each worker; if there are fewer cores than workers, some share a core.

    Args:
        workers: number of workers.
        per_trial: devices per worker.
        devices: names of all devices; empty if training is on the CPU.
        cores: numbers of all cores.

    Raises:
        ConfigError: there are fewer devices than are needed.

    >>> share_resources(2, 2, ["0", "1", "2", "3"], range(4))  # doctest: +NORMALIZE_WHITESPACE
    [Resources(cores=(0, 1), devices=('0', '1')), Resources(cores=(2, 3), devices=('2', '3'))]
    """
    if devices and workers * per_trial > len(devices):
        raise ConfigError(
            f"--workers {workers} with --devices-per-trial {per_trial} needs {workers * per_trial} devices, and there "
            f"are {len(devices)}: lower one of them"
        )
    found = []
    for index in range(workers):
        own = tuple(cores[index * len(cores) // workers : (index + 1) * len(cores) // workers])
        own = own or (cores[index % len(cores)],)
        found.append(
            Resources(() if workers == 1 else own, tuple(devices[index * per_trial : (index + 1) * per_trial]))
        )
    return found


def visible_devices(accelerator: str) -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; empty for training on the CPU."""
    if accelerator == "cpu":
        return []
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in named.split(",") if name]
    if sys.platform == "linux" and not Path("/dev/nvidiactl").exists():
        return []  # spares the import of torch
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]
