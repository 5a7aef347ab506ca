"""Normalising text and splitting it into tokens, all in Arrow: no Python loop over tokens.

A normaliser is a function from texts, pa.StringArray [n], to texts of the same number, in which white space separates
the tokens. Three are built in:

- `text8`: the rules of Matt Mahoney's text8. Lower case, no accents (NFKD without marks), each digit spelled out; all
  characters other than a-z are separators.
- `unicode`: NFKC and lower case. Letters, marks and digits of all languages are kept, other characters are separators.
  Zero-width joiners inside a token are kept, as Persian and the Indic scripts need them.
- `none`: tokens are separated by white space and taken as they are.

With all three, white space separates tokens, and no rule looks across it, so a raw token can be normalised on its own.
So `encode_tokens` normalises only the *distinct* raw tokens of a batch, about an eighth of the text, and looks up each
occurrence, which is twice as fast as normalising the whole text.
"""

from __future__ import annotations

import string
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from skiplight.errors import DataError
from skiplight.registry import NORMALISERS, Entry, load_plugins, register_normaliser

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _byte_table(kept: bytes) -> bytes:
    """Return a table for `bytes.translate` that lower-cases ASCII and replaces all but the kept bytes by spaces."""
    lower = bytes(range(256)).lower()
    return bytes(byte if byte in kept else ord(" ") for byte in lower)


_LETTERS = _byte_table(string.ascii_lowercase.encode())
_LETTERS_AND_DIGITS = _byte_table((string.ascii_lowercase + string.digits).encode())
_JOINERS = "\\x{200c}\\x{200d}"


@dataclass
class Encoded:
    """Tokens of a batch of texts as ids into the batch's own dictionary.

    Attributes:
        words: pa.StringArray [d], the dictionary: all different, though some may not occur.
        ids: int32 [n], the index in `words` of each token, in the order of the texts.
        lengths: int64 [texts], the number of tokens of each text.
    """

    words: pa.Array
    ids: np.ndarray
    lengths: np.ndarray


def split_tokens(texts: pa.Array, normalise: str) -> tuple[pa.Array, np.ndarray]:
    """Normalise texts and split them into tokens.

    Args:
        texts: pa.StringArray [n]; nulls count as empty.
        normalise: the name of a normaliser: `text8`, `unicode`, `none` or a user's own.

    Returns:
        The tokens of all texts, pa.StringArray [tokens], and the number of tokens of each text, int64 [n].

    Raises:
        ConfigError: there is no such normaliser.
        DataError: a user's own fails, or returns something else than as many texts.

    >>> tokens, lengths = split_tokens(pa.array(["Œuvre: Café No. 19", "", "don't"]), "text8")
    >>> tokens.to_pylist(), lengths.tolist()
    (['uvre', 'cafe', 'no', 'one', 'nine', 'don', 't'], [5, 0, 2])
    >>> split_tokens(pa.array(["Œuvre: Café No. 19"]), "unicode")[0].to_pylist()
    ['œuvre', 'café', 'no', '19']
    """
    if texts.null_count:
        texts = pc.fill_null(texts, "")
    entry = find_normaliser(normalise)
    normalised = entry.target(texts) if entry.is_built_in else _checked(entry, texts)
    lists = pc.utf8_split_whitespace(normalised)
    tokens = lists.flatten()
    # Arrow gives an empty string before leading and after trailing white space.
    filled = pc.greater(pc.binary_length(tokens), 0)
    kept = _cumulative(filled.to_numpy(zero_copy_only=False))
    offsets = lists.offsets.to_numpy()
    return tokens.filter(filled), np.diff(kept[offsets - offsets[0]])


