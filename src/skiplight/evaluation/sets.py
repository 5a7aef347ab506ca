"""Reads evaluation sets: built-in ones by name, or files."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from skiplight.errors import EvaluationError
from skiplight.files import OFFICE_SUFFIXES, read_text

AUTO = "auto"
"""Among sets of word pairs, stands for those of `SIMILARITY` that fit the vocabulary; see `default_sets`."""

SIMILARITY = {"wordsim353": "wordsim353.tsv", "simlex999": "simlex999.txt"}
"""The built-in sets of word pairs, and their files among the test data of gensim."""


def named_sets(sources: Iterable[str]) -> list[str]:
    """Return the sets of word pairs that sources stand for, those that might not fit the vocabulary included.

    >>> named_sets(["auto", "mine.txt"])
    ['wordsim353', 'simlex999', 'mine.txt']
    """
    return [name for source in sources for name in (SIMILARITY if source == AUTO else [source])]


def set_name(source: str | os.PathLike[str]) -> str:
    """Return the name of a set in results: that of a built-in set, or the stem of a file, with its column if named.

    >>> set_name("simlex999"), set_name("sets/SimLex.csv"), set_name("sets/SimLex.csv:concQ")
    ('simlex999', 'SimLex', 'SimLex-concQ')
    """
    path, column = split_column(source)
    return path.stem if column is None else f"{path.stem}-{column}"


def split_column(source: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """Return the path and the column of `FILE:COLUMN`; the column is None if only a file or a built-in set is named."""
    path, colon, column = str(source).rpartition(":")
    whole = not colon or not column or Path(source).exists() or "/" in column or not Path(path).suffix
    return (Path(source), None) if whole else (Path(path), column)


def read_set(source: str | os.PathLike[str], built_in: Mapping[str, str]) -> tuple[Path, list[str]]:
    """Return the path and the lines of an evaluation set.

    Args:
        source: a name in `built_in`, or the path of a UTF-8 file.
        built_in: from the name of a set to its file among the test data of gensim.

    Raises:
        EvaluationError: there is no such set or file, or it cannot be read as text.
    """
    path = _gensim_data() / built_in[str(source)] if str(source) in built_in else Path(source)
    try:
        return path, read_text(path).removeprefix("\ufeff").split("\n")
    except FileNotFoundError:
        raise EvaluationError(
            f"there is no evaluation set {str(source)!r}: give the path of a file, or one of {', '.join(built_in)}"
        ) from None
    except UnicodeDecodeError as error:
        if path.suffix.lower() in OFFICE_SUFFIXES:
            raise EvaluationError(
                f"{path} is a document of an office program: save its table as .csv in UTF-8"
            ) from None
        raise EvaluationError(f"{path} is not UTF-8 at byte {error.start}; convert it to UTF-8") from None
    except OSError as error:
        raise EvaluationError(f"cannot read {path}: {error.strerror}; give a readable text file") from None


def _gensim_data() -> Path:
    # Located without an import of gensim, which takes a second or more.
    spec = importlib.util.find_spec("gensim")
    if spec is None or not spec.submodule_search_locations:
        raise EvaluationError("the built-in evaluation sets are files of gensim, which is missing: install gensim")
    return Path(spec.submodule_search_locations[0], "test", "test_data")
