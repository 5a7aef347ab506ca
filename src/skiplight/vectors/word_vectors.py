"""Trained word vectors: the two tables, their vocabulary, and the folder that stores them.

A run's `vectors/` folder holds

    vectors.safetensors   `input` and `output`, float32 [V, d]; the header's metadata carries a format version, and
                          checksums (BLAKE2b) of both tables and of vocabulary.tsv
    vocabulary.tsv        the words in id order, with their counts
    README.md             the model card

safetensors files can be memory-mapped and are read by every framework without running code. The input vectors are
the usual word vectors; the output vectors are needed to continue training and to score pairs.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

import numpy as np
import torch

from skiplight.corpus.vocabulary import Vocabulary
from skiplight.errors import RunError
from skiplight.files import check_regular, digest, read_text, replacing, writing
from skiplight.vectors.nearest import find_row, nearest_words
from skiplight.vectors.vector_files import read_vector_file

FORMAT_VERSION = 1
_TENSORS, _VOCABULARY, _CARD = "vectors.safetensors", "vocabulary.tsv", "README.md"


class WordVectors:
    """A snapshot of trained vectors.

    Args:
        vocabulary: the words, V of them.
        input: input vectors [V, d], rows in id order, on any device; stored as float32, without a copy if possible.
        output: output vectors [V, d], or None if the objective has none per word.
        card: the text of the model card.

    >>> vectors = WordVectors(Vocabulary(["a", "b"], [5, 3]), torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    >>> vectors.unit().tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        input: torch.Tensor,
        output: torch.Tensor | None = None,
        card: str | None = None,
    ) -> None:
        for name, table in (("input", input), ("output", output)):
            if table is not None and (table.ndim != 2 or len(table) != len(vocabulary)):
                raise ValueError(f"{name} is {list(table.shape)}, but the vocabulary has {len(vocabulary)} words")
        if output is not None and output.shape != input.shape:
            raise ValueError(f"input is {list(input.shape)}, but output is {list(output.shape)}")
        self.vocabulary = vocabulary
        self.input = input.detach().float()
        self.output = None if output is None else output.detach().float()
        self.card = card

    def __len__(self) -> int:
        return len(self.vocabulary)

    @property
    def dim(self) -> int:
        """The dimension d of the vectors."""
        return self.input.shape[1]

    def copy(self) -> WordVectors:
        """Return the same vectors in tensors of their own."""
        output = None if self.output is None else self.output.clone()
        return WordVectors(self.vocabulary, self.input.clone(), output, self.card)

    def unit(self) -> torch.Tensor:
        """Return the input vectors scaled to length 1, float32 [V, d], on their device; rows of zeros stay zero.

        They are computed once: after more training steps on the same tables, make a new WordVectors.
        """
        return self._unit

    def unit_rows(self, rows: slice | list[int]) -> torch.Tensor:
        """Return some rows of `unit`, float32 [rows, d], without a copy of the whole table."""
        return _scale(self.input[rows])

    @functools.cached_property
    def _unit(self) -> torch.Tensor:
        return _scale(self.input)

    def most_similar(self, word: str, topn: int = 10) -> list[tuple[str, float]]:
        """Return the `topn` words nearest to `word`, without `word`, and their cosines, as gensim's `most_similar`.

        Raises:
            EvaluationError: `word` is not in the vocabulary, or `topn` is not positive.
        """
        row = find_row(self.vocabulary, word)
        return nearest_words(self.vocabulary, self.unit(), self.unit()[row], {row}, topn)

    def save(self, folder: str | os.PathLike[str], card: str | None = None) -> None:
        """Write the folder, each file complete or not at all, the tensors last.

        Args:
            folder: created if missing.
            card: the text of README.md; by default the card that these vectors were loaded with, if any.
        """
        from safetensors.torch import save_file

        folder = Path(folder)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.vocabulary.save(folder / _VOCABULARY)
            card = self.card if card is None else card
            if card is not None:
                with replacing(folder / _CARD) as temporary:
                    temporary.write_text(card, encoding="utf-8")
            tables = {"input": self.input} | ({} if self.output is None else {"output": self.output})
            tables = {name: table.cpu().contiguous() for name, table in tables.items()}
            # "format": "pt" is what other readers of safetensors look for; the others are ours.
            metadata = {"format": "pt", "skiplight_format_version": str(FORMAT_VERSION)}
            metadata[_checksum("vocabulary")] = digest(folder / _VOCABULARY)
            metadata |= {_checksum(name): _digest(table) for name, table in tables.items()}
            with replacing(folder / _TENSORS) as temporary:
                save_file(tables, temporary, metadata)

    @classmethod
    def load(cls, folder_or_run: str | os.PathLike[str], *, verify: bool = True) -> WordVectors:
        """Read the vectors of a run folder or of a `vectors/` folder, or a file that another tool wrote.

        Args:
            folder_or_run: the folder; or a file of word2vec (text or binary), GloVe or fastText (.vec), plain or
                compressed (.gz, .bz2, .xz), which has no output vectors, and words without counts: they are 0.
            verify: whether to check the tables' checksums, about a second per GB; the vocabulary's checksum, sizes and
                header are always checked.

        Raises:
            RunError: there are no vectors, they are damaged, of a newer format, or do not fit the vocabulary.
            DataError: a line of vocabulary.tsv, or the file, is malformed.
        """
        from safetensors import SafetensorError, safe_open

        if is_vector_file(folder_or_run):
            words, table = read_vector_file(Path(folder_or_run))
            return cls(Vocabulary(words, np.zeros(len(words))), torch.from_numpy(table))
        folder = vectors_folder(folder_or_run)
        file = folder / _TENSORS
        if not (folder / _VOCABULARY).exists():
            raise RunError(f"{folder} has vectors but no {_VOCABULARY}: copy the whole folder from its run")
        remedy = "copy it again from its run, or train again"
        try:
            check_regular(file)
            with safe_open(file, framework="pt") as tensors:
                metadata, names = tensors.metadata() or {}, set(tensors.keys())
                tables = {name: tensors.get_tensor(name) for name in ("input", "output") if name in names}
        except (SafetensorError, OSError) as error:
            raise RunError(f"cannot read {file}: {error}; {remedy}") from None
        version = metadata.get("skiplight_format_version", "")
        if not version.isdecimal() or "input" not in tables:
            raise RunError(f"{file} was not written by skiplight: give a run folder or its vectors/ folder")
        if int(version) > FORMAT_VERSION:
            raise RunError(f"{file} is of format {version}, this skiplight reads up to {FORMAT_VERSION}: upgrade it")
        if any(not table.is_floating_point() for table in tables.values()):
            raise RunError(f"{file} was not written by skiplight: its tables are not of floating point numbers")
        checked = any(key.startswith("skiplight_") and key.endswith("_blake2b") for key in metadata)
        # Vectors of the first versions, and those of a converter, have no checksums.
        if checked and metadata.get(_checksum("vocabulary")) != digest(folder / _VOCABULARY):
            raise RunError(f"{folder / _VOCABULARY} is not the one that these vectors were written with; {remedy}")
        vocabulary = Vocabulary.load(folder / _VOCABULARY)
        for name in ("input", "output") if verify and checked else ():
            if metadata.get(_checksum(name)) != (_digest(tables[name]) if name in tables else None):
                raise RunError(f"{file} is damaged in the table {name}; {remedy}")
        card = folder / _CARD
        try:
            text = read_text(card, errors="replace") if card.exists() else None
            return cls(vocabulary, **tables, card=text)
        except ValueError as error:
            raise RunError(f"{folder}: {error}; copy the whole folder from its run, or train again") from None


def _scale(vectors: torch.Tensor) -> torch.Tensor:
    """Return vectors, [n, d], scaled to length 1; zeros stay zero."""
    norms = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / torch.where(norms > 0, norms, 1.0)


def _checksum(name: str) -> str:
    return f"skiplight_{name}_blake2b"


def _digest(table: torch.Tensor) -> str:
    return hashlib.blake2b(table.contiguous().view(torch.uint8).numpy().data, digest_size=16).hexdigest()


def vectors_folder(folder_or_run: str | os.PathLike[str]) -> Path:
    """Return the `vectors/` folder of a run, or the given folder (or that of its vectors.safetensors).

    Raises:
        RunError: neither contains vectors.
    """
    path = Path(folder_or_run)
    path = path.parent if path.name == _TENSORS else path
    for folder in (path, path / "vectors"):
        if (folder / _TENSORS).exists():
            return folder
    raise RunError(
        f"no vectors in {path}: neither {_TENSORS} nor vectors/{_TENSORS} is there;"
        " give the folder of a run that has finished, or finish it with `skiplight resume`"
    )


def is_vector_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is a file of another tool, not a folder of vectors."""
    return Path(path).is_file() and Path(path).name != _TENSORS
