"""Which plots are drawn of a table of trials."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from skiplight.experiments.sweeps.plots import option_importances, plot_trials
from skiplight.experiments.trials import TrialRow, TrialTable

EXPONENTS, NEGATIVES = {"noise.exponent": [0.0, 0.5, 1.0]}, {"noise.negatives": [5, 15]}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (EXPONENTS, {"Each option"}),  # the seed is no option
        ({**EXPONENTS, "optim.lr": [0.1, 0.2]}, {"Each option", "Parallel coordinates", "Importance"}),
        (
            {**EXPONENTS, **NEGATIVES},
            {"Each option", "Parallel coordinates", "Importance", "Exponent and negatives"},
        ),
    ],
)
def test_what_is_drawn_of_the_options(tmp_path: Path, options: dict[str, list], expected: set[str]) -> None:
    rows = []
    for number, values in enumerate(itertools.product(*options.values(), [0, 1])):
        params = dict(zip([*options, "seed"], values, strict=True))
        metrics = {"evaluation/wordsim353": 0.5 - (params["noise.exponent"] - 0.7) ** 2, "heldout/perplexity": 1000.0}
        rows.append(TrialRow(number, "complete", params["seed"], params, metrics, 1.0, str(number)))
    table = TrialTable(tmp_path, rows, [*options, "seed"], ["evaluation/wordsim353"], ["maximize"])
    made = plot_trials(table, tmp_path / "plots")
    assert set(made) == expected
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made.values())
    assert bool(option_importances(table)) == ("Importance" in expected)


def test_an_option_that_was_searched_in_the_logarithm_is_drawn_so_and_both_metrics_have_their_best(
    tmp_path: Path,
) -> None:
    params = [{"optim.lr": lr, "noise.exponent": exponent} for lr in (0.01, 0.1, 1.0) for exponent in (0.0, 0.5)]
    rows = [
        TrialRow(n, "complete", 0, one, {"heldout/loss": 5.0 + n, "evaluation/mine": n * (4 - n)}, 1.0, str(n))
        for n, one in enumerate(params)
    ]
    targets = ["heldout/loss", "evaluation/mine"]
    table = TrialTable(tmp_path, rows, list(params[0]), targets, ["minimize", "maximize"])
    assert [table.best_by(target).rows[0].number for target in targets] == [0, 2]
    plain = {title: path.read_bytes() for title, path in plot_trials(table, tmp_path / "plots").items()}
    searched = dataclasses.replace(table, logarithmic=["optim.lr"])
    drawn = {title: path.read_bytes() for title, path in plot_trials(searched, tmp_path / "plots").items()}
    differ = {title for title in plain if plain[title] != drawn[title]}
    assert differ == {"Each option", "Parallel coordinates"}
