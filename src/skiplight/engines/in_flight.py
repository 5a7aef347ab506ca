"""How far a row may step while other workers have gradients for it under way.

Workers (threads and processes of the CPU engine, programs of the GPU engine) move the same tables at the same time. The
gradients that one of them computes are unknown to the others until it has added them to the table, so all workers
correct the same error of a frequent word at once, and together they overshoot. The steps of such rows are shortened.

By how much: let a row be moved along rows u by gradients of the logistic loss log(1 + e^z), whose curvature is
σ(1-σ) <= 1/4. To first order, one gradient reduces the row's error by the factor lr·σ(1-σ)·|u|². If n gradients are
computed from the same state of the row, they reduce the error by n times as much together: beyond 1 they overshoot, and
beyond 2 the error grows with every round. With |u|² about 1, lr·n <= `MOST` = 4 keeps that factor at most 1. n is the
number of gradients that the other workers are expected to have under way, the product of

- the number of other workers,
- the gradients that a worker computes for the row in one window (`in_flight_gradients`), and
- the number of windows between reading a row and adding to the table a gradient that was computed from what was read.

The last is 2W + 1 for a copy that stays within reach of the window from its entry to its exit: a gradient that is
computed x windows after the entry does not know of what others added in these x windows, and others do not know of it
for 2W + 1 - x windows. In the CPU engine it is fewer where an equal word enters meanwhile and the copy is read anew: at
W 10 it is 15 on average, not 21, for a word that makes up 7.5 % of the text. So the bound is on the safe side for the
most frequent words. An output row is read and added to within one window.

`scripts/benchmarks/emulate_threads.py` shows what the bound does: on the demo text without subsampling (W 10, K 5,
lr .05), 128 threads end within 3 % of the loss of one. With `MOST` four times as high, their loss in training stays at
that of vectors that know nothing.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from skiplight.sampling.windows import WindowSampler

Table = Literal["input", "output"]

MOST = 4.0
"""The most that rate · gradients in flight may be for a full step: lr·n·σ(1-σ) is then at most 1."""


def in_flight_gradients(sampler: WindowSampler, resident: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return how many gradients one worker is expected to have in flight for each row of the input and output table.

    A window has W + 1 pairs on average, each with K + 1 scores. An output row gets a gradient from each pair of its
    windows, an input row one from each score of its pairs.

    Args:
        sampler: draws the windows and their negatives.
        resident: whether context rows are copied when they come within reach and added to the table when they leave,
            2W + 1 windows later, rather than read from the table and added to it in each window.

    Returns:
        Two float64 [V].
    """
    inputs, outputs = _gradients_per_window(sampler)
    return inputs * (2 * sampler.window + 1 if resident else 1), outputs


