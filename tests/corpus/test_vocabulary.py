"""Vocabularies: order, limits, and a file that keeps any word."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skiplight.corpus import Vocabulary
from skiplight.corpus.text.counting import WordCounts
from skiplight.errors import DataError


@settings(deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=5), st.integers(1, 2**40)))
def test_a_saved_vocabulary_comes_back(tmp_path_factory: pytest.TempPathFactory, counts: dict[str, int]) -> None:
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.tsv"
    saved = Vocabulary(list(counts), list(counts.values()))
    saved.save(path)
    loaded = Vocabulary.load(path)
    assert loaded.words == list(counts)
    assert loaded.counts.tolist() == list(counts.values())
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_the_file_is_plain(tmp_path: Path) -> None:
    Vocabulary(["a", "tab\t", "\\n", '"'], [9, 3, 2, 1]).save(tmp_path / "vocabulary.tsv")
    text = (tmp_path / "vocabulary.tsv").read_bytes()
    assert text == b'word\tcount\na\t9\ntab\\t\t3\n\\\\n\t2\n"\t1\n'


def test_ids_go_by_count_then_by_code_point() -> None:
    vocabulary = Vocabulary.from_counts(["b", "é", "a", "z", "rare"], [5, 5, 5, 7, 1], min_count=2)
    assert vocabulary.words == ["z", "a", "b", "é"]
    assert Vocabulary.from_counts(["b", "a"], [1, 2], max_size=1).words == ["a"]
    assert len(Vocabulary.from_counts([], [])) == 0


def test_encode_marks_unknown_words() -> None:
    vocabulary = Vocabulary(["a", "b"], [2, 1])
    assert vocabulary.encode(pa.array(["b", "x", "a", "b"])).tolist() == [1, -1, 0, 1]
    assert vocabulary.encode(pa.array(["a"])).dtype == np.int32
    assert "a" in vocabulary
    assert vocabulary.get("x") is None


@pytest.mark.parametrize("separator", [" ", "\t", "  "])
def test_words_and_counts_of_other_tools_are_sorted(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "vocab.txt"
    rows = [("b", 2), ("</s>", 9), ("new york", 3), ("\\n", 2), ("12", 5)]
    path.write_text("".join(f"{word}{separator}{count}\r\n" for word, count in rows) + "\r\n", encoding="utf-8-sig")
    vocabulary = Vocabulary.load(path)
    assert vocabulary.words == ["</s>", "12", "new york", "\\n", "b"]
    assert vocabulary.counts.tolist() == [9, 5, 3, 2, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the header"),
        ("a b\n", "line 1: expected the header `word<TAB>count`, or a word and a count of at least 1, got 'a b'"),
        ("a 1\nb\t0\n", "line 2"),
        ("a 1\n 2\n", "line 2"),
        ("a 1\nb 2\na\t3\n", "'a' stands there twice"),
        ("word\tcount\na\t1\nb\n", "line 3"),
        ("word\tcount\na\tmany\n", "line 2"),
        ("word\tcount\na\t-1\n", "line 2"),
        ("word\tcount\na\t1\nb\t2\na\t3\n", "'a' stands there twice"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "vocabulary.tsv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        Vocabulary.load(path)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"vocabulary\.path"):
        Vocabulary.load(tmp_path / "none.tsv")
    (tmp_path / "binary.tsv").write_bytes(b"word\tcount\n\xff\xfe\t1\n")
    with pytest.raises(DataError, match="UTF-8"):
        Vocabulary.load(tmp_path / "binary.tsv")


@given(st.lists(st.lists(st.sampled_from("abcdefgh")), max_size=20))
def test_counts_merge_to_the_whole(texts: list[list[str]]) -> None:
    counts = WordCounts()
    for text in texts:
        words = [*sorted(set(text)), "unseen"]
        counts.add(pa.array(words), np.array([text.count(word) for word in words]))
    everything = [word for text in texts for word in text]
    table = counts.table().to_pydict()
    assert dict(zip(table["word"], table["count"], strict=True)) == {
        word: everything.count(word) for word in everything
    }


def test_pruning_bounds_memory_and_keeps_frequent_words_exact() -> None:
    rng = np.random.default_rng(1)
    counts = WordCounts(max_distinct=500)
    frequent = [f"frequent{i}" for i in range(100)]
    total = np.zeros(100, dtype=np.int64)
    for batch in range(40):
        rare = [f"rare{batch}-{i}" for i in range(300)]
        seen = rng.integers(20, 40, 100)
        total += seen
        counts.add(pa.array(frequent + rare), np.concatenate([seen, np.ones(300, dtype=np.int64)]))
    table = counts.table()
    found = dict(zip(table["word"].to_pylist(), table["count"].to_pylist(), strict=True))
    assert len(found) <= 500
    assert counts.pruned >= 1
    assert [found[word] for word in frequent] == total.tolist()
