"""Checkpoints: folders that appear whole or not at all, made between two steps, from which a run goes on exactly.

A checkpoint holds `tables-0.safetensors` (the two tables), `state.pt` (everything else, plain types and tensors only,
read with `weights_only=True`) and `manifest.json` (format version, sizes and checksums). No path is in it: a run
folder can be moved.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from safetensors.torch import load_file, save_file

from skiplight.errors import RunError
from skiplight.files import replacing, writing
from skiplight.signals import StopRequest

log = logging.getLogger(__name__)

FORMAT = 1
_TABLES, _STATE, _MANIFEST = "tables-0.safetensors", "state.pt", "manifest.json"


class FolderCheckpointIO(CheckpointIO):
    """Lightning's checkpoints as folders."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        rest = {key: value for key, value in checkpoint.items() if key != "state_dict"}
        tables = {name: tensor.contiguous() for name, tensor in checkpoint["state_dict"].items()}
        with writing(path), replacing(path) as folder:
            folder.mkdir()
            save_file(tables, folder / _TABLES)
            torch.save(rest, folder / _STATE)
            files = {name: {"bytes": (folder / name).stat().st_size, "blake2b": _digest(folder / name)}
                     for name in (_TABLES, _STATE)}  # fmt: skip
            manifest = {"format": FORMAT, "world_size": 1, "step": checkpoint["global_step"], "files": files}
            (folder / _MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Reads a checkpoint back.

        Raises:
            RunError: it is not one, is damaged, or of a newer format.
        """
        folder = Path(path)
        try:
            manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{folder} is not a checkpoint: {error}") from None
        if manifest["format"] > FORMAT:
            raise RunError(f"{folder} is of format {manifest['format']}, newer than this skiplight reads: upgrade it")
        for name, expected in manifest["files"].items():
            file = folder / name
            if not file.exists() or file.stat().st_size != expected["bytes"] or _digest(file) != expected["blake2b"]:
                raise RunError(f"{file} is damaged: delete {folder} to go on from the checkpoint before it")
        checkpoint = torch.load(folder / _STATE, map_location=map_location, weights_only=True)
        checkpoint["state_dict"] = load_file(folder / _TABLES)
        return checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        shutil.rmtree(path, ignore_errors=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def latest(folder: Path) -> Path | None:
    """The newest checkpoint in a run's `checkpoints/`, None where there is none."""
    found = sorted(folder.glob("step-*"))
    return found[-1] if found else None


class Checkpointing(Checkpoint):
    """Saves every so many seconds, on a stop request and at the end; keeps the newest.

    Args:
        folder: the run's `checkpoints/`.
        every: seconds between two checkpoints.
        keep: how many stay.
        stop: asked between steps whether to save and stop.
    """

    def __init__(self, folder: Path, *, every: float, keep: int, stop: StopRequest) -> None:
        self.folder, self.every, self.keep, self.stop = folder, every, keep, stop
        self._saved = time.monotonic()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._saved = time.monotonic()
        # Only now, behind Lightning's own: its SIGTERM handler would end training without saving.
        self.stop.install()

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        self.stop.remove()

    def on_train_batch_end(self, trainer: lightning.Trainer, *args: Any, **kwargs: Any) -> None:
        if self.stop.signal is not None:
            trainer.should_stop = True
            self._save(trainer)
        elif time.monotonic() - self._saved >= self.every:
            self._save(trainer)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._save(trainer)

    def _save(self, trainer: lightning.Trainer) -> None:
        path = self.folder / f"step-{trainer.global_step:010d}"
        if path.exists():
            return
        trainer.save_checkpoint(path)
        log.debug("saved %s", path)
        for old in sorted(self.folder.glob("step-*"))[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)
        self._saved = time.monotonic()
