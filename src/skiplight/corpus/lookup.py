"""Finds words of a vocabulary as people write them.

A word counts as it is spelled, if the vocabulary has it so; otherwise in composed characters (NFC); otherwise without
regard to case, as in gensim's evaluations: then the most frequent of the words that differ in case only represents all
of them. Upper case alone would not do: of Turkish `tıp` and `tip` it is the same.
"""

from __future__ import annotations

import unicodedata
import weakref
from typing import NamedTuple

from skiplight.corpus.vocabulary import Vocabulary


class Lookup(NamedTuple):
    """The words of a vocabulary, and how they are found.

    Attributes:
        ids: from a word to its id.
        folded: from a word in upper case to the first id.
        variants: from an id to the other ids of the same word in another case.
    """

    ids: dict[str, int]
    folded: dict[str, int]
    variants: dict[int, list[int]]

    def find(self, word: str) -> int | None:
        """Return the id of a word, by its spelling or else without regard to case; None if there is none."""
        for spelling in (word, unicodedata.normalize("NFC", word)):
            if (found := self.ids.get(spelling)) is not None:
                return found
        return self.folded.get(unicodedata.normalize("NFC", word).upper())


_lookups: weakref.WeakKeyDictionary[Vocabulary, dict[int, Lookup]] = weakref.WeakKeyDictionary()


def word_lookup(vocabulary: Vocabulary, restrict: int) -> Lookup:
    """Return how the `restrict` most frequent words are found; the result is cached per vocabulary.

    >>> from skiplight.corpus.vocabulary import Vocabulary
    >>> lookup = word_lookup(Vocabulary(["paris", "Paris", "Rome"], [9, 5, 2]), restrict=2)
    >>> lookup.find("Paris"), lookup.find("PARIS"), lookup.find("Rome"), lookup.variants
    (1, 0, None, {0: [1], 1: [0]})
    """
    made = _lookups.setdefault(vocabulary, {})
    if restrict not in made:
        words = vocabulary.words[:restrict]
        folded: dict[str, int] = {}
        groups: dict[int, list[int]] = {}
        for index, word in enumerate(words):
            if (first := folded.setdefault(word.upper(), index)) != index:
                groups.setdefault(first, [first]).append(index)
        variants = {one: [other for other in group if other != one] for group in groups.values() for one in group}
        made[restrict] = Lookup({word: index for index, word in enumerate(words)}, folded, variants)
    return made[restrict]
