"""From text to tokens: sources, normalising, the vocabulary, and texts of tokens, stored or streamed.

source = open_source("files", path="text/*.txt", cache=stores)
store = prepare(source, normalise="text8", min_count=5, stores=stores)
store.vocabulary, store.train.select(0, 10).ids
"""

from skiplight.corpus.prepare import prepare
from skiplight.corpus.sources.registry import open_source
from skiplight.corpus.sources.source import Source
from skiplight.corpus.store.stream import TokenStream
from skiplight.corpus.store.token_store import TokenSplit, TokenStore
from skiplight.corpus.tokens import TokenSegments, TokenText
from skiplight.corpus.vocabulary import Vocabulary

__all__ = [
    "Source",
    "TokenSegments",
    "TokenSplit",
    "TokenStore",
    "TokenStream",
    "TokenText",
    "Vocabulary",
    "open_source",
    "prepare",
]