def encode_tokens(texts: pa.Array, normalise: str) -> Encoded:
    """Normalise and split texts, and number their tokens: the same tokens as of `split_tokens`, in the same order.

    Args:
        texts: pa.StringArray [n], or pa.ListArray [n] of strings, which are tokens already and only numbered.
        normalise: the name of a normaliser.
    """
    if pa.types.is_list(texts.type):
        lists, normalise = texts, "sequence"
    else:
        lists = pc.ascii_split_whitespace(pc.fill_null(texts, "") if texts.null_count else texts)
    raw = lists.flatten().dictionary_encode()
    offsets = lists.offsets.to_numpy().astype(np.int64)
    raw_lengths = np.diff(offsets)
    if normalise == "sequence":
        return Encoded(raw.dictionary, raw.indices.to_numpy(), raw_lengths)

    words, expansion = split_tokens(raw.dictionary, normalise)
    words = words.dictionary_encode()
    raw_ids = raw.indices.to_numpy()
    ends = _cumulative(expansion)
    flat = words.indices.to_numpy()
    counts = expansion[raw_ids]
    ids = np.repeat(ends[raw_ids], counts)
    total = _cumulative(counts)
    # A raw token such as "1990s" becomes several tokens: number those within it 0, 1, 2...
    if len(flat) != len(raw.dictionary) or (expansion != 1).any():
        ids += np.arange(len(ids)) - np.repeat(total[:-1], counts)
    return Encoded(words.dictionary, flat[ids], np.diff(total[offsets - offsets[0]]))


def find_normaliser(name: str) -> Entry:
    """Return a normaliser by its name.

    Raises:
        ConfigError: there is no such normaliser.
    """
    if name not in NORMALISERS:
        load_plugins()
    return NORMALISERS[name]


def _checked(entry: Entry, texts: pa.Array) -> pa.Array:
    """Return the texts that a user's own normaliser makes."""
    where = f"data.normalise={entry.name} ({entry.plugin})"
    try:
        found = pa.array(entry.target(texts), pa.string())
    except Exception as error:
        raise DataError(f"{where}: it fails ({type(error).__name__}: {error})") from error
    if len(found) != len(texts) or found.null_count:
        raise DataError(
            f"{where}: it makes {len(found) - found.null_count} texts of {len(texts)}; return one for each, also an"
            " empty one"
        )
    return found


@register_normaliser("text8")
def text8(texts: pa.Array) -> pa.Array:
    """Return texts in lower-case a to z."""
    foreign = pc.invert(pc.string_is_ascii(texts))
    folded = pc.utf8_normalize(texts.filter(foreign), "NFKD")
    texts = pc.replace_with_mask(texts, foreign, pc.replace_substring_regex(folded, r"\p{Mn}+", ""))
    digits = pc.match_substring_regex(texts, "[0-9]")
    spelled = texts.filter(digits)
    for digit, name in enumerate(_DIGITS):
        spelled = pc.replace_substring(spelled, str(digit), f" {name} ")
    return _translate(pc.replace_with_mask(texts, digits, spelled), _LETTERS)


@register_normaliser("unicode")
def unicode(texts: pa.Array) -> pa.Array:
    """Return texts in lower-case letters, marks and digits."""
    foreign = pc.invert(pc.string_is_ascii(texts))
    rest = pc.utf8_lower(pc.utf8_normalize(texts.filter(foreign), "NFKC"))
    rest = pc.replace_substring_regex(rest, rf"[^\p{{L}}\p{{M}}\p{{N}}{_JOINERS}]+", " ")
    # A mark or joiner without a letter before it is the rest of an emoji, not a token.
    rest = pc.replace_substring_regex(rest, rf"(^| )[\p{{M}}{_JOINERS}]+", " ")
    rest = pc.replace_substring_regex(rest, rf"[{_JOINERS}]+( |$)", " ")
    return pc.replace_with_mask(_translate(texts, _LETTERS_AND_DIGITS), foreign, rest)


@register_normaliser("none")
def none(texts: pa.Array) -> pa.Array:
    """Return texts as they are."""
    return texts


def _translate(texts: pa.Array, table: bytes) -> pa.Array:
    """Replace each byte by the entry of the table, and each byte of a character beyond ASCII by a space."""
    _, offsets, data = texts.buffers()
    translated = pa.py_buffer((data.to_pybytes() if data else b"").translate(table))
    return pa.StringArray.from_buffers(len(texts), offsets, translated, offset=texts.offset)


def _cumulative(values: np.ndarray) -> np.ndarray:
    """Return the sums of the first 0, 1, ... n values, int64 [n + 1]."""
    sums = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=sums[1:])
    return sums
