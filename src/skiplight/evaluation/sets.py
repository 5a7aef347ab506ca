"""Where evaluation sets come from, and how their words are found in a vocabulary.

Words are compared in upper case, as gensim does: sets write `Paris`, vocabularies often `paris`. Where a
vocabulary has several spellings of a word that differ in case only, the most frequent one stands for all.
"""

from __future__ import annotations

import importlib.util
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from skiplight.errors import EvaluationError

if TYPE_CHECKING:
    from skiplight.corpus.vocabulary import Vocabulary


class CaseFolded(NamedTuple):
    """The words of a vocabulary regardless of case: upper-case word to first id; first id to other ids."""

    ids: dict[str, int]
    variants: dict[int, list[int]]


_folded: weakref.WeakKeyDictionary[Vocabulary, dict[int, CaseFolded]] = weakref.WeakKeyDictionary()


def case_folded(vocabulary: Vocabulary, restrict: int) -> CaseFolded:
    """The first `restrict` words, which are the most frequent, regardless of case; made once for each.

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
    """What a set is called in results: the name of a built-in set, a file's stem."""
    return Path(source).stem


def read_set(source: str | os.PathLike[str], built_in: Mapping[str, str]) -> tuple[Path, list[str]]:
    """The path and the lines of an evaluation set.

    Args:
        source: a name in `built_in`, or the path of a UTF-8 file.
        built_in: names of sets, and their files among the test data in gensim's wheel.

    Raises:
        EvaluationError: there is no such set or file, or it cannot be read as text.
    """
    path = _gensim_data() / built_in[str(source)] if str(source) in built_in else Path(source)
    try:
        return path, path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise EvaluationError(
            f"no evaluation set {str(source)!r}: give the path of a file, or one of {', '.join(built_in)}"
        ) from None
    except UnicodeDecodeError as error:
        raise EvaluationError(f"{path}: not UTF-8 at byte {error.start}; convert it to UTF-8") from None
    except OSError as error:
        raise EvaluationError(f"cannot read {path}: {error.strerror}; give a readable text file") from None


def malformed(path: Path, expected: str, lines: list[tuple[int, str]]) -> EvaluationError:
    """The error for lines, each with its number, that are not what was expected."""
    shown = "; ".join(f"line {number}: {line!r}" for number, line in lines[:3])
    more = f"; and {len(lines) - 3} more" if len(lines) > 3 else ""
    return EvaluationError(f"{path}: expected {expected} on each line, got {shown}{more}; correct or remove them")


def _gensim_data() -> Path:
    # Found, not imported: importing gensim costs a second or more, and these are only text files.
    spec = importlib.util.find_spec("gensim")
    if spec is None or not spec.submodule_search_locations:
        raise EvaluationError("the built-in evaluation sets are files of gensim, which is missing: install gensim")
    return Path(spec.submodule_search_locations[0], "test", "test_data")
