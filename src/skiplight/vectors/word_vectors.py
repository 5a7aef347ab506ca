"""Word vectors as training leaves them: the two tables, their vocabulary, and the folder that keeps them.

A run's `vectors/` folder holds

    vectors.safetensors   `input` and `output`, float32 [V, d]; the header's metadata carries a format version, and
                          checksums (BLAKE2b) of both tables and of vocabulary.tsv
    vocabulary.tsv        the words in id order, with their counts
    README.md             the model card

safetensors, because it is read without running code, memory-mapped, and by every framework. The input vectors
are what people call word vectors; the output vectors are kept to go on training and to score pairs.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path

import torch

from skiplight.corpus.vocabulary import Vocabulary
from skiplight.errors import RunError
from skiplight.files import digest, replacing, writing

FORMAT_VERSION = 1
_TENSORS, _VOCABULARY, _CARD = "vectors.safetensors", "vocabulary.tsv", "README.md"


class WordVectors:
    """A snapshot of trained vectors.

    Args:
        vocabulary: the words, V of them.
        input: input vectors [V, d], row by word id, on any device; kept as float32, not copied if they are.
        output: output vectors [V, d], or None where the objective has none for each word.
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
        """The length d of a vector."""
        return self.input.shape[1]

    def unit(self) -> torch.Tensor:
        """The input vectors at length 1, float32 [V, d], where they lie; rows of zeros stay zero.

        Computed once: after more training steps on the same tables, make a new WordVectors.
        """
        return self._unit

    @functools.cached_property
    def _unit(self) -> torch.Tensor:
        norms = torch.linalg.vector_norm(self.input, dim=1, keepdim=True)
        return self.input / torch.where(norms > 0, norms, 1.0)

    def save(self, folder: str | os.PathLike[str], card: str | None = None) -> None:
        """Writes the folder, each file whole or not at all, the tensors last.

        Args:
            folder: made where it is missing.
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
    def load(cls, folder_or_run: str | os.PathLike[str], *, verify: bool = False) -> WordVectors:
        """Reads the vectors of a run folder, or of a `vectors/` folder itself.

        Args:
            folder_or_run: the folder.
            verify: whether to compare the checksums of the tables, which reads them twice; the vocabulary's, sizes and
                the header are always looked at.

        Raises:
            RunError: there are no vectors, they are damaged, of a newer format, or unfit for the vocabulary.
            DataError: a line of vocabulary.tsv is malformed.
        """
        from safetensors import SafetensorError, safe_open

        folder = vectors_folder(folder_or_run)
        file = folder / _TENSORS
        if not (folder / _VOCABULARY).exists():
            raise RunError(f"{folder} has vectors but no {_VOCABULARY}: copy the whole folder from its run")
        remedy = "copy it again from its run, or train again"
        try:
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
        # Vectors of the first versions have no checksums.
        if metadata.get(_checksum("vocabulary"), found := digest(folder / _VOCABULARY)) != found:
            raise RunError(f"{folder / _VOCABULARY} is not the one that these vectors were written with; {remedy}")
        vocabulary = Vocabulary.load(folder / _VOCABULARY)
        if verify:
            for name, table in tables.items():
                if metadata.get(_checksum(name), found := _digest(table)) != found:
                    raise RunError(f"{file} is damaged in the table {name}; {remedy}")
        card = folder / _CARD
        try:
            text = card.read_text(encoding="utf-8", errors="replace") if card.exists() else None
            return cls(vocabulary, **tables, card=text)
        except ValueError as error:
            raise RunError(f"{folder}: {error}; copy the whole folder from its run, or train again") from None


def _checksum(name: str) -> str:
    return f"skiplight_{name}_blake2b"


def _digest(table: torch.Tensor) -> str:
    return hashlib.blake2b(table.contiguous().view(torch.uint8).numpy().data, digest_size=16).hexdigest()


def vectors_folder(folder_or_run: str | os.PathLike[str]) -> Path:
    """The `vectors/` folder of a run, or the folder itself where it is one.

    Raises:
        RunError: neither holds vectors.
    """
    path = Path(folder_or_run)
    for folder in (path, path / "vectors"):
        if (folder / _TENSORS).exists():
            return folder
    raise RunError(
        f"no vectors in {path}: neither {_TENSORS} nor vectors/{_TENSORS} is there;"
        " give the folder of a run that has finished, or finish it with `skiplight resume`"
    )
