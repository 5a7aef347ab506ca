"""The rank of this process, as set by its launcher: Lightning, torchrun, Slurm, LSF or MPI."""

from __future__ import annotations

import dataclasses
import logging
import os

from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    LSFEnvironment,
    MPIEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)

from skiplight.errors import ConfigError
from skiplight.process import usable_cores

log = logging.getLogger(__name__)

LAUNCHERS: tuple[tuple[type[ClusterEnvironment], str], ...] = (
    (TorchElasticEnvironment, "torchrun"),  # first, since it is also used inside Slurm
    (SLURMEnvironment, "srun"),
    (LSFEnvironment, "LSF"),
    (MPIEnvironment, "MPI"),
)
"""The launchers that may have started all ranks of a training, in Lightning's order."""


@dataclasses.dataclass(frozen=True)
class RankInfo:
    """The identity of a process among the ranks of a training.

    Attributes:
        rank: from 0, over all machines.
        world: number of ranks.
        local_rank: from 0, on this machine.
        local_world: number of ranks on this machine.
        environment: Lightning's environment, by which ranks find each other; None for a single rank.
        started: whether a launcher has started all ranks; otherwise the first rank of each machine starts the others.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    environment: ClusterEnvironment | None = None
    started: bool = False

    @classmethod
    def detect(cls, devices: int, num_nodes: int) -> RankInfo:
        """Return the rank of this process in a training on `devices` devices of each of `num_nodes` machines.

        Raises:
            ConfigError: a launcher has started another number of processes.
        """
        world = devices * num_nodes
        launcher = next((launcher for launcher in LAUNCHERS if _started_several(launcher[0])), None)
        if launcher is None:
            if world == 1:
                return cls()
            own = LightningEnvironment()
            if devices > 1 and own.creates_processes_externally and "WORLD_SIZE" not in os.environ:
                log.warning(
                    "LOCAL_RANK=%s is set in the environment: this process is rank %d of %d and waits until you start"
                    " the others; if it is left from an earlier training, unset it, and the others are started here",
                    os.environ["LOCAL_RANK"],
                    own.node_rank() * devices + own.local_rank(),
                    world,
                )
            return cls(own.node_rank() * devices + own.local_rank(), world, own.local_rank(), devices, own)
        environment_class, name = launcher
        try:
            environment = (
                SLURMEnvironment(auto_requeue=False) if environment_class is SLURMEnvironment else environment_class()
            )
            environment.validate_settings(num_devices=devices, num_nodes=num_nodes)
            fits = environment.world_size() == world
        except (ValueError, RuntimeError) as error:
            raise ConfigError(f"`trainer.devices={devices}`, `trainer.num_nodes={num_nodes}`: {error}") from None
        if not fits:
            raise ConfigError(
                f"{name} has started {environment.world_size()} processes, but `trainer.devices={devices}` and"
                f" `trainer.num_nodes={num_nodes}` ask for {world}: give the numbers of devices per machine and of"
                " machines that were started"
            )
        return cls(environment.global_rank(), world, environment.local_rank(), devices, environment, started=True)

    def threads(self) -> int:
        """Return this rank's share of the cores of its machine."""
        return max(1, len(usable_cores()) // self.local_world)


def _started_several(kind: type[ClusterEnvironment]) -> bool:
    """Return whether this launcher has started this process as one of several."""
    if kind is SLURMEnvironment:  # its `detect` warns of an unused srun on the path
        several = int(os.environ.get("SLURM_NTASKS", 1)) > 1 and "SLURM_PROCID" in os.environ
        return several and SLURMEnvironment.job_id() is not None
    if kind is TorchElasticEnvironment:
        return TorchElasticEnvironment.detect() and int(os.environ["WORLD_SIZE"]) > 1
    if kind is MPIEnvironment and not any(name.startswith(("OMPI_", "PMI_", "PMIX_")) for name in os.environ):
        return False  # its `detect` would start MPI in this process
    return kind.detect() and kind().world_size() > 1
