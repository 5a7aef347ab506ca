"""Files of vectors that other tools wrote: what gensim writes is read, and damage is named with its line or row."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from gensim.models import KeyedVectors
from hypothesis import given, settings
from hypothesis import strategies as st

from skiplight.cli import main
from skiplight.errors import DataError, RunError
from skiplight.vectors.vector_files import read_layout, read_vector_file
from skiplight.vectors.word_vectors import WordVectors

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Z")), min_size=1, max_size=5)
FORMS = {"word2vec.txt": (False, True), "word2vec.bin": (True, True), "glove.txt": (False, False)}
"""For gensim's writer: whether the file is binary, and has a header."""


def keyed_vectors(words: list[str], dim: int = 3) -> KeyedVectors:
    keyed = KeyedVectors(dim)
    keyed.add_vectors(words, np.random.default_rng(1).normal(size=(len(words), dim)).astype(np.float32))
    return keyed


def write(keyed: KeyedVectors, path: Path) -> Path:
    binary, header = FORMS[path.name.removesuffix(".gz").removesuffix(".bz2")]
    keyed.save_word2vec_format(str(path), binary=binary, write_header=header)
    return path


@settings(max_examples=25, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=8, unique=True), st.integers(1, 70), st.sampled_from(["", ".gz", ".bz2"]))
def test_what_gensim_writes_is_read(tmp_path_factory: pytest.TempPathFactory, words, dim, ending) -> None:
    keyed = keyed_vectors(words, dim)
    for name in FORMS:
        path = write(keyed, tmp_path_factory.mktemp("other") / f"{name}{ending}")
        if name == "glove.txt" and dim == 1 and words[0].isdigit():
            continue  # could be a header
        found = WordVectors.load(path)
        assert found.vocabulary.words == words
        assert np.array_equal(found.input.numpy(), keyed.vectors)
        assert found.output is None


def test_many_rows_are_read_in_pieces(tmp_path: Path) -> None:
    keyed = keyed_vectors([f"w{number}" for number in range(10_000)], 5)
    for name in FORMS:
        words, table = read_vector_file(write(keyed, tmp_path / name))
        assert words == keyed.index_to_key
        assert np.array_equal(table, keyed.vectors)


def test_fasttexts_trailing_spaces_gloves_spaces_in_words_and_word2vecs_line_feeds(tmp_path: Path) -> None:
    vec = tmp_path / "cc.vec"
    vec.write_text("2 3\n</s> 1 2 3 \nnaïve\u00a0word -1e-3 0 1 \n")
    words, table = read_vector_file(vec)
    assert words == ["</s>", "naïve\u00a0word"]
    assert table.tolist() == [[1, 2, 3], [np.float32(-1e-3), 0, 1]]
    glove = tmp_path / "glove.txt"
    glove.write_text("the 1 2 3\n. . . 4 5 6\nat 2 1 1 1\n")
    assert read_vector_file(glove)[0] == ["the", ". . .", "at 2"]
    original = tmp_path / "original.bin"
    rows = np.arange(6, dtype="<f4").reshape(2, 3)
    original.write_bytes(b"2 3\na " + rows[0].tobytes() + b"\nb " + rows[1].tobytes() + b"\n")
    words, table = read_vector_file(original)
    assert (words, table.tolist()) == (["a", "b"], rows.tolist())


def test_of_a_repeated_word_the_first_row_counts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "twice.txt"
    path.write_text("a 1 2\nb 3 4\na 5 6\n")
    words, table = read_vector_file(path)
    assert (words, table.tolist()) == (["a", "b"], [[1, 2], [3, 4]])
    assert "1 rows repeat a word, such as 'a'" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1 is neither"),
        (b"some prose of a book\n", "line 1 is neither .* word2vec, GloVe or fastText"),
        (b"2 3\na 1 2 3\nb 1 2\n", "line 3: expected a word in UTF-8 and 3 numbers, got 'b 1 2'"),
        (b"2 3\na 1 2\nb 1 2 3\n", "line 2: expected a word"),
        (b"2 3\na 1 2 3\nb 1 x 3\n", "line 3"),
        (b"2 3\na 1 2 3\nb 1 nan 3\n", "line 3"),
        (b"2 3\na 1 2 3\nb 1 1e99 3\n", "line 3"),
        (b"2 3\na 1 2 3\n\xff 1 2 3\n", "line 3"),
        (b"a 1 2 3\nb 1 2 3 \n\n1 2 3\n", "line 4"),
        (b"3 2\na 1 2\nb 1 2\nlong_word_at_the_end_of_it", "line 4"),
        (b"3 2\nlong_word 1.5 2.5\nlong_word_again 1.5 2.5\n", "ends after 2 of the 3 rows of its first line; copy"),
        (b"1 2\na 1 2\nb 1 2\n", "line 3: there are more rows than the 1"),
        (b"900000000 300\na 1 2\n", "line 1 says 900,000,000 words of 300 numbers, at least .* bytes, and it has 20"),
        (b"2 70000\na 1 2\n", "line 1 says vectors of 70,000 numbers"),
        (b"0 3\n", "line 1 says 0 words"),
        (b"PK\x03\x04rest", "is a zip archive: unpack it"),
        (b"\xba\x16\x4f\x2f\x00\x00", r"is a model of fastText: give the \.vec file"),
        (b"\x80\x04\x95", "is a pickle, which is never read"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "vectors.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{path}:? .*{message}|^{path}: {message}"):
        read_vector_file(path)


