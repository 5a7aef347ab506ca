"""Normalising and splitting against straightforward Python."""

import string
import unicodedata

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skiplight.corpus.text.normalise import encode_tokens, split_tokens
from skiplight.errors import ConfigError

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

# Characters of Unicode 3.2 only: Arrow's tables and Python's may be of different later versions.
CHARACTERS = st.characters(exclude_categories=("Cs",)).filter(
    lambda character: unicodedata.ucd_3_2_0.category(character) != "Cn"
)
TEXTS = st.lists(st.one_of(st.text(CHARACTERS), st.text(string.printable + "éÅĳⅨ﷽①")), max_size=8)


def text8(text: str) -> list[str]:
    out = []
    for character in unicodedata.normalize("NFKD", text):
        if unicodedata.category(character) == "Mn":
            continue
        character = character.lower() if character.isascii() else character
        if character in string.ascii_lowercase:
            out.append(character)
        elif character in string.digits:
            out.append(f" {DIGITS[int(character)]} ")
        else:
            out.append(" ")
    return "".join(out).split()


def words_of(texts: list[str | None], normalise: str) -> list[list[str]]:
    words, lengths = split_tokens(pa.array(texts, pa.string()), normalise)
    ends = np.cumsum(lengths)
    return [words[int(end - n) : int(end)].to_pylist() for n, end in zip(lengths, ends, strict=True)]


def encoded_words(texts: pa.Array, normalise: str) -> list[list[str]]:
    encoded = encode_tokens(texts, normalise)
    words = encoded.words.take(pa.array(encoded.ids)).to_pylist()
    ends = np.cumsum(encoded.lengths)
    return [words[int(end - n) : int(end)] for n, end in zip(encoded.lengths, ends, strict=True)]


@settings(deadline=None, max_examples=200)
@given(TEXTS)
def test_text8_is_what_python_makes_of_it(texts: list[str]) -> None:
    assert words_of(texts, "text8") == [text8(text) for text in texts]


@settings(deadline=None, max_examples=100)
@given(TEXTS)
def test_none_splits_as_python_does(texts: list[str]) -> None:
    assert words_of(texts, "none") == [text.split() for text in texts]


@settings(deadline=None, max_examples=200)
@given(TEXTS, st.sampled_from(["text8", "unicode", "none"]))
def test_normalising_distinct_words_gives_the_same_as_the_running_text(texts: list[str], normalise: str) -> None:
    assert encoded_words(pa.array(texts, pa.string()), normalise) == words_of(texts, normalise)


@settings(deadline=None, max_examples=200)
@given(TEXTS)
def test_unicode_keeps_every_letter_and_digit_and_nothing_else(texts: list[str]) -> None:
    for text, words in zip(texts, words_of(texts, "unicode"), strict=True):
        plain = unicodedata.normalize("NFKC", text)
        kept = [character for character in plain if unicodedata.category(character)[0] in "LN"]
        found = [character for character in "".join(words) if unicodedata.category(character)[0] in "LN"]
        # Lower-casing makes one letter of one letter, in Arrow as in Unicode's simple mapping.
        assert len(found) == len(kept)
        rest = [character for character in "".join(words) if unicodedata.category(character)[0] not in "LMN"]
        assert set(rest) <= {"\u200c", "\u200d"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Die Größe, l'été…", ["die", "größe", "l", "été"]),
        ("Москва́ — столица", ["москва́", "столица"]),
        ("العربية: لغة", ["العربية", "لغة"]),
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("日本語、テキスト。", ["日本語", "テキスト"]),
        ("ﬁne ＡＢＣ １９", ["fine", "abc", "19"]),
        ("ok ❤️ \u200d👩\u200d💻 end\u200d", ["ok", "end"]),
        ("snake_case e-mail 3.14", ["snake", "case", "e", "mail", "3", "14"]),
    ],
)
def test_words_of_many_languages_survive_unicode(text: str, words: list[str]) -> None:
    assert words_of([text], "unicode") == [words]


@pytest.mark.parametrize("normalise", ["text8", "unicode", "none"])
def test_slices_nulls_and_nothing(normalise: str) -> None:
    texts = pa.array(["first one", None, "", "Last Ünë 7", "beyond"], pa.string())
    assert words_of(texts.slice(1, 3).to_pylist(), normalise) == encoded_words(texts.slice(1, 3), normalise)
    words, lengths = split_tokens(texts.slice(1, 3), normalise)
    assert lengths.tolist()[:2] == [0, 0]
    assert len(words) == lengths.sum()
    empty = encode_tokens(pa.array([], pa.string()), normalise)
    assert (len(empty.ids), len(empty.lengths)) == (0, 0)
    blank = encode_tokens(pa.array(["", " "], pa.string()), normalise)
    assert (len(blank.ids), blank.lengths.tolist()) == (0, [0, 0])


def test_sequences_are_taken_as_they_are() -> None:
    lists = pa.array([["x"], ["New York", "É"], [], ["É"]], pa.list_(pa.string()))
    assert encoded_words(lists.slice(1), "none") == [["New York", "É"], [], ["É"]]


def test_an_unknown_normaliser_is_refused() -> None:
    with pytest.raises(ConfigError, match="text8, unicode, none"):
        split_tokens(pa.array(["a"]), "lower")
