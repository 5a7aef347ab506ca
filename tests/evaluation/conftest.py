"""Vectors that gensim trained, for gensim and for skiplight: scores must be the same on both."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from gensim.models import KeyedVectors, Word2Vec
from gensim.test.utils import datapath
from gensim.utils import simple_preprocess

from skiplight.corpus.vocabulary import Vocabulary
from skiplight.vectors.word_vectors import WordVectors


class Both(NamedTuple):
    gensim: KeyedVectors
    ours: WordVectors


def both(gensim: KeyedVectors) -> Both:
    """gensim's vectors, and ours with the same ids."""
    counts = gensim.expandos.get("count", range(len(gensim), 0, -1))
    return Both(gensim, WordVectors(Vocabulary(gensim.index_to_key, counts), torch.tensor(gensim.vectors)))


@pytest.fixture(scope="session")
def trained() -> Both:
    """60,000 words of news, 1,750 of them in the vocabulary."""
    with open(datapath("lee_background.cor"), encoding="utf-8") as file:
        sentences = [simple_preprocess(line) for line in file]
    return both(Word2Vec(sentences, sg=1, negative=5, vector_size=40, epochs=10, workers=1, seed=1).wv)
