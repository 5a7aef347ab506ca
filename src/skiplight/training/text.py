"""The text of a run as a token store or stream, and the number of tokens that the run consumes."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from skiplight.config.schema import Config
from skiplight.corpus.prepare import prepare
from skiplight.corpus.sources.registry import open_source
from skiplight.corpus.tokens import TokenText
from skiplight.errors import ConfigError
from skiplight.files import cache_folder

log = logging.getLogger(__name__)

LOG_SECONDS = 10


def prepare_text(config: Config, threads: int | None = None) -> TokenText:
    """Return the token store or stream that `data.*` and `vocabulary.*` define.

    `threads` read and encode the text; the default is `trainer.threads`.
    """
    options = config.data
    source = open_source(
        options.source,
        name=options.name,
        config=options.config,
        split=options.split,
        revision=options.revision,
        path=options.path if isinstance(options.path, list) or options.path is None else str(options.path),
        column=options.column,
        document=options.document,
        max_bytes=options.max_bytes,
        cache=cache_folder(),
    )
    return prepare(
        source,
        normalise=options.normalise,
        min_count=config.vocabulary.min_count,
        max_size=config.vocabulary.max_size,
        vocabulary=Path(config.vocabulary.path) if config.vocabulary.path else None,
        grow=config.vocabulary.grow,
        heldout=options.heldout,
        stores=Path(options.store) if options.store else cache_folder() / "stores",
        streaming=options.streaming,
        threads=threads or config.trainer.threads,
        progress=ProgressLog(),
    )


class ProgressLog:
    """Log the progress of preparing a long text, every `LOG_SECONDS`."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def __call__(self, stage: str, words: int) -> None:
        if time.monotonic() - self.last >= LOG_SECONDS:
            self.last = time.monotonic()
            log.info("%s: %s words", {"vocabulary": "read and counted", "encode": "encoded"}[stage], f"{words:,}")


def total_tokens(config: Config, text: TokenText) -> int:
    """Return the number of tokens that the run consumes.

    Raises:
        ConfigError: the size of the stream is unknown.
    """
    if config.trainer.max_tokens is not None:
        return config.trainer.max_tokens
    tokens = (config.data.tokens if config.data.streaming else None) or text.tokens
    if tokens is None:
        raise ConfigError(
            "the size of the stream is not known: give `data.tokens` (tokens of an epoch) or `trainer.max_tokens`"
        )
    return tokens * config.trainer.max_epochs
