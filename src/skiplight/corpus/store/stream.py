"""A text too large to store, encoded each time it is read; its segments are those that a store would have."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from skiplight.corpus.sources.source import Source
from skiplight.corpus.sources.units import Listing
from skiplight.corpus.store.segments import ChunkCutter
from skiplight.corpus.text.counting import count_threads
from skiplight.corpus.text.encoding import Indexer, number_tokens
from skiplight.corpus.tokens import Permute, TokenSegments
from skiplight.corpus.vocabulary import Vocabulary


@dataclass(eq=False)
class TokenStream:
    """A streamed text; see `TokenText` for what it has in common with a stored one. It can be pickled.

    Attributes:
        source: the text.
        normalise: the name of a normaliser.
        vocabulary: the words of the ids.
        heldout: fraction of the text that is held out.
        fingerprint: hash of the text's content and of the options that decide its ids.
        tokens: training tokens per epoch, where known.
        threads: threads to encode with; default: the cores of this process, at most 8.
        seconds: seconds that counting the vocabulary took, by stage.
    """

    source: Source
    normalise: str
    vocabulary: Vocabulary
    heldout: float
    fingerprint: str
    tokens: int | None = None
    threads: int = field(default_factory=count_threads)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def units(self) -> Listing:
        """The units of the text."""
        return self.source.units

    def verify(self) -> None:
        """Do nothing, as nothing is stored."""

    def read_heldout(self, permute: Permute) -> Iterator[TokenSegments]:
        """Yield the held-out segments in the order of the text, all of which is read for them."""
        return self.segments(range(len(self.units)), heldout=True)

    def segments(self, units: Sequence[int], *, heldout: bool = False) -> Iterator[TokenSegments]:
        """Yield whole segments of some units, in order.

        Args:
            units: numbers of units, in the order to read them.
            heldout: whether to yield the held-out segments, rather than those to train on.
        """
        documents = (part for unit in units for part in self.source.read(self.units[unit]))
        batches = number_tokens(documents, self.normalise, self.threads, ChunkCutter())
        pending = TokenSegments.empty()
        for parts in itertools.chain(Indexer(self.vocabulary, self.heldout).index(batches), [None]):
            if parts is not None:
                pending = pending.concatenate(parts[heldout])
            # The next batch may continue the last segment.
            whole = len(pending) - (parts is not None)
            if whole > 0:
                found = pending.select(0, whole)
                pending = pending.select(whole, len(pending))
                yield found
