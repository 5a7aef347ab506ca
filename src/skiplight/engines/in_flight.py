"""How far a row may step while other workers compute gradients for it.

Workers (threads and processes of the CPU engine, programs of the GPU engine) move the same tables at the same time. A
worker's gradients are *in flight* from the moment that it reads a row until it adds them to the table: no other worker
knows them. So all workers correct the same error of a frequent word at once, and together they overshoot. The steps of
such rows are shortened.

By how much? Let the gradients of the logistic loss log(1 + e^z), whose curvature is σ(1-σ) <= 1/4, move a row along
rows u. To first order, one gradient reduces the error of the row by the factor lr·σ(1-σ)·|u|². If n gradients are
computed from the same state of the row, they reduce the error by n times as much together: beyond 1 they overshoot, and
beyond 2 the error grows with every round. With |u|² about 1, lr·n <= `MOST` = 4 keeps that factor at most 1. n is the
expected number of gradients that the other workers have in flight, the product of

- the number of other workers,
- the gradients that a worker computes for the row in one window (`in_flight_gradients`), and
- the number of windows between reading a row and adding to the table a gradient that was computed from it.

The last is 2W + 1 for a copy that stays within reach of the window from its entry to its exit: a gradient that is
computed x windows after the entry lacks what others added in these x windows, and others lack this gradient for the
remaining 2W + 1 - x windows. In the CPU engine it is less if an equal word enters in between, because the copy is then
read again: with W = 10 it is 15 on average, not 21, for a word that makes up 7.5 % of the text. So the bound is on the
safe side for the most frequent words. An output row is read and added to within one window.

`scripts/benchmarks/emulate_threads.py` measures the effect of the bound. On the demo text without subsampling (W = 10,
K = 5, lr = 0.05), the loss of 128 threads ends within 3 % of the loss of one. With `MOST` four times as high, their
training loss stays at that of vectors that have not been trained.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from skiplight.objectives.scoring import Scoring, score_candidates_of
from skiplight.sampling.windows import WindowSampler

Table = Literal["input", "output"]

MOST = 4.0
"""The largest product of learning rate and gradients in flight for a full step; lr·n·σ(1-σ) is then at most 1."""


def in_flight_gradients(
    sampler: WindowSampler, resident: bool, scoring: Scoring | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the expected number of gradients that one worker has in flight for each row of both tables.

    A window has W + 1 pairs on average. With K + 1 logistic scores per pair, an output row gets a gradient from each
    pair of its windows, an input row one from each score of its pairs; a softmax moves an input row like up to four.

    Args:
        sampler: draws the windows and their negatives.
        resident: whether context rows are copied when they come within reach and added to the table when they leave,
            2W + 1 windows later, rather than read from the table and added to it in each window.
        scoring: counts the gradients of a pair; default: negative sampling.

    Returns:
        float64 [V] and [output_rows].
    """
    inputs, outputs = _gradients_per_window(sampler, scoring)
    return inputs * (2 * sampler.window + 1 if resident else 1), outputs


def gradients_per_token(sampler: WindowSampler) -> tuple[np.ndarray, np.ndarray]:
    """Return the expected number of gradients per token for each row of the input and output table, float64 [V]."""
    inputs, outputs = _gradients_per_window(sampler)
    windows = _windows_per_token(sampler)
    return windows * inputs, windows * outputs


def step_scale(rate: float, other_workers: int, in_flight: np.ndarray) -> np.ndarray:
    """Return the factor by which the step of each row is multiplied, at most 1.

    Args:
        rate: learning rate.
        other_workers: number of other workers on the same tables.
        in_flight: float64 [V], expected number of gradients that each has in flight (`in_flight_gradients`).

    Returns:
        float64 [V].

    >>> step_scale(0.05, 100, np.array([0.1, 1.6, 8.0])).tolist()
    [1.0, 0.5, 0.1]
    """
    return MOST / np.maximum(rate * other_workers * in_flight, MOST)


