"""Exports are gensim's own bytes, are read back by gensim, and refuse what their format cannot hold."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from gensim.models import KeyedVectors, Word2Vec
from gensim.test.utils import common_texts
from hypothesis import given, settings
from hypothesis import strategies as st

from skiplight.corpus.vocabulary import Vocabulary
from skiplight.errors import ConfigError, RunError
from skiplight.vectors.export import FORMATS, escape_words, export_vectors
from skiplight.vectors.word_vectors import WordVectors


@pytest.fixture(scope="module")
def keyed() -> KeyedVectors:
    return Word2Vec([*common_texts, ["naïve", "東京", "human"]], min_count=1, vector_size=20, workers=1, seed=1).wv


@pytest.fixture
def vectors(keyed) -> WordVectors:
    """gensim's vectors as ours, the ids given afresh by our rule for equal counts."""
    words = Vocabulary.from_counts(keyed.index_to_key, keyed.expandos["count"])
    table = torch.tensor(np.stack([keyed[word] for word in words]))
    return WordVectors(words, table, table + 1, card="# card\n")


def by_our_ids(keyed: KeyedVectors, words: list[str]) -> KeyedVectors:
    """The same KeyedVectors with ids in the order of `words`."""
    ordered = KeyedVectors(keyed.vector_size)
    ordered.add_vectors(words, np.stack([keyed[word] for word in words]))
    for word in words:
        ordered.set_vecattr(word, "count", keyed.get_vecattr(word, "count"))
    return ordered


def read_as_the_original_tool(path: Path) -> dict[str, list[float]]:
    """word2vec's distance.c, in Python: a word up to a space, line feeds skipped, then the floats."""
    data = path.read_bytes()
    header, _, rest = data.partition(b"\n")
    size, dim = map(int, header.split())
    vectors = {}
    for _ in range(size):
        word, _, rest = rest.partition(b" ")
        vectors[word.replace(b"\n", b"").decode()] = np.frombuffer(rest[: 4 * dim], "<f4").tolist()
        rest = rest[4 * dim :]
    assert not rest
    return vectors


@pytest.mark.parametrize("format", ["word2vec", "word2vec-binary"])
def test_word2vec_bytes_are_gensims(keyed, vectors, tmp_path, format):
    binary = format == "word2vec-binary"
    by_our_ids(keyed, vectors.vocabulary.words).save_word2vec_format(str(tmp_path / "gensim"), binary=binary)
    export_vectors(vectors, tmp_path / "ours", format)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "gensim").read_bytes()
    back = KeyedVectors.load_word2vec_format(str(tmp_path / "ours"), binary=binary)
    assert back.index_to_key == vectors.vocabulary.words
    assert np.array_equal(back.vectors, vectors.input.numpy())


def test_word2vec_binary_is_read_by_the_rules_of_the_original_tool(vectors, tmp_path):
    export_vectors(vectors, tmp_path / "v.bin", "word2vec-binary")
    read = read_as_the_original_tool(tmp_path / "v.bin")
    assert list(read) == vectors.vocabulary.words
    assert list(read.values()) == vectors.input.tolist()


def test_a_path_that_ends_in_gz_is_compressed(vectors, tmp_path):
    export_vectors(vectors, tmp_path / "v.txt.gz", "word2vec")
    assert (tmp_path / "v.txt.gz").read_bytes()[:2] == b"\x1f\x8b"
    assert len(KeyedVectors.load_word2vec_format(str(tmp_path / "v.txt.gz"))) == len(vectors)


