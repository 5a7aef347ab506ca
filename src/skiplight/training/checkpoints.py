"""Checkpoints: folders that are written atomically between two steps, from which a run resumes exactly.

A checkpoint has `tables-0.safetensors` (the two tables), `state.pt` (everything else, plain types and tensors only,
read with `weights_only=True`) and `manifest.json` (format version, sizes and checksums). It contains no path, so that a
run folder can be moved.
"""

from __future__ import annotations

import contextlib
import json
import logging
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from skiplight.distributed.strategy import RankStrategy, is_synchronized, synchronize
from skiplight.errors import RunError
from skiplight.files import digest, read_json, remove, replacing, writing
from skiplight.training.signals import StopRequest

log = logging.getLogger(__name__)

FORMAT = 1

TRUNK = "trunk"
"""How the name of the checkpoint from just before the decay of the learning rate begins."""

_TABLES, _STATE, _MANIFEST = "tables-0.safetensors", "state.pt", "manifest.json"


_UNREADABLE = (
    OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, LookupError, TypeError, ValueError,
)  # fmt: skip
_SCHEMA: dict[str, Any] = {
    "epoch": int,
    "global_step": int,
    "pytorch-lightning_version": str,
    "optimizer_states": [dict],
    "lr_schedulers": [dict],
    "skiplight": {"tokens": int, "loss_sum": float, "pairs": int, "world_size": int},
    "SkipGramDataModule": {
        "block_tokens": int, "text": str, "version": int,
        "cursor": {
            "epoch": int, "index": int, "tokens": int, "consumers": int, "lanes": [(int,) * 4], "turns": [int],
        },
    },
    "callbacks": {
        "DivergenceCheck": {"above": int, "blanks": [(float, float)], "since": int},
        "Evaluation": {"evaluated": int, "found": str, "seconds": float},
        "Tracking": {
            "seconds": float, "pairs": int, "loss": float, "epoch_loss": float, "line": (float, int),
            "epoch": (float, int), "lines": int, "written": (int, float),
        },
    },
}  # fmt: skip
"""The types of what skiplight and Lightning read from a state: of what a run has, since a user's own may have less."""


class FolderCheckpointIO(CheckpointIO):
    """Lightning's checkpoints as folders."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        rest = {key: value for key, value in checkpoint.items() if key != "state_dict"}
        tables = {name: tensor.contiguous() for name, tensor in checkpoint["state_dict"].items()}
        with writing(path), replacing(path, parents=False) as folder:
            folder.mkdir()
            save_file(tables, folder / _TABLES)
            torch.save(rest, folder / _STATE)
            files = {name: {"bytes": (folder / name).stat().st_size, "blake2b": digest(folder / name)}
                     for name in (_TABLES, _STATE)}  # fmt: skip
            world = checkpoint.get("skiplight", {}).get("world_size", 1)
            manifest = {"format": FORMAT, "world_size": world, "step": checkpoint["global_step"], "files": files}
            (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            RunError: it is not a checkpoint, is damaged, or has a newer format.
        """
        folder = Path(path)
        verify_checkpoint(folder)
        try:
            checkpoint = torch.load(folder / _STATE, map_location=map_location, weights_only=True)
            check_state(checkpoint)
            checkpoint["state_dict"] = load_file(folder / _TABLES)
        except _UNREADABLE:
            # The checksums are correct, so the file is not damaged: somebody else wrote it.
            raise RunError(
                f"{folder} was not written by skiplight: it holds other than its tensors and plain values; delete it to"
                " go on from the checkpoint before it"
            ) from None
        return checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        remove(Path(path))


def check_state(state: object) -> None:
    """Check the types of a checkpoint's state, which those who read it rely on.

    Raises:
        TypeError: a value is of another type, out of range, or missing.
    """
    if not isinstance(state, dict):
        raise TypeError("the state is no mapping")
    for name, kind in _SCHEMA.items():
        if name in state:
            _check_type(state[name], kind, name, optional=name == "callbacks")
    _check_counts(state.get("loops", {}))


def _check_type(value: Any, kind: Any, name: str, *, optional: bool = False) -> None:
    if isinstance(kind, dict):
        good = isinstance(value, dict) and (optional or kind.keys() <= value.keys())
        parts = [(value[key], inner) for key, inner in kind.items() if key in value] if good else []
    elif isinstance(kind, list):
        good = isinstance(value, list | tuple)
        parts = [(item, kind[0]) for item in value] if good else []
    elif isinstance(kind, tuple):
        good = isinstance(value, list | tuple) and len(value) == len(kind)
        parts = list(zip(value, kind, strict=True)) if good else []
    elif kind is int:
        good, parts = isinstance(value, int) and not isinstance(value, bool) and -1 <= value < 2**63, []
    else:
        good, parts = isinstance(value, (int, float) if kind is float else kind), []
    if not good:
        raise TypeError(f"{name} is not as skiplight writes it")
    for inner, its_kind in parts:
        _check_type(inner, its_kind, name)


