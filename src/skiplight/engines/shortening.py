"""Counts the gradients that shortened steps leave out of a training, so that a run can report them."""

from __future__ import annotations

from typing import Any

TABLES = ("input", "output")


class Shortening:
    """Sums, for each of the two tables, the gradients that shortened steps leave out.

    A row that sums n gradients, but moves only as far as m of them would move it, leaves n - m of them out. The sums
    are Python floats, which are float64 and exact to about 2^53 gradients.
    """

    def __init__(self) -> None:
        self._gradients = dict.fromkeys(TABLES, 0.0)
        self._left_out = dict.fromkeys(TABLES, 0.0)
        self._rows = dict.fromkeys(TABLES, 0)

    def add(self, table: str, gradients: float, left_out: float, rows: int) -> None:
        """Count one step of one table.

        Args:
            table: "input" or "output".
            gradients: number of gradients that the step summed, over all rows of the table.
            left_out: number of gradients that the shortened rows left out.
            rows: number of rows that were shortened.
        """
        self._gradients[table] += gradients
        self._left_out[table] += left_out
        self._rows[table] = max(self._rows[table], rows)

    def shares(self) -> dict[str, dict[str, float | int]]:
        """Return, for each table, the share of gradients left out and the largest number of rows shortened in a step.

        Returns:
            `{"input": {"share": 0..1, "rows": int}, "output": {...}}`; zeros if no step was shortened.
        """
        return {
            table: {
                "share": self._left_out[table] / self._gradients[table] if self._gradients[table] else 0.0,
                "rows": self._rows[table],
            }
            for table in TABLES
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the sums as plain Python types, for a checkpoint."""
        return {"gradients": dict(self._gradients), "left_out": dict(self._left_out), "rows": dict(self._rows)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the sums from a checkpoint."""
        self._gradients, self._left_out = dict(state["gradients"]), dict(state["left_out"])
        self._rows = dict(state["rows"])