def shortened_share(rate: float, other_workers: int, in_flight: np.ndarray, gradients: np.ndarray) -> tuple[float, int]:
    """Return the share of a table's gradients that `step_scale` leaves out, and the number of rows that it shortens.

    Args:
        rate, other_workers, in_flight: as for `step_scale`.
        gradients: float64 [V], expected number of gradients of each row.

    >>> share, rows = shortened_share(0.05, 100, np.array([0.1, 1.6, 8.0]), np.array([10.0, 20.0, 70.0]))
    >>> round(share, 2), rows
    (0.73, 2)
    """
    scale = step_scale(rate, other_workers, in_flight)
    total = float(gradients.sum())
    return float(gradients @ (1 - scale)) / total if total else 0.0, int((scale < 1).sum())


class StepScales:
    """The step scales of both tables for a given number of workers, and the gradients that they leave out.

    Args:
        sampler, resident, scoring: as for `in_flight_gradients`.
        other_workers: number of other workers on the same tables.

    Attributes:
        in_flight: for each table, the expected number of gradients that a worker has in flight, float32 [rows].
    """

    def __init__(
        self, sampler: WindowSampler, resident: bool, other_workers: int, scoring: Scoring | None = None
    ) -> None:
        self.other_workers = other_workers
        in_flight = in_flight_gradients(sampler, resident, scoring)
        tables: tuple[Table, Table] = ("input", "output")
        self.in_flight = {
            table: gradients.astype(np.float32) for table, gradients in zip(tables, in_flight, strict=True)
        }
        windows_in_flight = (2 * sampler.window + 1 if resident else 1, 1)
        self._sorted = {
            table: _SortedRows(gradients, MOST / max(other_workers, 1), _windows_per_token(sampler) / windows)
            for table, gradients, windows in zip(tables, in_flight, windows_in_flight, strict=True)
        }

    def needed(self, rate: float) -> bool:
        """Return whether any row's step is shortened at a learning rate."""
        return any(rate * self.other_workers * rows.most_in_flight > MOST for rows in self._sorted.values())

    def shortened(self, tokens: int, rate: float) -> dict[Table, tuple[float, float, int]]:
        """Return the gradients that the training on a number of tokens is expected to leave out.

        Returns:
            For each table: the number of gradients of all rows, the number that shortened steps leave out, and the
            number of rows whose steps are shortened. The second is too low for learning rates above 1.
        """
        result: dict[Table, tuple[float, float, int]] = {}
        for table, rows in self._sorted.items():
            left_out, number = rows.left_out(rate * self.other_workers)
            result[table] = tokens * rows.gradients, tokens * left_out, number
        return result


class _SortedRows:
    """Computes `shortened_share` of a table in O(log V), by sums over the rows with the most gradients in flight.

    Args:
        in_flight: float64 [V], as for `step_scale`.
        least: the steps of rows with at most this many in flight are never shortened.
        per_in_flight: gradients of a row per token, divided by those in flight.
    """

    def __init__(self, in_flight: np.ndarray, least: float, per_in_flight: float) -> None:
        self._per_in_flight = per_in_flight
        self.gradients, self.most_in_flight = per_in_flight * float(in_flight.sum()), float(in_flight.max())
        self._ascending = np.sort(in_flight[in_flight > least])
        self._sums = np.concatenate([[0.0], np.cumsum(self._ascending[::-1])])

    def left_out(self, workers_rate: float) -> tuple[float, int]:
        """Return the gradients left out per token and the number of shortened rows.

        Args:
            workers_rate: learning rate · number of other workers.
        """
        if workers_rate * self.most_in_flight <= MOST:
            return 0.0, 0
        # The scale of a row is most / in_flight, so it leaves out gradients in proportion to in_flight - most.
        most = MOST / workers_rate
        rows = len(self._ascending) - int(np.searchsorted(self._ascending, most, side="right"))
        return self._per_in_flight * float(self._sums[rows] - most * rows), rows


def _gradients_per_window(sampler: WindowSampler, scoring: Scoring | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the expected number of gradients per window for each row of both tables, two float64 arrays."""
    scoring = scoring or score_candidates_of(sampler, 1 + sampler.negatives)
    pairs = sampler.window + 1
    return pairs * scoring.input_gradients * sampler.frequency, pairs * scoring.output_gradients


def _windows_per_token(sampler: WindowSampler) -> float:
    """Return the number of windows per token, the probability that it is kept.

    `frequency` is proportional to count · keep probability.
    """
    return 1 / float((sampler.frequency / ((sampler.keep + 1.0) / 2**32)).sum())