def gradients_per_token(sampler: WindowSampler) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients that each row of the input and output table is expected to get per token, float64 [V]."""
    inputs, outputs = _gradients_per_window(sampler)
    windows = _windows_per_token(sampler)
    return windows * inputs, windows * outputs


def step_scale(rate: float, others: int, in_flight: np.ndarray) -> np.ndarray:
    """Return the factor by which the step of each row is multiplied, at most 1.

    Args:
        rate: learning rate.
        others: number of other workers on the same tables.
        in_flight: float64 [V], gradients that each of them is expected to have in flight (`in_flight_gradients`).

    Returns:
        float64 [V].

    >>> step_scale(0.05, 100, np.array([0.1, 1.6, 8.0])).tolist()
    [1.0, 0.5, 0.1]
    """
    return MOST / np.maximum(rate * others * in_flight, MOST)


def shortened_share(rate: float, others: int, in_flight: np.ndarray, gradients: np.ndarray) -> tuple[float, int]:
    """Return the share of a table's gradients that `step_scale` leaves out, and the number of rows that it shortens.

    Args:
        rate, others, in_flight: as for `step_scale`.
        gradients: float64 [V], the gradients that each row is expected to get.

    >>> share, rows = shortened_share(0.05, 100, np.array([0.1, 1.6, 8.0]), np.array([10.0, 20.0, 70.0]))
    >>> round(share, 2), rows
    (0.73, 2)
    """
    scale = step_scale(rate, others, in_flight)
    total = float(gradients.sum())
    return float(gradients @ (1 - scale)) / total if total else 0.0, int((scale < 1).sum())


class StepScales:
    """The step scales of both tables for a given number of workers, and what they leave out.

    Args:
        sampler, resident: as for `in_flight_gradients`.
        others: number of other workers on the same tables.

    Attributes:
        in_flight: for each table, the gradients that a worker is expected to have in flight, float32 [V].
    """

    def __init__(self, sampler: WindowSampler, resident: bool, others: int) -> None:
        self.others = others
        in_flight = in_flight_gradients(sampler, resident)
        tables: tuple[Table, Table] = ("input", "output")
        self.in_flight = {
            table: gradients.astype(np.float32) for table, gradients in zip(tables, in_flight, strict=True)
        }
        windows_in_flight = (2 * sampler.window + 1 if resident else 1, 1)
        self._sorted = {
            table: _SortedRows(gradients, MOST / max(others, 1), _windows_per_token(sampler) / windows)
            for table, gradients, windows in zip(tables, in_flight, windows_in_flight, strict=True)
        }

    def needed(self, rate: float) -> bool:
        """Return whether any row's step is shortened at a learning rate."""
        return any(rate * self.others * rows.most_in_flight > MOST for rows in self._sorted.values())

    def shortened(self, tokens: int, rate: float) -> dict[Table, tuple[float, float, int]]:
        """Return what is expected to be left out of the training on a number of consumed tokens.

        Returns:
            For each table: the gradients that its rows get, those that shortened steps leave out, in multiples of a
            whole gradient, and the number of rows whose steps are shortened. At rates above 1, less than is left out.
        """
        result: dict[Table, tuple[float, float, int]] = {}
        for table, rows in self._sorted.items():
            left_out, number = rows.left_out(rate * self.others)
            result[table] = tokens * rows.gradients, tokens * left_out, number
        return result


class _SortedRows:
    """`shortened_share` of a table in O(log V), by sums over the rows with the most gradients in flight.

    Args:
        in_flight: float64 [V], as for `step_scale`.
        least: rows with so many or fewer in flight are never shortened, and not kept.
        per_in_flight: gradients that a row gets per token, divided by those that it has in flight.
    """

    def __init__(self, in_flight: np.ndarray, least: float, per_in_flight: float) -> None:
        self._per_in_flight = per_in_flight
        self.gradients, self.most_in_flight = per_in_flight * float(in_flight.sum()), float(in_flight.max())
        self._ascending = np.sort(in_flight[in_flight > least])
        self._sums = np.concatenate([[0.0], np.cumsum(self._ascending[::-1])])

    def left_out(self, rate_of_others: float) -> tuple[float, int]:
        """Return the gradients left out per token and the number of shortened rows; `rate_of_others`: rate · others."""
        if rate_of_others * self.most_in_flight <= MOST:
            return 0.0, 0
        # The scale of a row is most / in_flight, so what it leaves out is in proportion to in_flight - most.
        most = MOST / rate_of_others
        rows = len(self._ascending) - int(np.searchsorted(self._ascending, most, side="right"))
        return self._per_in_flight * float(self._sums[rows] - most * rows), rows


def _gradients_per_window(sampler: WindowSampler) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradients that each row of both tables is expected to get from one window, two float64 [V]."""
    pairs, negatives = sampler.window + 1, sampler.negatives
    inputs = pairs * (negatives + 1) * sampler.frequency
    return inputs, pairs * (sampler.frequency + negatives * sampler.noise.probabilities)


def _windows_per_token(sampler: WindowSampler) -> float:
    """Return how many windows a token has, one if it is kept; `frequency` is ∝ count · keep probability."""
    return 1 / float((sampler.frequency / ((sampler.keep + 1.0) / 2**32)).sum())
