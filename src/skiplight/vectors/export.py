"""Export of input vectors in the formats of other tools.

    word2vec          text: a line `V d`, then one line per word with its d numbers, the most frequent word first
    word2vec-binary   the same with float32 numbers as bytes, as the original tool writes with `-binary 1`
    keyedvectors      gensim's KeyedVectors with counts, for `KeyedVectors.load(path, mmap="r")`
    safetensors       a vectors folder (see `skiplight.vectors.word_vectors`), both tables
    projector         a folder for TensorBoard's embedding projector, or projector.tensorflow.org

gensim writes the first three. In the word2vec formats, a file whose path ends in `.gz` or `.bz2` is compressed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from skiplight.errors import ConfigError, RunError
from skiplight.files import replacing
from skiplight.vectors.word_vectors import WordVectors

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

FORMATS = ("word2vec", "word2vec-binary", "keyedvectors", "safetensors", "projector")
_FOLDERS = ("safetensors", "projector")
# The projector's own format: paths relative to the folder of this file.
_PROJECTOR = 'embeddings {\n  tensor_path: "tensors.tsv"\n  metadata_path: "metadata.tsv"\n}\n'


def export_vectors(vectors: WordVectors, path: str | os.PathLike[str], format: str, escape: bool = False) -> None:
    """Write vectors for other tools; the output appears complete or not at all.

    Args:
        vectors: the input vectors are written, for `safetensors` the output vectors too.
        path: the file, or for `safetensors` and `projector` the folder. A file is replaced, a folder is not.
        format: one of `FORMATS`.
        escape: in the word2vec formats, which end a word at white space, write white space inside a word as
            `\\xNN` or `\\uNNNN` and a backslash as two, instead of refusing.

    Raises:
        ConfigError: there is no such format, or it cannot hold a word.
        DataError: the format has counts, and the words have none.
        RunError: `path` is a folder already, or cannot be written.
    """
    path = Path(path)
    if format not in FORMATS:
        raise ConfigError(f"no export format {format!r}: choose one of {', '.join(FORMATS)}")
    if path.is_dir() and not (format in _FOLDERS and not any(path.iterdir())):
        raise RunError(f"{path} is a folder that exists already: give --output another path, or remove it")
    if path.is_file() and format in _FOLDERS:
        raise RunError(f"{path} is a file, and {format} makes a folder: give --output another path, or remove it")
    try:
        if format == "keyedvectors":
            _write_keyedvectors(vectors, path)
        else:
            words = escape_words(vectors.vocabulary.words, escape) if format.startswith("word2vec") else None
            with replacing(path) as temporary:
                if format == "projector":
                    _write_projector(vectors, temporary)
                elif format == "safetensors":
                    vectors.save(temporary)
                else:
                    _keyedvectors(vectors, words).save_word2vec_format(
                        str(temporary), binary=format == "word2vec-binary"
                    )
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}; give --output another path") from error


def escape_words(words: Sequence[str], escape: bool) -> list[str]:
    """Return the words as the word2vec formats can hold them.

    Raises:
        ConfigError: a word is empty, or contains white space and `escape` is False.

    >>> escape_words(["new york", "naïve"], escape=True)
    ['new\\\\x20york', 'naïve']
    """
    for index, word in enumerate(words):
        if word.split() != [word] and not (escape and word):
            raise ConfigError(
                f"the word2vec formats end words at white space and cannot hold {word!r} (id {index}):"
                " give --escape, or choose --format keyedvectors or safetensors"
            )
    return ["".join(map(_escape, word)) for word in words] if escape else list(words)


def _escape(character: str) -> str:
    if character == "\\":
        return "\\\\"
    if character.isspace():
        return f"\\x{ord(character):02x}" if ord(character) < 256 else f"\\u{ord(character):04x}"
    return character


def _keyedvectors(vectors: WordVectors, words: list[str] | None = None) -> KeyedVectors:
    """Return gensim's KeyedVectors with the same ids, and the counts as vector attribute `count`."""
    from gensim.models import KeyedVectors

    # Attributes are set directly, since add_vectors of gensim 4.4 fails on extra attributes (it unpacks a dict's keys).
    keyed = KeyedVectors(vectors.dim)
    keyed.index_to_key = list(vectors.vocabulary.words if words is None else words)
    keyed.key_to_index = {word: index for index, word in enumerate(keyed.index_to_key)}
    keyed.vectors = vectors.input.cpu().contiguous().numpy()
    keyed.next_index = len(keyed)
    if vectors.vocabulary.counts.all():  # those of another tool's file have none
        keyed.expandos["count"] = vectors.vocabulary.counts.copy()
    return keyed


def _write_keyedvectors(vectors: WordVectors, path: Path) -> None:
    # gensim puts large arrays in files beside the first, `<path>.vectors.npy`, which are moved before it.
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".tmp-") as folder:
        _keyedvectors(vectors).save(str(Path(folder, path.name)))
        for file in sorted(Path(folder).iterdir(), key=lambda file: file.name == path.name):
            with replacing(path.with_name(file.name)) as temporary:
                file.rename(temporary)


def _write_projector(vectors: WordVectors, folder: Path) -> None:
    from pyarrow import csv

    folder.mkdir()
    plain = csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    columns = [pa.array(column) for column in vectors.input.cpu().T.contiguous().numpy()]
    csv.write_csv(pa.table(columns, names=[str(i) for i in range(vectors.dim)]), folder / "tensors.tsv", plain)
    # The projector expects a header with several columns and uses the first as label, as in vocabulary.tsv.
    vectors.vocabulary.save(folder / "metadata.tsv")
    (folder / "projector_config.pbtxt").write_text(_PROJECTOR, encoding="utf-8")