@pytest.mark.parametrize("separate", [False, True])
def test_keyedvectors_are_loaded_by_gensim_with_counts(vectors, tmp_path, separate):
    if separate:  # large arrays go to files of their own
        table = torch.ones(len(vectors), 1 + 10 * 2**20 // len(vectors))
        vectors = WordVectors(vectors.vocabulary, table)
    export_vectors(vectors, tmp_path / "v.kv", "keyedvectors")
    files = ["v.kv", "v.kv.vectors.npy"] if separate else ["v.kv"]
    assert sorted(file.name for file in tmp_path.iterdir()) == files
    back = KeyedVectors.load(str(tmp_path / "v.kv"), mmap="r")
    assert back.index_to_key == vectors.vocabulary.words
    assert np.array_equal(back.vectors, vectors.input.numpy())
    assert back.get_vecattr("human", "count") == vectors.vocabulary.counts[vectors.vocabulary.get("human")]
    if not separate:
        unit = vectors.unit()[vectors.vocabulary.get("human")]
        word, cosine = back.most_similar("human")[0]
        assert cosine == pytest.approx(float(unit @ vectors.unit()[vectors.vocabulary.get(word)]), abs=1e-6)
        back["another"] = np.zeros(20)
        assert back.index_to_key[-1] == "another"


def test_safetensors_is_the_vectors_folder(vectors, tmp_path):
    export_vectors(vectors, tmp_path / "folder", "safetensors")
    back = WordVectors.load(tmp_path / "folder")
    assert torch.equal(back.input, vectors.input)
    assert torch.equal(back.output, vectors.output)
    assert back.card == "# card\n"


def test_projector_holds_a_row_a_word(tmp_path):
    words = Vocabulary(["new york", 'quo"te', "tab\t", "東京"], [4, 3, 2, 1])
    vectors = WordVectors(words, torch.tensor([[1.5, -2.0], [1e-30, 3.0], [0.1, 1e20], [0.0, -0.0]]))
    (tmp_path / "projector").mkdir()
    export_vectors(vectors, tmp_path / "projector", "projector")
    with (tmp_path / "projector" / "tensors.tsv").open() as file:
        rows = [list(map(np.float32, row)) for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    assert torch.equal(torch.tensor(np.array(rows)), vectors.input)
    metadata = (tmp_path / "projector" / "metadata.tsv").read_text(encoding="utf-8")
    assert metadata == 'word\tcount\nnew york\t4\nquo"te\t3\ntab\\t\t2\n東京\t1\n'
    config = (tmp_path / "projector" / "projector_config.pbtxt").read_text()
    assert 'tensor_path: "tensors.tsv"' in config


@pytest.mark.parametrize("format", ["word2vec", "word2vec-binary"])
@pytest.mark.parametrize("word", ["new york", "line\nfeed", "no-break\u00a0space", "\u3000", "tab\t"])
def test_a_word_with_white_space_is_named_or_escaped(tmp_path, word, format):
    vectors = WordVectors(Vocabulary(["plain", word, "back\\slash"], [3, 2, 1]), torch.eye(3))
    with pytest.raises(ConfigError, match=r"\(id 1\).*--escape") as error:
        export_vectors(vectors, tmp_path / "v", format)
    assert repr(word) in str(error.value)
    assert not list(tmp_path.iterdir())
    export_vectors(vectors, tmp_path / "v", format, escape=True)
    back = KeyedVectors.load_word2vec_format(str(tmp_path / "v"), binary=format == "word2vec-binary")
    assert [name.encode("latin-1").decode("unicode_escape") for name in back.index_to_key] == [*vectors.vocabulary]
    assert np.array_equal(back.vectors, np.eye(3))


@settings(max_examples=50)
@given(st.lists(st.text(min_size=1), unique=True))
def test_escaped_words_have_no_white_space_and_stay_different(words):
    escaped = escape_words(words, escape=True)
    assert all(word.split() == [word] for word in escaped)
    assert len(set(escaped)) == len(words)


def test_an_empty_word_is_refused_even_when_escaping():
    with pytest.raises(ConfigError, match=r"'' \(id 0\)"):
        escape_words([""], escape=True)


def test_what_cannot_be_written_is_named_with_the_remedy(vectors, tmp_path):
    with pytest.raises(ConfigError, match="no export format 'csv': choose one of word2vec,"):
        export_vectors(vectors, tmp_path / "v", "csv")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("precious")
    for format in FORMATS:
        with pytest.raises(RunError, match="is a folder that exists already: give --output"):
            export_vectors(vectors, tmp_path / "full", format)
        with pytest.raises(RunError, match=r"cannot write|is a file"):
            export_vectors(vectors, tmp_path / "full" / "file" / "below", format)
    with pytest.raises(RunError, match="projector makes a folder"):
        export_vectors(vectors, tmp_path / "full" / "file", "projector")
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["file"]


def test_a_file_is_replaced(vectors, tmp_path):
    (tmp_path / "v.txt").write_text("old")
    export_vectors(vectors, tmp_path / "v.txt", "word2vec")
    assert len(KeyedVectors.load_word2vec_format(str(tmp_path / "v.txt"))) == len(vectors)
    assert [file.name for file in tmp_path.iterdir()] == ["v.txt"]
