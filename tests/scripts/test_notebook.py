"""The example notebook runs as it stands, and shows progress, tables and the page of its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.support.runs import SMALL
from tests.support.texts import write_texts

NOTEBOOK = Path(__file__).parents[2] / "scripts" / "examples" / "notebook.ipynb"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The cells after running it with a small text in place of the demo text."""
    folder = tmp_path_factory.mktemp("notebook")
    write_texts(folder / "texts", files=1, documents=60, words=400)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert notebook.cells[1].source.count("options = [") == 1
    small = ["data=files", "data.path=texts/*.txt", "data.store=stores", "data.heldout=0.1", *SMALL]
    notebook.cells[1].source += f"\noptions = {small} + options"
    [query] = [cell for cell in notebook.cells if "water" in cell.source]
    query.source = query.source.replace('"water"', "run.vectors.vocabulary.words[9]")
    NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook.cells


def shown(cell: Any, kind: str) -> str:
    """What a cell displays of a type, `text/html` or another."""
    return "".join(output["data"].get(kind, "") for output in cell.outputs if "data" in output)


def cell_with(cells: list[Any], source: str) -> Any:
    [found] = [cell for cell in cells if cell.source.startswith(source)]
    return found


def test_progress_is_shown_and_nothing_else(cells: list[Any]) -> None:
    training = cell_with(cells, "run = skiplight.train")
    assert shown(training, "text/plain").startswith("100 %  loss ")
    assert "display_data" in [output.output_type for output in training.outputs]


def test_a_run_is_shown_as_its_page(cells: list[Any]) -> None:
    [page] = [shown(cell, "text/html") for cell in cells if cell.source == "run"]
    assert page.startswith('<iframe srcdoc="&lt;!doctype html&gt;')
    assert 100_000 < len(page) < 5_000_000


def test_trials_are_a_table_and_metrics_a_plot(cells: list[Any]) -> None:
    table = shown(cell_with(cells, "table = skiplight.sweep"), "text/html")
    assert table.count("<td>complete</td>") == 2
    assert shown(cell_with(cells, "run.metrics.plot"), "image/png")
    assert shown(cell_with(cells, "table.frame.plot"), "image/png")
