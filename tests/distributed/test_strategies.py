"""What ranks of real processes see and end with: every token once, and the tables of one process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skiplight.blocks import Cursor
from skiplight.distributed.table_averaging import UPDATES, first_rows, sum_scale
from skiplight.sampling.batches import Block
from tests.distributed.program import CASES, parts
from tests.texts import write_texts

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return min(found.getsockname()[1], 65_000)


def run_program(module: str, *arguments: str) -> None:
    """Runs a script of the tests, which starts its other ranks itself."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "WANDB"))}
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True, text=True, check=False, timeout=300, cwd=ROOT,
        env=variables | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module", params=[2, 3])
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A folder in which so many ranks have trained every case."""
    folder = tmp_path_factory.mktemp(f"ranks-{request.param}")
    write_texts(folder / "texts", files=1, documents=30, words=400)
    parts(folder, CASES["sgd"])  # the store is there before the ranks are
    run_program("tests.distributed.program", str(folder), str(request.param), str(free_port()))
    return folder, request.param


def left(ran: tuple[Path, int], name: str) -> list[dict]:
    folder, world = ran
    return [torch.load(folder / f"{name}-{world}-{rank}.pt", weights_only=True) for rank in range(world)]


@pytest.mark.parametrize("name", list(CASES))
def test_every_token_is_seen_once_an_epoch_and_all_ranks_take_the_same_steps(ran: tuple[Path, int], name: str) -> None:
    ranks = left(ran, name)
    _, data = parts(ran[0], CASES[name])
    expected = Counter(
        (epoch, document, start, length)
        for epoch in range(CASES[name].epochs)
        for block in data.blocks(Cursor(epoch), 0, 1, 0, 1)
        for document, start, length in zip(
            block.document.tolist(), block.start.tolist(), block.segments.diff().tolist(), strict=True
        )
    )
    assert sum((Counter(rank["seen"]) for rank in ranks), Counter()) == expected
    assert {rank["steps"] for rank in ranks} == {CASES[name].epochs * -(-len(data.blocks) // len(ranks))}
    assert {rank["tokens"] for rank in ranks} == {data.tokens * CASES[name].epochs}
    assert all(len(rank["seen"]) > 3 for rank in ranks)


@pytest.mark.parametrize("name", list(CASES))
def test_all_ranks_end_with_the_same_tables_to_the_last_bit(ran: tuple[Path, int], name: str) -> None:
    ranks = left(ran, name)
    for rank in ranks[1:]:
        assert all(torch.equal(a, b) for a, b in zip(rank["tables"], ranks[0]["tables"], strict=True))
    assert all(rank["bytes"] > 0 for rank in ranks)


def merged(blocks: list[Block]) -> Block:
    """One block of the segments of several."""
    ends = torch.cat([block.segments.diff() for block in blocks]).cumsum(0)
    return Block(
        ids=torch.cat([block.ids for block in blocks]),
        segments=torch.cat([torch.zeros(1, dtype=torch.int64), ends]),
        document=torch.cat([block.document for block in blocks]),
        start=torch.cat([block.start for block in blocks]),
        epoch=blocks[0].epoch,
    )


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # of torch's own Adagrad
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.engine == "autograd"])
def test_exchanged_gradients_give_the_tables_of_one_process_with_the_same_global_batch(
    ran: tuple[Path, int], name: str
) -> None:
    folder, world = ran
    module, data = parts(folder, CASES[name])
    optimizer = module.configure_optimizers()
    for epoch in range(CASES[name].epochs):
        blocks = list(data.blocks(Cursor(epoch), 0, 1, 0, 1))
        for first in range(0, len(blocks), world):
            windows = data.windows(merged(blocks[first : first + world]))
            after = module.tokens + len(windows.block.ids)
            optimizer.zero_grad()
            result = module.engine.step(windows, module.lr_at(module.tokens), module.lr_at(after))
            result.loss.backward()
            module.engine.prepare_step(module.engine.gradient_counts(windows))
            optimizer.step()
            module.tokens = after
    for ours, expected in zip(left(ran, name)[0]["tables"], module.tables.parameters(), strict=True):
        # Where Adam's first steps divide by the gradient itself, rounding decides the sign of one that is almost zero.
        torch.testing.assert_close(ours, expected.detach(), rtol=1e-4, atol=1e-4 if "adam" in name else 1e-6)


def test_a_row_that_no_rank_has_touched_stays_where_it_is(tmp_path: Path) -> None:
    # Rank 0 touches more rows than rank 1, or fewer; word 0 is in the first step only, on one rank.
    words = [[[0, 3, 7, 20, 31], [5, 9], [40]], [[8, 3], [9, 50, 60, 70], [41, 42, 44]]]
    torch.save(words, tmp_path / "words.pt")
    run_program("tests.distributed.rows", str(tmp_path), str(free_port()))
    ranks = [torch.load(tmp_path / f"rows-{rank}.pt", weights_only=True) for rank in range(2)]
    for rank in ranks:
        first, *later = rank["after"]
        assert {"input.weight exp_avg", "output.weight exp_avg_sq"} <= set(first)
        assert all(value.ne(0).all() for value in first.values()), "the first step touches row 0"
        assert len(later) == 2
        for state in later:
            assert all(torch.equal(state[name], first[name]) for name in first)
    assert all(torch.equal(a, b) for a, b in zip(ranks[0]["tables"], ranks[1]["tables"], strict=True))


@given(st.floats(0, 1e6), st.integers(2, 64))
def test_what_ranks_add_counts_for_at_least_its_mean_and_at_most_its_sum(x: float, ranks: int) -> None:
    scale, more = sum_scale(torch.tensor([x, x * 1.1], dtype=torch.float64), ranks).tolist()
    assert 1 / ranks - 1e-9 <= more <= scale + 1e-9 <= 1 + 2e-9
    # A step towards an optimum, taken by each rank for its own, is put together to what one process would have gone.
    share = 1e-3
    updates = round(min(x, 30) / share)
    alone = 1 - (1 - share) ** updates
    one_after_the_other = 1 - (1 - share) ** (updates * ranks)
    put_together = float(sum_scale(torch.tensor([share * updates], dtype=torch.float64), ranks)) * ranks * alone
    assert put_together == pytest.approx(one_after_the_other, rel=2e-3, abs=1e-9)


@given(st.lists(st.floats(1e-3, 1e7), min_size=1, max_size=50), st.integers(1, 100))
def test_every_row_is_exchanged_before_it_has_summed_too_many_gradients(gradients: list[float], every: int) -> None:
    ordered = np.sort(np.array(gradients))[::-1]
    rows = first_rows(ordered, every)
    exchanged = [rows(step) for step in range(1, 3 * every + 1)]
    assert exchanged[every - 1 :: every] == [len(ordered)] * 3
    for row, in_a_step in enumerate(ordered):
        steps = [0, *(step for step, count in enumerate(exchanged, 1) if count > row)]
        longest = max(np.diff(steps))
        assert longest <= every
        assert longest == 1 or longest * in_a_step <= UPDATES * (1 + 1e-9)
