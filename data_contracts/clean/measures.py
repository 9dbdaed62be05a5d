r"""The measures of texts that the drop rules use, for many texts in one pass over their bytes.

Notable: a word becomes a number (from its first and last eight bytes and its length), and so do lines and sequences of five
words: they are compared without making strings, and sorting the numbers finds the repeats. Blocks are small enough to stay
in the processor's cache, which halves the time: about 9 ns a byte on one core (docs/log.md).

An example: the block of the texts "Hi you" and "a\nb", with a line end after each and PAD spaces around.

    place   0 ... 7  8   9  10  11  12  13  14  15  16  17  18  19  20 ... 27
    data     spaces  \n  H   i      y   o   u   \n  a   \n  b   \n   spaces

    starts = [9, 12, 16, 18], ends = [11, 15, 17, 19]: the words Hi, you, a, b
    first  = [0, 2, 4]: words 0 and 1 are the first text's, 2 and 3 the second's
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import polars as pl

NGRAM = 5
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")

MEANINGS = {
    "n_chars": "characters",  # Unicode code points
    "n_bytes": "bytes of UTF-8",
    "n_words": "words: runs without white space",  # of ASCII
    "word_chars": "mean length of a word",  # in characters
    "letter_words": "share of words with a letter",  # as which every character beyond ASCII counts
    "symbols": "number signs and ellipses a word",
    "stop_words": "how many of the eight commonest English words occur",  # STOP_WORDS, in lower case
    "repeated_lines": "share of lines that repeat an earlier one",  # of the same text, by its words; blank ones aside
    "repeated_ngrams": "share of five-word sequences that repeat an earlier one",
}
COUNTS = ("n_chars", "n_bytes", "n_words", "stop_words")
COLUMNS = {name: pl.Int64 if name in COUNTS else pl.Float32 for name in MEANINGS}

BLOCK_BYTES = 256 << 10
PAD = 8
MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xFF51AFD7ED558CCD], np.uint64)


def measure(texts: pl.Series) -> pl.DataFrame:
    """COLUMNS, a row per text; a text without words has zeros. texts: strings without nulls."""
    text = pl.col("text")
    counts = texts.to_frame("text").select(
        n_chars=text.str.len_chars().cast(pl.Int64),
        n_bytes=text.str.len_bytes().cast(pl.Int64),
        signs=text.str.count_matches(r"#|\.\.\.|…"),
        stop_words=pl.sum_horizontal(text.str.contains(f" {word} ", literal=True) for word in STOP_WORDS),
    )
    columns = np.concatenate([_count(block) for block in blocks(texts)], axis=1)
    n_words, word_bytes, letters, lines, repeated_lines, repeated_ngrams = columns
    words = np.maximum(n_words, 1)
    return counts.select(
        "n_chars",
        "n_bytes",
        n_words=pl.Series(n_words),
        word_chars=(pl.Series(word_bytes) - pl.col("n_bytes") + pl.col("n_chars")) / words,
        letter_words=pl.Series(letters / words),
        symbols=pl.col("signs") / words,
        stop_words="stop_words",
        repeated_lines=pl.Series(repeated_lines / np.maximum(lines, 1)),
        repeated_ngrams=pl.Series(repeated_ngrams / np.maximum(n_words - NGRAM + 1, 1)),
    ).cast(pl.Schema(COLUMNS))


class Block(NamedTuple):
    """Some texts as one run of bytes, and where their words are. The top of the file has an example."""

    data: np.ndarray
    """uint8: the texts between two pads, a line end after each"""
    starts: np.ndarray
    """of words, in data; the words of a text stand together"""
    ends: np.ndarray
    first: np.ndarray
    """the number of each text's first word, and at the end the number of words"""

    def text_of_words(self) -> np.ndarray:
        """uint64: for each word the number of its text."""
        return np.repeat(np.arange(len(self.first) - 1, dtype=np.uint64), np.diff(self.first))


