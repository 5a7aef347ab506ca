"""The vocabulary: words in the order of their ids, with their counts, and its file.

Ids are given by decreasing count, and to words of equal count in code-point order, so the same counts always give the
same ids. The file is `vocabulary.tsv`: a header `word<TAB>count`, then a line per word, in the order of ids; tab,
newline, carriage return and backslash inside a word are escaped as in C. The files of other tools (word2vec's
`-save-vocab`, GloVe's `vocab_count`) have no header, a space or tab before the count, no escapes and any order.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skiplight.errors import DataError
from skiplight.files import read_text, replacing

_HEADER = "word\tcount"
_ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"), ("\r", "\\r"))


class Vocabulary:
    """Words and their counts, in the order of ids.

    Args:
        words: a sequence of str or an Arrow string array, [V], all different.
        counts: int64 [V], how often each word occurs in the training text; a list or an array.

    >>> vocabulary = Vocabulary.from_counts(["b", "a", "rare"], [3, 5, 1], min_count=2)
    >>> list(vocabulary), vocabulary.counts.tolist(), vocabulary.get("b"), vocabulary.get("rare")
    (['a', 'b'], [5, 3], 1, None)
    """

    def __init__(self, words: Sequence[str] | pa.Array, counts: Sequence[int] | np.ndarray) -> None:
        array = words if isinstance(words, pa.Array) else pa.array(words, pa.string())
        self.array = array.cast(pa.string())
        self.counts = np.asarray(counts, dtype=np.int64)
        if len(self.array) != len(self.counts):
            raise ValueError(f"{len(self.array)} words but {len(self.counts)} counts")

    @classmethod
    def from_counts(
        cls,
        words: Sequence[str] | pa.Array,
        counts: Sequence[int] | np.ndarray,
        min_count: int = 1,
        max_size: int | None = None,
    ) -> Vocabulary:
        """Order words by decreasing count, drop those rarer than `min_count`, and keep the first `max_size`."""
        table = pa.table({"word": pa.array(words, pa.string()) if not isinstance(words, pa.Array) else words})
        table = table.append_column("count", pa.array(np.asarray(counts, dtype=np.int64)))
        table = table.filter(pc.field("count") >= min_count)
        table = table.sort_by([("count", "descending"), ("word", "ascending")]).slice(0, max_size)
        return cls(table["word"].combine_chunks(), table["count"].to_numpy())

    def grown_by(self, other: Vocabulary, min_count: int = 1) -> Vocabulary:
        """Return all these words and those of `other` that occur at least `min_count` times there; counts are added up.

        >>> grown = Vocabulary(["a", "b"], [5, 3]).grown_by(Vocabulary(["c", "d", "b"], [9, 2, 1]), min_count=3)
        >>> list(grown), grown.counts.tolist()
        (['c', 'a', 'b'], [9, 5, 4])
        """
        wanted = (self.encode(other.array) >= 0) | (other.counts >= min_count)
        other = Vocabulary(other.array.filter(pa.array(wanted)), other.counts[wanted])
        both = pa.table(
            {
                "word": pa.chunked_array([self.array, other.array]),
                "count": np.concatenate([self.counts, other.counts]),
            }
        )
        summed = both.group_by("word").aggregate([("count", "sum")])
        return Vocabulary.from_counts(summed["word"].combine_chunks(), summed["count_sum"].to_numpy())

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self._ids

    @functools.cached_property
    def words(self) -> list[str]:
        """The words as Python strings, in the order of ids."""
        return self.array.to_pylist()

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words)}

    def get(self, word: str) -> int | None:
        """Return the id of `word`, or None where it is not in the vocabulary."""
        return self._ids.get(word)

    def encode(self, words: pa.Array) -> np.ndarray:
        """Return the ids of an Arrow array of words, int32 [n]; -1 where a word is not in the vocabulary."""
        return pc.fill_null(pc.index_in(words, value_set=self.array), -1).to_numpy(zero_copy_only=False)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `vocabulary.tsv`, completely or not at all.

        Raises:
            DataError: words have no counts, since they are from a file of another tool.
        """
        if not self.counts.all():
            raise DataError(f"{path} is not written: these words have no counts, as in files of vectors of other tools")
        words = self.array
        for character, escape in _ESCAPES:
            words = pc.replace_substring(words, character, escape)
        lines = pc.binary_join_element_wise(words, pa.array(self.counts).cast(pa.string()), "\t")
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(f"{_HEADER}\n")
            file.writelines(f"{line}\n" for line in lines.to_pylist())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Vocabulary:
        """Read `vocabulary.tsv`, or a file without its header, whose words are sorted by their counts.

        Raises:
            DataError: the file is missing, a line is not a word and a count of 1 or more, or a word is repeated.
        """
        try:
            text = read_text(path)
        except FileNotFoundError:
            raise DataError(f"no vocabulary at {path}: give `vocabulary.path` an existing vocabulary.tsv") from None
        except OSError as error:
            raise DataError(f"vocabulary.path={path} cannot be read: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not a vocabulary file: not UTF-8 at byte {error.start}") from None
        header, _, body = text.removesuffix("\n").partition("\n")
        is_own = header == _HEADER
        if not is_own:
            body = text.removeprefix("\ufeff").replace("\r\n", "\n").rstrip("\n")
        lines = pc.split_pattern(pa.array([body] if body or not is_own else [], pa.large_string()), "\n").flatten()
        word = r"(?P<word>[^\t]+)\t" if is_own else r"(?P<word>.*[^ \t])[ \t]+"
        rows = pc.extract_regex(lines, rf"^{word}(?P<count>[1-9][0-9]{{0,17}})$")
        if rows.null_count:
            wrong = pc.index(rows.is_valid(), False).as_py()
            expected = "a word, a tab and a count" if is_own else "the header `word<TAB>count`, or a word and a count"
            raise DataError(
                f"{path}, line {wrong + 1 + is_own}: expected {expected} of at least 1, got"
                f" {lines[wrong].as_py()[:80]!r}"
            )
        words, counts = rows.field("word"), rows.field("count").cast(pa.int64()).to_numpy()
        words = _unescape(words) if is_own else words
        found = pc.value_counts(words)
        if len(found) < len(words):
            twice = found.filter(pc.greater(found.field("counts"), 1))[0]["values"]
            raise DataError(f"{path}: {twice.as_py()!r} stands there twice")
        return cls(words, counts) if is_own else cls.from_counts(words, counts)


def find_vocabulary(path: str | os.PathLike[str]) -> Path:
    """Return the file that a path stands for: itself, or the vocabulary of the folder of a run or of its vectors.

    Raises:
        DataError: the path is a folder without a vocabulary.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for file in (path / "vectors" / "vocabulary.tsv", path / "vocabulary.tsv"):
        if file.exists():
            return file
    raise DataError(
        f"vocabulary.path={path} is a folder without a vocabulary: give a vocabulary.tsv, or the folder of a run that"
        " has finished"
    )


def _unescape(words: pa.Array) -> pa.Array:
    escaped = pc.match_substring(words, "\\")
    plain = [_unescape_word(word) for word in words.filter(escaped).to_pylist()]
    return pc.replace_with_mask(words, escaped, pa.array(plain, words.type))


def _unescape_word(word: str) -> str:
    plain = {escape[1]: character for character, escape in _ESCAPES}
    out, characters = [], iter(word)
    for character in characters:
        out.append(plain.get(next(characters, ""), "") if character == "\\" else character)
    return "".join(out)