def _check_counts(value: Any, depth: int = 0) -> None:
    """Check that the state of Lightning's loops is of counts and flags, besides an empty state of the user's."""
    if isinstance(value, dict) and depth < 16:
        for inner in value.values():
            _check_counts(inner, depth + 1)
    elif not isinstance(value, int) or not 0 <= value < 2**63:
        raise TypeError("loops are not as Lightning writes them")


def verify_checkpoint(folder: Path) -> None:
    """Compare a checkpoint's files with the sizes and checksums of its manifest.

    Raises:
        RunError: it is not a checkpoint, is damaged, or has a newer format.
    """
    remedy = f"delete {folder} to go on from the checkpoint before it"
    try:
        manifest = read_json(folder / _MANIFEST)
        version = int(manifest["format"])
    except OSError as error:
        raise RunError(
            f"{folder} is not a checkpoint, {_MANIFEST} cannot be read ({error.strerror}): {remedy}"
        ) from None
    except (ValueError, TypeError, LookupError, RecursionError):
        raise RunError(f"{folder / _MANIFEST} is damaged: {remedy}") from None
    if version > FORMAT:
        raise RunError(f"{folder} is of format {version}, newer than this skiplight reads ({FORMAT}): upgrade it")
    for name in (_TABLES, _STATE):
        file = folder / name
        try:
            expected = manifest["files"][name]
            whole = file.stat().st_size == expected["bytes"] and digest(file) == expected["blake2b"]
        except (OSError, TypeError, LookupError):
            whole = False
        if not whole:
            raise RunError(f"{file} is damaged: {remedy}")


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a run's `checkpoints/`, the newest last."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


class Checkpointing(Checkpoint):
    """Save at an interval in seconds, on a stop request and at the end; keep the newest checkpoints.

    Args:
        folder: the run's `checkpoints/`.
        every: seconds between two checkpoints.
        keep: the number of checkpoints to keep.
        stop: read between steps, to save and stop.
        trunk: tokens up to which the run is the beginning of a longer one; just before them a checkpoint is saved that
            is not removed.
        healthy: whether training shows no sign of divergence, the same on all ranks; otherwise nothing is removed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        every: float,
        keep: int,
        stop: StopRequest,
        trunk: int = 0,
        healthy: Callable[[], bool] = lambda: True,
    ) -> None:
        self.folder, self.every, self.keep, self.stop, self.healthy = folder, every, keep, stop, healthy
        self.trunk = trunk
        self._tokens = 0  # at the step before
        self._saved = time.monotonic()
        self._step = 0  # of the newest checkpoint
        self.has_begun = False  # the training, from a state that every part has taken

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._saved, self._step, self.has_begun = time.monotonic(), trainer.global_step, True

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        if not is_synchronized(trainer):
            return  # saving would move the tables at a time that depends on the clock
        if getattr(pl_module, "is_accumulating", False):
            return  # a stop request waits for the last batch of the step
        self._save_trunk(trainer, pl_module)
        due = trainer.is_global_zero and time.monotonic() - self._saved >= self.every and self.healthy()
        due = due or self.stop.is_requested
        strategy = trainer.strategy
        if isinstance(strategy, RankStrategy) and trainer.global_step % strategy.decision_steps:
            return
        if not (strategy.agreed_before(due) if isinstance(strategy, RankStrategy) else due):
            return
        if isinstance(strategy, RankStrategy):
            strategy.forget_decision()  # made before this checkpoint
        if signal := int(trainer.strategy.reduce(torch.tensor(self.stop.signal or 0), reduce_op="max")):
            self.stop.signal = signal
            trainer.should_stop = True
        if self.stop.pause is not None:  # on all ranks at the same step
            trainer.should_stop = True
        self._save(trainer)
        self.stop.report_saved()

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        synchronize(trainer)
        self._save(trainer)

    def _save_trunk(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Save a checkpoint at the last step, or the one before, that ends before the learning rate falls."""
        tokens = int(getattr(module, "tokens", 0))
        # Steps differ in their tokens, so the next one is taken to have up to twice as many as this one.
        near, self._tokens = tokens + 2 * (tokens - self._tokens) > self.trunk, tokens
        if trainer.world_size == 1 and near and tokens <= self.trunk:
            with writing(self.folder):
                for earlier in self.folder.glob(f"{TRUNK}-*"):
                    remove(earlier)
            trainer.save_checkpoint(self.folder / f"{TRUNK}-{trainer.global_step:010d}")

    def _save(self, trainer: lightning.Trainer) -> None:
        if self._step == trainer.global_step:
            return
        path = self.folder / f"step-{trainer.global_step:010d}"
        trainer.strategy.barrier()  # until no rank moves shared tables
        trainer.save_checkpoint(path)
        log.debug("saved %s", path)
        self._saved, self._step = time.monotonic(), trainer.global_step
        if not (trainer.is_global_zero and self.healthy()):
            return
        with writing(self.folder):
            checkpoints = list_checkpoints(self.folder)
        for old in checkpoints[: -self.keep]:
            with contextlib.suppress(OSError):  # the next save tries again
                remove(old)