def blocks(texts: pl.Series) -> Iterator[Block]:
    """The texts, in order, in blocks of about BLOCK_BYTES."""
    sizes = texts.str.len_bytes().to_numpy().astype(np.int64)
    cuts = np.flatnonzero(np.diff(np.cumsum(sizes) // BLOCK_BYTES)) + 1
    raw = texts.cast(pl.Binary)
    for a, b in pairwise([0, *cuts.tolist(), len(sizes)]):
        data = np.frombuffer(b"\n".join([b" " * PAD, *raw[a:b], b" " * PAD]), np.uint8)
        blank = data <= 32
        edges = np.flatnonzero(blank[1:] != blank[:-1]) + 1
        starts, ends = np.ascontiguousarray(edges[::2]), np.ascontiguousarray(edges[1::2])
        begins = PAD + 1 + np.concatenate([[0], np.cumsum(sizes[a:b] + 1)])
        yield Block(data, starts, ends, np.searchsorted(starts, begins))


def words(data: np.ndarray, block: Block) -> tuple[np.ndarray, np.ndarray]:
    """A number for each word, and whether it has a letter (in its first or last eight bytes).

    data: the block's bytes, or their lower-case ones.
    """
    lengths = block.ends - block.starts
    eights = np.ndarray(len(data) - 7, np.uint64, data, strides=(1,))  # the eight bytes from each place on
    bits_after = (np.maximum(8 - lengths, 0) * 8).astype(np.uint64)
    heads = eights[block.starts] << bits_after >> bits_after  # of a short word, without the bytes that follow it
    ids, has_letter = (heads * MIX[0]) ^ (lengths.astype(np.uint64) * MIX[1]), _letter(heads)
    long = np.flatnonzero(lengths > 8)
    tails = eights[block.ends[long] - 8]
    ids[long] ^= tails * MIX[2]
    has_letter[long] |= _letter(tails)
    return ids, has_letter


def ngrams(words: np.ndarray, text: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A number for every NGRAM words in a row of one text, and the number of that text. text: of each word."""
    n = max(0, len(words) - NGRAM + 1)
    found = words[:n].copy()
    for i in range(1, NGRAM):
        found *= MIX[2]
        found += words[i : i + n]
    within = text[:n] == text[len(text) - n :]
    return scramble(found[within]), text[:n][within]


def sums(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The sum over the words of each text, 0 for a text without words. first: as in Block."""
    has_words = np.diff(first) > 0  # reduceat would give other texts the value of the next one
    found = np.zeros(len(first) - 1, values.dtype)
    found[has_words] = np.add.reduceat(values, first[:-1][has_words])
    return found


def scramble(ids: np.ndarray) -> np.ndarray:
    """Spread every bit over the upper ones."""
    return (ids ^ (ids >> np.uint64(33))) * MIX[3]


def _count(block: Block) -> np.ndarray:
    """Words, their bytes, words with a letter, lines, repeated lines, repeated n-grams: (6, texts) int64."""
    n = len(block.first) - 1
    if not len(block.starts):
        return np.zeros((6, n), np.int64)
    text = block.text_of_words()
    ids, has_letter = words(block.data, block)
    breaks = np.searchsorted(block.starts, np.flatnonzero(block.data == 10))  # the word after each line end
    line = breaks[:-1][np.diff(breaks) > 0]  # the first word of each line that has one
    columns = (
        np.diff(block.first),
        sums(block.ends - block.starts, block.first),
        sums(has_letter.astype(np.int64), block.first),
        np.bincount(text[line].astype(np.int64), minlength=n),
        _repeats(np.add.reduceat(scramble(ids), line), text[line], n),
        _repeats(*ngrams(ids, text), n),
    )
    return np.stack(columns)


def _letter(eight: np.ndarray) -> np.ndarray:
    """Whether any of the eight bytes of each number is an ASCII letter or beyond ASCII.

    All eight at once: adding 0x80 - 0x61 to a byte below 0x80 sets its top bit if it is "a" or more, adding 0x80 - 0x7B if
    it is more than "z".
    """
    each = np.uint64(0x0101010101010101)
    lower = (eight | each * np.uint64(0x20)) & each * np.uint64(0x7F)
    from_a, after_z = lower + each * np.uint64(0x80 - 0x61), lower + each * np.uint64(0x80 - 0x7B)
    return ((from_a & ~after_z | eight) & each * np.uint64(0x80)) != 0


def _repeats(ids: np.ndarray, text: np.ndarray, n: int) -> np.ndarray:
    """How many ids of each of n texts repeat an earlier one of it. text: of each id.

    Sorted keys stand beside their repeats: the text takes the upper bits of a key, as many as n needs, and the id the rest.
    """
    rest = np.uint64(64 - max(1, int(n - 1).bit_length()))
    keys = (ids >> (np.uint64(64) - rest)) | (text << rest)
    keys.sort()
    again = keys[1:][keys[1:] == keys[:-1]]
    return np.bincount((again >> rest).astype(np.int64), minlength=n)
