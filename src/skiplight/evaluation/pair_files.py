"""Reads word pairs with people's judgements from files as they come.

Fields are separated by tabs, semicolons, commas (quoted as the csv module does) or white space, whichever gives most
lines three or more. The first two columns that are not numbers are the words. Of several columns of numbers, one that
only counts the lines is left out; the others are annotators, whose mean counts, unless the header says otherwise.
"""

from __future__ import annotations

import collections
import csv
import functools
import logging
import math
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from skiplight.errors import EvaluationError

log = logging.getLogger(__name__)

ANNOTATOR = re.compile(r"\W*((annotator|rater|judge|subject|person|participant|score|rating|[ajprs])\W*)?\d+\W*", re.I)
MEAN = re.compile(r"\b(mean|average|avg)\b", re.I)


class Row(NamedTuple):
    """A line: its number, its text and its fields."""

    number: int
    line: str
    fields: list[str]


def malformed(path: Path, expected: str, lines: Sequence[tuple[int, str]]) -> EvaluationError:
    """Return the error for malformed lines, each given with its number."""
    shown = "; ".join(f"line {number}: {line!r}" for number, line in lines[:3])
    more = f"; and {len(lines) - 3} more" if len(lines) > 3 else ""
    return EvaluationError(f"{path}: expected {expected} on each line, got {shown}{more}; correct or remove them")


def parse_pairs(path: Path, lines: Sequence[str], column: str | None) -> tuple[list[tuple[str, str]], list[float]]:
    """Return the words and the judgement of each line.

    Args:
        path: the file, for errors.
        lines: its lines; empty ones, and those that begin with `#`, are skipped.
        column: name of the column of judgements; by default, all columns of numbers, if it is clear that they agree.

    Raises:
        EvaluationError: lines are malformed, there is no such column, or it is not clear which has the judgements.
    """
    rows = _split([(i, line) for i, line in enumerate(lines, 1) if line.strip() and not line.startswith("#")])
    if not rows:
        return [], []
    body = rows[1:] or rows
    width = max(3, collections.Counter(len(row.fields) for row in body).most_common(1)[0][0])
    whole = [row for row in body if len(row.fields) == width]
    numeric = [c for c in range(width) if _share_of_numbers(whole, c) > 0.5]
    first = rows[0].fields
    has_header = len(first) >= 3 and any(not _is_number_like(first[c]) for c in numeric if c < len(first))
    names = first if has_header and len(first) == width else None
    words = [c for c in range(width) if c not in numeric][:2]
    chosen = _choose_judgements(path, whole, numeric, names, column)
    data = rows[1:] if has_header else rows
    bad = [(row.number, row.line) for row in data if not _is_whole(row.fields, width, words, chosen)]
    if bad or len(words) < 2 or not chosen:
        raise malformed(path, "two words and a number", bad or [(row.number, row.line) for row in data])
    if width > 3:
        shown = [f"{names[c]!r}" if names else f"{c + 1}" for c in chosen]
        _log_once(f"{path}: judgements are {'the mean of columns' if len(chosen) > 1 else 'column'} {', '.join(shown)}")
    return (
        [(row.fields[words[0]], row.fields[words[1]]) for row in data],
        [statistics.fmean(read_number(row.fields[c]) for c in chosen) for row in data],
    )


def read_number(text: str) -> float:
    """Return a number with a decimal point or comma, NaN if it is none.

    >>> read_number("7,5"), read_number("-1e3"), read_number("seven")
    (7.5, -1000.0, nan)
    """
    try:
        return float(re.sub(r"^([+-]?\d+),(\d+)$", r"\1.\2", text))
    except ValueError:
        return math.nan


def _split(lines: list[tuple[int, str]]) -> list[Row]:
    """Split lines by the first separator that gives most of them three fields; otherwise by tabs or white space."""

    def by_spaces(line: str) -> list[str]:
        return line.split("\t") if "\t" in line else line.split()

    def by(separator: str) -> Callable[[str], list[str]]:
        return lambda line: next(csv.reader([line], delimiter=separator, skipinitialspace=True))

    def rows(split: Callable[[str], list[str]]) -> list[Row]:
        return [Row(number, line, [field.strip() for field in split(line)]) for number, line in lines]

    for separator in (";", ","):
        found = rows(by(separator))
        if not any("\t" in line for _, line in lines) and sum(len(row.fields) >= 3 for row in found) * 2 > len(found):
            return found
    return rows(by_spaces)


def _share_of_numbers(rows: Sequence[Row], column: int) -> float:
    return sum(math.isfinite(read_number(row.fields[column])) for row in rows) / max(len(rows), 1)


def _is_number_like(text: str) -> bool:
    """Return whether a field is a number, or a damaged one: it begins with a digit."""
    return math.isfinite(read_number(text)) or text[:1].isdigit()


def _is_whole(fields: list[str], width: int, words: list[int], chosen: list[int]) -> bool:
    if len(fields) != width:
        return False
    return all(fields[c] for c in words) and all(math.isfinite(read_number(fields[c])) for c in chosen)


def _choose_judgements(
    path: Path, rows: Sequence[Row], numeric: list[int], names: list[str] | None, column: str | None
) -> list[int]:
    """Return the columns whose mean is the judgement."""
    if column is not None:
        if names is None or column not in names or names.index(column) not in numeric:
            there = ", ".join(names[c] for c in numeric) if names else "no header with names"
            raise EvaluationError(f"`{path}:{column}`: there is no such column of numbers; the file has {there}")
        return [names.index(column)]
    if len(numeric) > 1 and numeric[0] == 0 and _counts_lines(rows):
        numeric = numeric[1:]
    if len(numeric) <= 1 or names is None:
        return numeric
    means = [c for c in numeric if MEAN.search(names[c])]
    if len(means) == 1:
        return means
    if all(ANNOTATOR.fullmatch(names[c]) for c in numeric):
        return numeric
    raise EvaluationError(
        f"{path} has several columns of numbers, {', '.join(names[c] for c in numeric)}: name the one with the"
        f" judgements, as in `{path}:{names[numeric[0]]}`"
    )


def _counts_lines(rows: Sequence[Row]) -> bool:
    """Return whether the first column numbers the lines."""
    numbers = [read_number(row.fields[0]) for row in rows]
    return all(number - numbers[0] == index for index, number in enumerate(numbers))


@functools.cache
def _log_once(message: str) -> None:
    log.info("%s", message)
