"""From text to tokens: sources, normalising, the vocabulary, the token store and its streamed twin.

source = open_source("files", path="text/*.txt", cache=stores)
store = prepare(source, normalise="text8", min_count=5, stores=stores)
store.vocabulary, store.train.ids(0, 1000)
"""

from skiplight.corpus.prepare import prepare
from skiplight.corpus.sources.registry import Source, open_source
from skiplight.corpus.store.stream import SegmentBatch, TokenStream
from skiplight.corpus.store.token_store import TokenSplit, TokenStore
from skiplight.corpus.vocabulary import Vocabulary

__all__ = [
    "SegmentBatch",
    "Source",
    "TokenSplit",
    "TokenStore",
    "TokenStream",
    "Vocabulary",
    "open_source",
    "prepare",
]