def test_damaged_binary_and_compressed_files_are_named(tmp_path: Path) -> None:
    path = write(keyed_vectors(["a", "b", "c"]), tmp_path / "word2vec.bin")
    good = path.read_bytes()
    row = len("a ") + 12
    nan = np.float32("nan").tobytes()
    for content, message in [
        (good[:-5], "line 1 says 3 words of 3 numbers, at least 42 bytes, and it has 41"),
        (good[:-1], "it ends, or is damaged, in row 3 of 3"),
        (good + b"x", "there is more after the 3 rows"),
        (good[: 4 + row] + b"bb" + good[5 + row : -1], "it ends, or is damaged, in row 3 of 3"),
        (good[: 4 + row] + b"\xff" + good[5 + row :], "the word of row 2, .* is not UTF-8"),
        (good[: 4 + row] + b" " + nan + good[5 + row + 4 :], "row 2 has no word"),
        (good[:-4] + nan, "row 3 has numbers that are not finite"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_vector_file(path)
    packed = tmp_path / "word2vec.bin.gz"
    packed.write_bytes(gzip.compress(good)[:-9])
    with pytest.raises(DataError, match="cannot be unpacked"):
        read_vector_file(packed)
    packed.write_bytes(gzip.compress(b"900000000 300\na 1 2\n"))
    with pytest.raises(DataError, match=r"at least .* bytes, and it has 268,435,456"):
        read_vector_file(packed)
    with pytest.raises(RunError, match=r"no vectors in .*absent"):
        WordVectors.load(tmp_path / "absent.vec")


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skiplight.vectors.vector_files.FLOOR", 10_000)
    path = tmp_path / "bomb.txt.gz"
    path.write_bytes(gzip.compress(b"a 0 0 0\n" * 1_000_000))
    with pytest.raises(DataError, match=r"unpacks to more than [\d,]+ bytes; if it is meant to, unpack it first"):
        read_vector_file(path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_refused_or_read_as_it_is(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(FORMS)))
    path = write(keyed_vectors(["one", "two", "three"]), tmp_path_factory.mktemp("damaged") / name)
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        words, table = read_vector_file(path)
    except DataError as error:
        assert str(path) in str(error)  # noqa: PT017
    else:
        assert table.shape == (len(words), read_layout(path).dim)
        assert np.isfinite(table).all()


def test_commands_take_such_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(keyed_vectors(["king", "queen", "man", "woman"]), tmp_path / "glove.txt"))
    assert main(["neighbors", path, "king"]) == 0
    assert main(["analogy", path, "man", "king", "woman"]) == 0
    assert capsys.readouterr().out.count("queen") == 2
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("king\tqueen\t9\nman\twoman\t8\nking\tman\t3\n")
    assert main(["evaluate", path, "--similarity", str(pairs)]) == 0
    assert "only 3 pairs" in capsys.readouterr().out
    assert main(["export", path, "--format", "word2vec-binary", "--output", str(tmp_path / "word2vec.bin")]) == 0
    assert WordVectors.load(tmp_path / "word2vec.bin").vocabulary.words == ["king", "queen", "man", "woman"]
    assert main(["export", path, "--format", "safetensors", "--output", str(tmp_path / "folder")]) == 2
    assert "these words have no counts" in capsys.readouterr().err
    assert not (tmp_path / "folder").exists()
