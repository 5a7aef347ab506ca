"""The examples run, and their vectors are worth having."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

EXAMPLES = Path(__file__).parents[2] / "scripts" / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_item_vectors_recommend_better_than_popularity() -> None:
    ours, popular = example("items").main(["trainer.max_epochs=5"])
    assert ours > 1.5 * popular


def test_node_vectors_tell_communities_apart() -> None:
    ours, guessed = example("nodes").main(["trainer.max_epochs=3"])
    assert ours > 0.8 > 2 * guessed
