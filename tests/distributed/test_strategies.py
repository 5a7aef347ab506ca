"""What ranks of real processes see and end with: every token once, and the tables of one process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from skiplight.corpus.tokens import Cursor
from skiplight.data.blocks import LoadedBlock
from skiplight.data.datamodule import SkipGramDataModule
from skiplight.data.streams import StreamSchedule
from skiplight.engines.base import StepResult
from skiplight.sampling.batches import TokenBlock
from skiplight.training.module import SkipGramModule
from tests.support.launches import free_port
from tests.support.lockstep import run_ranks
from tests.support.program import CASES, MACHINES, Case, parts
from tests.support.texts import write_texts

ROOT = Path(__file__).parents[2]


def run_program(module: str, *arguments: str, nodes: int = 1) -> None:
    """Run a script of the tests, which starts its other ranks itself, on so many machines that are all this one."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "WANDB"))}
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    variables |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            cwd=ROOT, env=variables | {"NODE_RANK": str(node)},
        )
        for node in range(nodes)
    ]  # fmt: skip
    try:
        for process in processes:
            _, said = process.communicate(timeout=200)
            assert process.returncode == 0, said[-3000:]
    finally:
        for process in processes:
            process.kill()


@pytest.fixture(scope="module", params=[pytest.param(2, marks=pytest.mark.slow), 3])
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A folder in which so many ranks have trained every case."""
    folder = tmp_path_factory.mktemp(f"ranks-{request.param}")
    write_texts(folder / "texts", files=1, documents=30, words=400)
    parts(folder, CASES["sgd"])  # the store is there before the ranks are
    run_program(
        "tests.support.program", str(folder), str(request.param), str(free_port(ports=max(len(CASES), len(MACHINES))))
    )
    return folder, request.param


@pytest.fixture(scope="module", params=[pytest.param((3, 3), marks=pytest.mark.slow), (4, 2)])
def ran_on_machines(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A folder in which so many ranks on so many machines have trained every case of machines."""
    world, nodes = request.param
    folder = tmp_path_factory.mktemp(f"machines-{world}")
    write_texts(folder / "texts", files=1, documents=30, words=400)
    parts(folder, MACHINES["machines"])
    run_program(
        "tests.support.program",
        str(folder),
        str(world),
        str(free_port(ports=max(len(CASES), len(MACHINES)))),
        str(nodes),
        nodes=nodes,
    )
    return folder, world


def left(ran: tuple[Path, int], name: str) -> list[dict]:
    folder, world = ran
    return [torch.load(folder / f"{name}-{world}-{rank}.pt", weights_only=True) for rank in range(world)]


def assert_every_token_is_seen_once_an_epoch(ran: tuple[Path, int], name: str, case: Case) -> None:
    ranks = left(ran, name)
    _, data = parts(ran[0], case)
    expected = Counter(
        (epoch, document, start, length)
        for epoch in range(case.epochs)
        for block in data.blocks(Cursor(epoch), 0, 1, 0, 1)
        for document, start, length in zip(
            block.document.tolist(), block.start.tolist(), block.segments.diff().tolist(), strict=True
        )
    )
    assert sum((Counter(rank["seen"]) for rank in ranks), Counter()) == expected
    steps = sum(len(steps_of(data, epoch, len(ranks))) for epoch in range(case.epochs))
    assert {rank["steps"] for rank in ranks} == {steps}
    assert {rank["tokens"] for rank in ranks} == {data.tokens * case.epochs}
    if not case.streaming:  # this text is smaller than a unit per rank; test_streams.py has larger ones
        assert all(len(rank["seen"]) > 3 for rank in ranks)


def steps_of(data: SkipGramDataModule, epoch: int, world: int) -> list[list[LoadedBlock]]:
    """The blocks of each step of an epoch, those that are not empty."""
    if isinstance(data.blocks, StreamSchedule):
        blocks = zip(*run_ranks(data.blocks, Cursor(epoch), world, 1)[1], strict=True)
        return [[block for block in step if len(block.ids)] for step in blocks]
    every = list(data.blocks(Cursor(epoch), 0, 1, 0, 1))
    return [every[first : first + world] for first in range(0, len(every), world)]


def loss_of(module: SkipGramModule, data: SkipGramDataModule) -> float:
    """The loss of a pair, of the tables as they are."""
    results = [module.engine.step(block, 0.0, 0.0) for block in data.blocks(Cursor(9), 0, 1, 0, 1)]
    return sum(float(result.loss_sum) for result in results) / sum(int(result.pairs) for result in results)


def assert_all_ranks_end_with_the_same_tables(ranks: list[dict]) -> None:
    for rank in ranks[1:]:
        assert all(torch.equal(a, b) for a, b in zip(rank["tables"], ranks[0]["tables"], strict=True))


