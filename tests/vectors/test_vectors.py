"""The vectors folder: what is saved is loaded, from the run or the folder, and damage is named."""

from __future__ import annotations

import contextlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from skiplight.cli import main
from skiplight.corpus.vocabulary import Vocabulary
from skiplight.errors import DataError, RunError
from skiplight.vectors.word_vectors import WordVectors


def make(words: list[str] | None = None, dim: int = 3, output: bool = True) -> WordVectors:
    words = words or ["the", "new york", "naïve\t", "東京"]
    tables = torch.randn(2, len(words), dim, generator=torch.Generator().manual_seed(1))
    vocabulary = Vocabulary(words, range(len(words), 0, -1))
    return WordVectors(vocabulary, tables[0], tables[1] if output else None)


def assert_equal(left: WordVectors, right: WordVectors) -> None:
    assert left.vocabulary.words == right.vocabulary.words
    assert left.vocabulary.counts.tolist() == right.vocabulary.counts.tolist()
    assert torch.equal(left.input, right.input)
    assert (left.output is None) == (right.output is None)
    assert left.output is None or torch.equal(left.output, right.output)


@pytest.mark.parametrize("output", [True, False])
def test_a_saved_folder_is_loaded_from_the_run_or_itself(tmp_path, output):
    vectors = make(output=output)
    vectors.save(tmp_path / "run" / "vectors", card="# A card\n")
    for path in (tmp_path / "run", tmp_path / "run" / "vectors"):
        loaded = WordVectors.load(path)
        assert_equal(loaded, vectors)
        assert loaded.card == "# A card\n"
    names = {file.name for file in (tmp_path / "run" / "vectors").iterdir()}
    assert names == {"vectors.safetensors", "vocabulary.tsv", "README.md"}


def test_the_tensors_are_as_contracted(tmp_path):
    vectors = make()
    vectors.save(tmp_path)
    with safe_open(tmp_path / "vectors.safetensors", framework="np") as file:
        metadata = file.metadata()
        assert (metadata["format"], metadata["skiplight_format_version"]) == ("pt", "1")
        assert {file.get_tensor(name).dtype.name for name in file.keys()} == {"float32"}  # noqa: SIM118
    assert not (tmp_path / "README.md").exists()


def test_padded_and_half_precision_tables_are_saved_contiguous_in_float32(tmp_path):
    words = Vocabulary(["a", "b"], [2, 1])
    padded = torch.arange(32.0).reshape(2, 16)
    vectors = WordVectors(words, padded[:, :3], padded[:, 3:6].bfloat16())
    vectors.save(tmp_path)
    saved = load_file(tmp_path / "vectors.safetensors")
    assert saved["input"].tolist() == [[0, 1, 2], [16, 17, 18]]
    assert saved["output"].dtype == torch.float32


def test_saving_again_replaces_and_keeps_the_card(tmp_path):
    make().save(tmp_path, card="first")
    other = WordVectors.load(tmp_path)
    other.input += 1
    other.save(tmp_path)
    assert_equal(WordVectors.load(tmp_path), other)
    other.save(tmp_path / "copy")
    assert (tmp_path / "copy" / "README.md").read_text() == "first"


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=8, unique=True))
def test_any_words_come_back(tmp_path_factory, words):
    folder = tmp_path_factory.mktemp("vectors")
    make(words).save(folder)
    assert_equal(WordVectors.load(folder), make(words))


def test_unit_vectors_have_length_one_and_zeros_stay():
    vectors = WordVectors(Vocabulary(["a", "b", "c"], [3, 2, 1]), torch.tensor([[3.0, 4], [0, 0], [1e-10, 0]]))
    assert vectors.unit().tolist() == [
        [pytest.approx(0.6), pytest.approx(0.8)],
        [0, 0],
        [pytest.approx(1), 0],
    ]
    assert vectors.unit() is vectors.unit()
    assert (len(vectors), vectors.dim) == (3, 2)


def test_tables_that_do_not_fit_are_refused():
    words = Vocabulary(["a", "b"], [2, 1])
    with pytest.raises(ValueError, match=r"input is \[3, 2\], but the vocabulary has 2 words"):
        WordVectors(words, torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"output is \[2, 4\]"):
        WordVectors(words, torch.ones(2, 3), torch.ones(2, 4))


def test_a_run_without_vectors_is_named_with_the_remedy(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(RunError, match=rf"no vectors in {path}[^/].* .skiplight resume"):
            WordVectors.load(path)


def test_damaged_folders_are_named(tmp_path):
    make().save(tmp_path)
    file, words = tmp_path / "vectors.safetensors", tmp_path / "vocabulary.tsv"
    good = file.read_bytes()

    file.write_bytes(good[: len(good) // 2])
    with pytest.raises(RunError, match=rf"cannot read {file}"):
        WordVectors.load(tmp_path)
    save_file({"input": torch.ones(4, 3)}, file)
    with pytest.raises(RunError, match="not written by skiplight"):
        WordVectors.load(tmp_path)
    save_file({"input": torch.ones(4, 3)}, file, {"skiplight_format_version": "2"})
    with pytest.raises(RunError, match=r"is of format 2, .* upgrade"):
        WordVectors.load(tmp_path)
    save_file({"input": torch.ones(5, 3)}, file, {"skiplight_format_version": "1"})
    with pytest.raises(RunError, match=r"input is \[5, 3\], but the vocabulary has 4 words; copy"):
        WordVectors.load(tmp_path)

    file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    WordVectors.load(tmp_path, verify=False)
    with pytest.raises(RunError, match=rf"{file} is damaged in the table output"):
        WordVectors.load(tmp_path)
    file.write_bytes(good)
    assert_equal(WordVectors.load(tmp_path), make())
    right = words.read_text()
    words.write_text(right.replace("the", "thy"))
    with pytest.raises(RunError, match=rf"{words} is not the one"):
        WordVectors.load(tmp_path)
    save_file({"input": torch.ones(4, 3)}, file, {"skiplight_format_version": "1"})  # without checksums
    words.write_text("word\tcount\nbroken\n")
    with pytest.raises(DataError, match="line 2"):
        WordVectors.load(tmp_path)
    words.unlink()
    with pytest.raises(RunError, match=r"no vocabulary\.tsv"):
        WordVectors.load(tmp_path)


def test_any_flipped_bit_is_found_or_changes_nothing(tmp_path):
    make().save(tmp_path)
    file = tmp_path / "vectors.safetensors"
    good = file.read_bytes()
    for bit in range(0, 8 * len(good), 7):
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        with contextlib.suppress(RunError):
            assert_equal(WordVectors.load(tmp_path), make())


def test_verbs_that_read_vectors_verify_them_by_default(tmp_path, capsys):
    make(["a", "b", "c"]).save(tmp_path / "vectors")
    file = tmp_path / "vectors" / "vectors.safetensors"
    data = bytearray(file.read_bytes())
    data[-40] ^= 64  # in the exponent of an input vector
    file.write_bytes(data)
    verbs = [
        ["neighbors", str(tmp_path), "a"],
        ["analogy", str(tmp_path), "a", "b", "c"],
        ["evaluate", str(tmp_path), "--similarity", "wordsim353", "--analogy"],
        ["export", str(tmp_path), "--format", "word2vec", "--output", str(tmp_path / "out.txt")],
    ]
    for verb in verbs:
        assert main(verb) == 2
        assert "is damaged in the table" in capsys.readouterr().err
    assert not (tmp_path / "out.txt").exists()
    assert main([*verbs[0], "--no-verify"]) == 0
