"""Several ranks find what one does, each with a share of the questions, and fail together."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torchmetrics

from skiplight.corpus.vocabulary import Vocabulary
from skiplight.data.heldout import HeldoutPairs
from skiplight.evaluation.heldout import HeldoutLoss
from skiplight.evaluation.ranks import ALONE, Ranks
from skiplight.evaluation.suite import EvaluationSuite
from skiplight.objectives.base import Tables
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.vectors.word_vectors import WordVectors

WORDS = [f"w{number}" for number in range(60)]


class Norms(torchmetrics.MeanMetric):
    """A metric that shares out its work; `fails` on one rank."""

    def __init__(self, fails: int = -1) -> None:
        super().__init__()
        self.fails = fails

    def update(self, vectors: WordVectors, *, rank: int = 0, world: int = 1) -> None:  # type: ignore[override]
        if rank == self.fails:
            raise ValueError("only here")
        super().update(vectors.input[rank::world].norm(dim=1))


class Largest(torchmetrics.MaxMetric):
    """A metric that does not."""

    def update(self, vectors: WordVectors) -> None:  # type: ignore[override]
        super().update(vectors.input.max())


def write_sets(folder: Path) -> None:
    generator = torch.Generator().manual_seed(1)

    def draw(n: int) -> list[str]:
        return [f"w{number}" for number in torch.randint(0, 64, (n,), generator=generator).tolist()]  # some unknown

    lines = [f"{a}\t{b}\t{n % 7}\n" for n, (a, b) in enumerate(zip(draw(60), draw(60), strict=True))]
    (folder / "pairs.tsv").write_text("".join(lines))
    questions = [" ".join(draw(4)) for _ in range(40)]
    (folder / "questions.txt").write_text("\n".join([": one", *questions[:15], ": two", *questions[15:]]))
    (folder / "sequences.txt").write_text("\n".join(" ".join(draw(5)) for _ in range(50)))
    (folder / "two.tsv").write_text("w1 w2 1\nw3 w4 2\n")  # of three ranks one has no pair
    (folder / "only").mkdir()
    (folder / "only" / "missing.tsv").write_text("w1 w2 1\nw3 w4 2\n")


def evaluate(folder: Path, ranks: Ranks, missing: bool) -> dict[str, dict[str, Any]]:
    """Evaluate; with `missing`, a file is not there on this rank."""
    tables = Tables(60, 8, seed=3)
    torch.nn.init.normal_(tables.output.weight, generator=torch.Generator().manual_seed(2))
    inputs = torch.arange(60).repeat_interleave(3)
    outputs, weights = (inputs * 7 + torch.arange(180)) % 60, torch.linspace(0.2, 1, 180).double()
    pairs = HeldoutPairs(inputs, outputs, weights, validation=inputs % 5 == 0)
    objective = NegativeSampling(torch.arange(1, 61).double().numpy() / 1830)

    def heldout(metric: HeldoutLoss, rank: int, world: int) -> None:
        metric.update(objective, tables, pairs, rank=rank, world=world)

    similar = [folder / "pairs.tsv", folder / "two.tsv", folder / ("none" if missing else "only") / "missing.tsv"]
    suite = EvaluationSuite.of(similar, [folder / "questions.txt"], 58, [folder / "sequences.txt"])
    suite.add("several", torchmetrics.MetricCollection({"norms": Norms(), "again": Norms()}))
    suite.add("largest", Largest())
    suite.add("whole", lambda vectors: {"rows": len(vectors), "sum": vectors.input.double().sum()})
    if ranks.group is not None:
        suite.add("failing", Norms(fails=1))
    vectors = WordVectors(Vocabulary(WORDS, range(99, 39, -1)), tables.input.weight)
    first, again = suite(vectors, ranks, heldout), suite(vectors, ranks, heldout)
    assert first == again, "states of the evaluation before are left"
    return first


def _rank(folder: str, rank: int, world: int, readers: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/{world}-{readers}", rank=rank, world_size=world)
    ranks = Ranks(rank if rank < readers else None, readers, dist.group.WORLD)
    results = evaluate(Path(folder), ranks, missing=rank == 1)
    Path(folder, f"{world}-{readers}-{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


@pytest.mark.parametrize(("world", "readers"), [(2, 2), (3, 3), (3, 2)])
def test_they_find_what_one_finds(tmp_path: Path, world: int, readers: int) -> None:
    write_sets(tmp_path)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.preloaded"])
    processes = [context.Process(target=_rank, args=(str(tmp_path), rank, world, readers)) for rank in range(world)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    found = [json.loads((tmp_path / f"{world}-{readers}-{rank}.json").read_text()) for rank in range(world)]
    assert all(results == found[0] for results in found), "ranks differ"
    results, expected = found[0], json.loads(json.dumps(evaluate(tmp_path, ALONE, missing=False)))
    # What fails on one rank has failed on all.
    assert "ValueError: only here" in results.pop("failing")["error"]
    assert "there is no evaluation set" in results.pop("missing")["error"]
    assert list(results) == [name for name in expected if name != "missing"]
    assert expected["questions"]["questions"] > 10
    results["validation"], expected["validation"] = (of["heldout"].pop("validation") for of in (results, expected))
    assert results["questions"].pop("sections") == expected["questions"].pop("sections")
    for name, result in results.items():
        assert list(result) == list(expected[name])
        for key, value in result.items():
            # torchmetrics' own means are of float32.
            exact = pytest.approx(expected[name][key], rel=1e-6 if name == "several" else 1e-12)
            assert value == exact, (name, key)