@pytest.mark.parametrize("name", list(CASES))
def test_every_token_is_seen_once_an_epoch_and_all_ranks_take_the_same_steps(ran: tuple[Path, int], name: str) -> None:
    assert_every_token_is_seen_once_an_epoch(ran, name, CASES[name])


@pytest.mark.parametrize("name", list(CASES))
def test_all_ranks_end_with_the_same_tables_to_the_last_bit(ran: tuple[Path, int], name: str) -> None:
    ranks = left(ran, name)
    assert_all_ranks_end_with_the_same_tables(ranks)
    # What ranks share they need not send.
    assert all((rank["bytes"] > 0) == (name != "fused") for rank in ranks)


@pytest.mark.parametrize("name", list(MACHINES))
def test_machines_see_every_token_once_and_end_with_the_same_tables(
    ran_on_machines: tuple[Path, int], name: str
) -> None:
    assert_every_token_is_seen_once_an_epoch(ran_on_machines, name, MACHINES[name])
    ranks = left(ran_on_machines, name)
    assert_all_ranks_end_with_the_same_tables(ranks)
    assert ranks[0]["bytes"] > 0
    # As good as the tables that one process makes of the same blocks one after the other.
    folder, _ = ran_on_machines
    module, data = parts(folder, MACHINES[name])
    module.configure_optimizers()
    losses = [loss_of(module, data)]
    for epoch in range(MACHINES[name].epochs):
        for block in data.blocks(Cursor(epoch), 0, 1, 0, 1):
            after = module.tokens + block.tokens
            module.engine.step(block, module.lr_at(module.tokens), module.lr_at(after))
            module.tokens = after
    losses.append(loss_of(module, data))
    for table, ours in zip(module.tables.parameters(), ranks[0]["tables"], strict=True):
        table.data.copy_(ours)
    begin, alone, together = [*losses, loss_of(module, data)]
    assert together < alone + 0.05 * (begin - alone)


def merged(blocks: list[TokenBlock]) -> TokenBlock:
    """One block of the segments of several."""
    ends = torch.cat([block.segments.diff() for block in blocks]).cumsum(0)
    return TokenBlock(
        ids=torch.cat([block.ids for block in blocks]),
        segments=torch.cat([torch.zeros(1, dtype=torch.int64), ends]),
        document=torch.cat([block.document for block in blocks]),
        start=torch.cat([block.start for block in blocks]),
        epoch=blocks[0].epoch,
    )


def step_on(
    module: SkipGramModule, data: SkipGramDataModule, optimizer: torch.optim.Optimizer, block: TokenBlock
) -> StepResult:
    """One step of one process on a block, by hand."""
    windows = data.windows(block)
    after = module.tokens + len(windows.block.ids)
    optimizer.zero_grad()
    result = module.engine.step(windows, module.lr_at(module.tokens), module.lr_at(after))
    result.loss.backward()
    module.engine.prepare_step(module.engine.gradient_counts(windows))
    optimizer.step()
    module.tokens = after
    return result


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # of torch's own Adagrad
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.engine == "autograd"])
def test_exchanged_gradients_give_the_tables_of_one_process_with_the_same_global_batch(
    ran: tuple[Path, int], name: str
) -> None:
    folder, world = ran
    module, data = parts(folder, CASES[name])
    optimizer = module.configure_optimizers()
    for epoch in range(CASES[name].epochs):
        for blocks in steps_of(data, epoch, world):
            step_on(module, data, optimizer, merged(blocks))
    for ours, expected in zip(left(ran, name)[0]["tables"], module.tables.parameters(), strict=True):
        # Where Adam's first steps divide by the gradient itself, rounding decides the sign of one that is almost zero.
        torch.testing.assert_close(ours, expected.detach(), rtol=1e-4, atol=1e-4 if "adam" in name else 1e-6)


def test_a_row_that_no_rank_has_touched_stays_where_it_is(tmp_path: Path) -> None:
    # Rank 0 touches more rows than rank 1, or fewer; word 0 is in the first step only, on one rank.
    words = [[[0, 3, 7, 20, 31], [5, 9], [40]], [[8, 3], [9, 50, 60, 70], [41, 42, 44]]]
    torch.save(words, tmp_path / "words.pt")
    run_program("tests.support.rows", str(tmp_path), str(free_port()))
    ranks = [torch.load(tmp_path / f"rows-{rank}.pt", weights_only=True) for rank in range(2)]
    for rank in ranks:
        first, *later = rank["after"]
        assert {"input.weight exp_avg", "output.weight exp_avg_sq"} <= set(first)
        assert all(value.ne(0).all() for value in first.values()), "the first step touches row 0"
        assert len(later) == 2
        for state in later:
            assert all(torch.equal(state[name], first[name]) for name in first)
    assert all(torch.equal(a, b) for a, b in zip(ranks[0]["tables"], ranks[1]["tables"], strict=True))
