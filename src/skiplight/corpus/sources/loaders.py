"""Opens data sets as streams with `datasets`: anything that `load_dataset` takes by name.

Code from the Hub is never run: since version 4, `datasets` cannot run it.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from skiplight.corpus.sources import file_lists
from skiplight.corpus.sources.json_depth import bound_json_depth
from skiplight.errors import DataError

log = logging.getLogger(__name__)

_REVISIONS = "hub-revisions.json"
_PARQUET_ROWS = 1000


class Loader(Protocol):
    """Opens a data set; `option`: the option that errors name."""

    @property
    def option(self) -> str: ...

    def load(self, column: str) -> Any:
        """Return a `datasets.IterableDataset`, with only the given column where there is such a column."""

    def shard_name(self, shard: int) -> str:
        """Return the name of a shard for messages."""


@dataclass(frozen=True)
class HubLoader:
    """A data set of the Hub, or a local folder that `datasets.load_dataset` accepts as a name."""

    name: str
    config: str | None
    split: str
    revision: str | None
    option: ClassVar[str] = "data.name"

    @property
    def local(self) -> bool:
        return os.path.exists(self.name)

    def resolved(self, cache: Path) -> HubLoader:
        """Return this loader at a fixed commit, so that all ranks, workers and resumed runs read one version.

        Raises:
            DataError: the Hub does not have the data set, or cannot be reached and no commit is known.
        """
        if self.local or (self.revision and re.fullmatch("[0-9a-f]{40}", self.revision)):
            return self
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError

        path = cache / _REVISIONS
        known = {key: sha for key, sha in file_lists.read_cache(path).items() if isinstance(sha, str)}
        key = f"{self.name}@{self.revision or 'main'}"
        try:
            sha = huggingface_hub.HfApi().dataset_info(self.name, revision=self.revision).sha
        except Exception as error:
            # Errors without an answer of the Hub are of the connection: each HTTP library has its own.
            answered = isinstance(error, HfHubHTTPError) and error.response.status_code < 500
            if answered or isinstance(error, ValueError):
                raise DataError(
                    f"data.name={self.name}, data.revision={self.revision or 'main'}: the Hub does not have it"
                    f" or does not show it ({first_line(error)}); for a private one log in with `hf auth login`"
                ) from error
            if key not in known:
                raise DataError(
                    f"data.name={self.name}: the Hub cannot be reached ({first_line(error)}); download the data set"
                    " elsewhere and give its folder as data.name, or its files as data=files"
                ) from error
            log.warning("the Hub cannot be reached: taking %s at the commit of last time, %s", key, known[key])
            sha = known[key]
        if known.get(key) != sha:
            file_lists.write_cache(path, {**known, key: sha})
        return replace(self, revision=sha)

    def identity(self, cache: Path) -> list[str | None]:
        """Return what determines the content: name, configuration, split and commit; of a folder, its files."""
        if not self.local:
            return [self.name, self.config, self.split, self.revision]
        folder = Path(self.name).resolve()
        found = sorted(str(file) for file in folder.rglob("*") if file.is_file())
        names = [os.path.relpath(file, folder) for file in found]
        return [self.config, self.split, *names, *file_lists.hash_files(found, cache)]

    def load(self, column: str) -> Any:
        import datasets

        try:
            builder = datasets.load_dataset_builder(self.name, self.config, revision=self.revision)
        except Exception as error:
            option = "data.config" if "onfig" in str(error) else "data.name"
            raise DataError(f"{option}: {self.name} cannot be opened ({first_line(error)})") from error
        try:
            return _stream(builder, self.split, column)
        except Exception as error:
            option = f"data.split={self.split}" if "split" in str(error).lower() else f"data.name={self.name}"
            raise DataError(f"{option}: {first_line(error)}") from error

    def shard_name(self, shard: int) -> str:
        return f"{self.name}, shard {shard}"


def _stream(builder: Any, split: str, column: str) -> Any:
    from datasets.packaged_modules.parquet.parquet import Parquet

    bound_json_depth()
    dataset = builder.as_streaming_dataset(split=split)
    names = dataset.column_names
    if not names or column not in names:
        return dataset
    if isinstance(builder, Parquet):
        # Other columns need not be read at all. The default batch is the first row group, and fails if it is empty.
        builder.config.columns = [column]
        builder.config.batch_size = _PARQUET_ROWS
        return builder.as_streaming_dataset(split=split)
    return dataset.select_columns([column])


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the name of its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
