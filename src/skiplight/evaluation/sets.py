"""Reads evaluation sets and looks up their words in a vocabulary.

Words are compared in upper case, as in gensim, since sets contain `Paris` and vocabularies often `paris`. If several
words of a vocabulary differ in case only, the most frequent one represents all of them.
"""

from __future__ import annotations

import importlib.util
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from skiplight.errors import EvaluationError
from skiplight.files import read_text

if TYPE_CHECKING:
    from skiplight.corpus.vocabulary import Vocabulary


class CaseFolded(NamedTuple):
    """The words of a vocabulary without regard to case.

    Attributes:
        ids: from a word in upper case to the first id.
        variants: from a first id to the other ids of the same word.
    """

    ids: dict[str, int]
    variants: dict[int, list[int]]


_folded: weakref.WeakKeyDictionary[Vocabulary, dict[int, CaseFolded]] = weakref.WeakKeyDictionary()


def case_folded(vocabulary: Vocabulary, restrict: int) -> CaseFolded:
    """Return the `restrict` most frequent words without regard to case; the result is cached per vocabulary.

    >>> from skiplight.corpus.vocabulary import Vocabulary
    >>> case_folded(Vocabulary(["paris", "Paris", "Rome"], [9, 5, 2]), restrict=2)
    CaseFolded(ids={'PARIS': 0}, variants={0: [1]})
    """
    made = _folded.setdefault(vocabulary, {})
    if restrict not in made:
        folded = CaseFolded({}, {})
        for index, word in enumerate(vocabulary.words[:restrict]):
            first = folded.ids.setdefault(word.upper(), index)
            if first != index:
                folded.variants.setdefault(first, []).append(index)
        made[restrict] = folded
    return made[restrict]


def set_name(source: str | os.PathLike[str]) -> str:
    """Return the name of a set in results: that of a built-in set, or the stem of a file."""
    return Path(source).stem


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
        raise EvaluationError(f"{path} is not UTF-8 at byte {error.start}; convert it to UTF-8") from None
    except OSError as error:
        raise EvaluationError(f"cannot read {path}: {error.strerror}; give a readable text file") from None


def malformed(path: Path, expected: str, lines: list[tuple[int, str]]) -> EvaluationError:
    """Return the error for malformed lines, each given with its number."""
    shown = "; ".join(f"line {number}: {line!r}" for number, line in lines[:3])
    more = f"; and {len(lines) - 3} more" if len(lines) > 3 else ""
    return EvaluationError(f"{path}: expected {expected} on each line, got {shown}{more}; correct or remove them")


def _gensim_data() -> Path:
    # Located without an import of gensim, which takes a second or more.
    spec = importlib.util.find_spec("gensim")
    if spec is None or not spec.submodule_search_locations:
        raise EvaluationError("the built-in evaluation sets are files of gensim, which is missing: install gensim")
    return Path(spec.submodule_search_locations[0], "test", "test_data")
