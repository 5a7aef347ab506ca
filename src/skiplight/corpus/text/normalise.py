"""Normalising and splitting text into words, all in Arrow: Python never loops over words.

Three normalisers:

- `text8`: what Matt Mahoney's text8 did to Wikipedia. Lower case, accents folded (NFKD, marks dropped),
digits
  spelled out one by one, everything that is not a-z a separator.
- `unicode`: NFKC and lower case; letters, marks and digits of any language survive, everything else
separates.
  Zero-width joiners stay inside a word, where Persian and the Indic scripts need them.
- `none`: words are what stands between white space, as it stands.

In all three white space separates and nothing looks across it. So a word of the raw text can be normalised on
its own, and each batch normalises its *distinct* raw words only, about an eighth of the text, and then looks
up what
became of every occurrence: `encode`, twice as fast as normalising the running text.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Normaliser = Literal["text8", "unicode", "none"]
NORMALISERS: tuple[str, ...] = get_args(Normaliser)

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _byte_table(kept: bytes) -> bytes:
    """For `bytes.translate`: lower-cases ASCII and turns every byte but the kept ones into a space."""
    lower = bytes(range(256)).lower()
    return bytes(byte if byte in kept else ord(" ") for byte in lower)


_LETTERS = _byte_table(string.ascii_lowercase.encode())
_LETTERS_AND_DIGITS = _byte_table((string.ascii_lowercase + string.digits).encode())
_JOINERS = "\\x{200c}\\x{200d}"


@dataclass
class Encoded:
    """Words of a batch of texts as ids into the batch's own dictionary.

    Attributes:
        words: the distinct words, pa.StringArray [d]; a word may be in it that does not occur (never twice).
        ids: index into `words` of each word in the order of the texts, int32 [n].
        lengths: how many words each text has, int64 [texts].
    """

    words: pa.Array
    ids: np.ndarray
    lengths: np.ndarray


def split_tokens(texts: pa.Array, normalise: str) -> tuple[pa.Array, np.ndarray]:
    """Normalises texts and splits them into words.

    Args:
        texts: pa.StringArray [n]; nulls count as empty.
        normalise: `text8`, `unicode` or `none`.

    Returns:
        The words of all texts, flat, pa.StringArray, and how many each text has, int64 [n].

    >>> words, lengths = split(pa.array(["Œuvre: Café No. 19", "", "don't"]), "text8")
    >>> words.to_pylist(), lengths.tolist()
    (['uvre', 'cafe', 'no', 'one', 'nine', 'don', 't'], [5, 0, 2])
    >>> split(pa.array(["Œuvre: Café No. 19"]), "unicode")[0].to_pylist()
    ['œuvre', 'café', 'no', '19']
    """
    if texts.null_count:
        texts = pc.fill_null(texts, "")
    if normalise == "text8":
        lists = pc.ascii_split_whitespace(_text8(texts))
    elif normalise == "unicode":
        lists = pc.ascii_split_whitespace(_unicode(texts))
    elif normalise == "none":
        lists = pc.utf8_split_whitespace(texts)
    else:
        raise ValueError(f"normalise={normalise!r}: expected one of {', '.join(NORMALISERS)}")
    words = lists.flatten()
    # Arrow's split leaves an empty string before leading and after trailing white space.
    filled = pc.greater(pc.binary_length(words), 0)
    kept = _cumulative(filled.to_numpy(zero_copy_only=False))
    offsets = lists.offsets.to_numpy()
    return words.filter(filled), np.diff(kept[offsets - offsets[0]])


def encode_tokens(texts: pa.Array, normalise: str) -> Encoded:
    """Normalises, splits and numbers the words of a batch: the same words as `split`, in the same order.

    Args:
        texts: pa.StringArray [n], or a pa.ListArray [n] of strings, which are words already and only
            numbered.
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
    # A raw word such as "1990s" becomes several words: number those within it 0, 1, 2...
    if len(flat) != len(raw.dictionary) or (expansion != 1).any():
        ids += np.arange(len(ids)) - np.repeat(total[:-1], counts)
    return Encoded(words.dictionary, flat[ids], np.diff(total[offsets - offsets[0]]))


def _text8(texts: pa.Array) -> pa.Array:
    foreign = pc.invert(pc.string_is_ascii(texts))
    folded = pc.utf8_normalize(texts.filter(foreign), "NFKD")
    texts = pc.replace_with_mask(texts, foreign, pc.replace_substring_regex(folded, r"\p{Mn}+", ""))
    digits = pc.match_substring_regex(texts, "[0-9]")
    spelled = texts.filter(digits)
    for digit, name in enumerate(_DIGITS):
        spelled = pc.replace_substring(spelled, str(digit), f" {name} ")
    return _translate(pc.replace_with_mask(texts, digits, spelled), _LETTERS)


def _unicode(texts: pa.Array) -> pa.Array:
    foreign = pc.invert(pc.string_is_ascii(texts))
    rest = pc.utf8_lower(pc.utf8_normalize(texts.filter(foreign), "NFKC"))
    rest = pc.replace_substring_regex(rest, rf"[^\p{{L}}\p{{M}}\p{{N}}{_JOINERS}]+", " ")
    # A mark or joiner without a letter before it is what is left of an emoji, not a word.
    rest = pc.replace_substring_regex(rest, rf"(^| )[\p{{M}}{_JOINERS}]+", " ")
    rest = pc.replace_substring_regex(rest, rf"[{_JOINERS}]+( |$)", " ")
    return pc.replace_with_mask(_translate(texts, _LETTERS_AND_DIGITS), foreign, rest)


def _translate(texts: pa.Array, table: bytes) -> pa.Array:
    """Replaces every byte by the table's, and those of characters beyond ASCII by as many spaces."""
    _, offsets, data = texts.buffers()
    translated = pa.py_buffer((data.to_pybytes() if data else b"").translate(table))
    return pa.StringArray.from_buffers(len(texts), offsets, translated, offset=texts.offset)


def _cumulative(values: np.ndarray) -> np.ndarray:
    """[n] to the sums of the first 0, 1, ... n values, int64 [n + 1]."""
    sums = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=sums[1:])
    return sums
