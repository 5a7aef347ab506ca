"""Which rank of how many this process is, as what started it says: Lightning, torchrun, Slurm, LSF or MPI."""

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

from skiplight.cores import usable_cores
from skiplight.errors import ConfigError

log = logging.getLogger(__name__)

LAUNCHERS: tuple[tuple[type[ClusterEnvironment], str], ...] = (
    (TorchElasticEnvironment, "torchrun"),  # first, since it is also used inside Slurm
    (SLURMEnvironment, "srun"),
    (LSFEnvironment, "LSF"),
    (MPIEnvironment, "MPI"),
)
"""What may have started all ranks of a training, as Lightning knows it, in Lightning's order."""


@dataclasses.dataclass(frozen=True)
class RankInfo:
    """A process among the ranks of a training.

    Attributes:
        rank: from 0, over all machines.
        world: how many ranks there are.
        local_rank: from 0, among those of this machine.
        local_world: how many of them are on this machine.
        environment: how they find each other, for Lightning; None where there is one.
        started: whether something else has started all ranks, rather than the first of each machine.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    environment: ClusterEnvironment | None = None
    started: bool = False

    @classmethod
    def detect(cls, devices: int, num_nodes: int) -> RankInfo:
        """This process's place in a training on so many devices of so many machines.

        Raises:
            ConfigError: something has started another number of processes.
        """
        world = devices * num_nodes
        found = next(((kind, name) for kind, name in LAUNCHERS if _started_several(kind)), None)
        if found is None:
            if world == 1:
                return cls()
            own = LightningEnvironment()
            if devices > 1 and own.creates_processes_externally and "WORLD_SIZE" not in os.environ:
                log.warning(
                    "LOCAL_RANK=%s is set in the environment: this is rank %d of %d and waits for the others, which you"
                    " start too; unset it where it is left from an earlier training, and the others are started here",
                    os.environ["LOCAL_RANK"],
                    own.node_rank() * devices + own.local_rank(),
                    world,
                )
            return cls(own.node_rank() * devices + own.local_rank(), world, own.local_rank(), devices, own)
        kind, name = found
        try:
            environment = SLURMEnvironment(auto_requeue=False) if kind is SLURMEnvironment else kind()
            environment.validate_settings(num_devices=devices, num_nodes=num_nodes)
            fits = environment.world_size() == world
        except (ValueError, RuntimeError) as error:
            raise ConfigError(f"`trainer.devices={devices}`, `trainer.num_nodes={num_nodes}`: {error}") from None
        if not fits:
            raise ConfigError(
                f"{name} has started {environment.world_size()} processes, but `trainer.devices={devices}` and"
                f" `trainer.num_nodes={num_nodes}` ask for {world}: give devices of a machine, and machines, to fit"
            )
        return cls(environment.global_rank(), world, environment.local_rank(), devices, environment, started=True)

    def threads(self) -> int:
        """How many cores of this machine are this rank's share."""
        return max(1, len(usable_cores()) // self.local_world)


def _started_several(kind: type[ClusterEnvironment]) -> bool:
    """Whether this launcher has started this process as one of several; one alone may start the others itself."""
    if kind is SLURMEnvironment:  # its `detect` warns of an srun that is on the path and was not used
        several = int(os.environ.get("SLURM_NTASKS", 1)) > 1 and "SLURM_PROCID" in os.environ
        return several and SLURMEnvironment.job_id() is not None
    if kind is TorchElasticEnvironment:
        return TorchElasticEnvironment.detect() and int(os.environ["WORLD_SIZE"]) > 1
    if kind is MPIEnvironment and not any(name.startswith(("OMPI_", "PMI_", "PMIX_")) for name in os.environ):
        return False  # its `detect` would start MPI in this process
    return kind.detect() and kind().world_size() > 1
