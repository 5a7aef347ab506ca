"""Which points cannot be told from the best, and what a report says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skiplight.experiments.sweeps.summary import _print_table, _report_sections
from skiplight.experiments.sweeps.ties import least_difference, tied_with_best
from skiplight.experiments.trials import TrialRow, TrialTable

METRIC = "evaluation/wordsim353"


def make_table(results: np.ndarray, folder: Path = Path("study")) -> TrialTable:
    """Return the table of results [points, seeds]."""
    rows = [
        TrialRow(number, "complete", seed, {"noise.exponent": point / 10}, {METRIC: float(value)}, 1.0, str(number))
        for number, ((point, seed), value) in enumerate(np.ndenumerate(results))
    ]
    return TrialTable(folder, rows, ["noise.exponent"], [METRIC], ["maximize"])


def draw(chance: np.random.Generator, means: list[float], seeds: int, spread: float) -> np.ndarray:
    """Return results [points, seeds] with a common effect of the seed that is larger than those of the points."""
    return np.array(means)[:, None] + chance.normal(0, 0.1, seeds) + chance.normal(0, spread, (len(means), seeds))


def test_the_truly_best_point_is_almost_never_called_worse() -> None:
    chance, kept = np.random.default_rng(0), 0
    for _ in range(400):
        averages = make_table(draw(chance, [0.5, 0.501, 0.502, 0.5, 0.5], 3, 0.01)).average_seeds()
        tied = [averages[0], *tied_with_best(averages, METRIC)]
        kept += any(average.params["noise.exponent"] == 0.2 for average in tied)
    assert kept >= 0.95 * 400 - 3 * (400 * 0.95 * 0.05) ** 0.5


def test_common_seeds_tell_points_apart_that_differ_by_less_than_the_seeds_do() -> None:
    averages = make_table(draw(np.random.default_rng(1), [0.5, 0.52, 0.53, 0.6, 0.598], 3, 0.002)).average_seeds()
    assert [average.params["noise.exponent"] for average in averages[:2]] == [0.3, 0.4]
    assert tied_with_best(averages, METRIC) == [averages[1]]
    assert averages[0].error[METRIC] > 0.01, "far apart over seeds"


def test_the_quantile_against_a_t_test_of_pairs() -> None:
    from scipy import stats

    results = draw(np.random.default_rng(2), [0.5, 0.51], 5, 0.01)
    least = least_difference(make_table(results).average_seeds(), METRIC)
    assert least is not None
    differences = results[1] - results[0]
    error = differences.std(ddof=1) / 5**0.5
    assert least == pytest.approx(stats.t.ppf(0.95, 4) * error)


@pytest.mark.parametrize("shape", [(4, 1), (1, 3)])
def test_nothing_is_said_without_several_seeds_and_points(shape: tuple[int, int]) -> None:
    averages = make_table(np.arange(12.0)[: shape[0] * shape[1]].reshape(shape)).average_seeds()
    assert least_difference(averages, METRIC) is None
    assert tied_with_best(averages, METRIC) == []


def test_the_report_marks_them(tmp_path: Path) -> None:
    table = make_table(np.array([[0.5, 0.6, 0.71], [0.51, 0.61, 0.7], [0.3, 0.4, 0.5]]), tmp_path)
    text = "\n\n".join(_report_sections(table, table.average_seeds(), {}, None))
    assert "± is the standard error of a mean. 1 of the others is so close to the best" in text
    assert text.count("| ≈ best |") == 1
    assert "| 0.6033 ± 0.061 | 3 | ≈ best |" in text


def test_the_printed_table_fits_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        TrialRow(n, "complete", n % 2, dict.fromkeys(NAMES, n // 2), dict.fromkeys(METRICS, 0.123456 * n), 1.0, str(n))
        for n in range(6)
    ]
    table = TrialTable(Path("study"), rows, NAMES, METRICS[:1], ["maximize"])
    printed = {}
    for width in (80, 300):
        monkeypatch.setenv("COLUMNS", str(width))
        _print_table(table, table.average_seeds())
        printed[width] = capsys.readouterr().out
    assert max(map(len, printed[80].splitlines()[:-1])) <= 80
    assert "…" not in printed[80]
    assert printed[80].count("±") == len(table.average_seeds()), "a line for each point, none of them broken"
    assert "report.md also has evaluation/simlex999, heldout/perplexity, heldout/loss" in printed[80]
    assert all(name in printed[300] for name in METRICS)


NAMES = ["noise.exponent", "noise.negatives", "model.dim"]
METRICS = ["evaluation/wordsim353", "evaluation/simlex999", "heldout/perplexity", "heldout/loss"]
