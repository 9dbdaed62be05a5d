"""Texts of nearly the same words, found by MinHash and locality-sensitive hashing.

The parameters are FineWeb's (Penedo et al. 2024, arXiv 2406.17557): sequences of five words, 14 buckets of 8 hashes. They find
a pair that shares 80 % of its sequences with probability 0.92, and one that shares half of them with 0.05. As there, case,
punctuation, accents and numbers do not count; what follows the first SIGNED_CHARS neither. Texts too short for
such a sequence are alike only if they are the same. A text is signed once, in its shard; the texts of the whole corpus that
share a bucket are grouped afterwards, one bucket at a time.
"""

import unicodedata
from collections.abc import Callable, Iterable

import numpy as np
import polars as pl

from data_contracts.clean.measures import MIX, NGRAM, blocks, ngrams, scramble, words

BUCKETS, HASHES = 14, 8
# A number of an odd factor is another one: the least of a text's numbers after each of these is a hash of its set of them.
FACTORS: np.ndarray = scramble(np.arange(1, BUCKETS * HASHES + 1, dtype=np.uint64) * MIX[0]) >> np.uint64(32)
FACTORS = FACTORS.astype(np.uint32) | 1
# Copies differ in their beginnings as much as in the rest, and long articles take a fifth of the time.
SIGNED_CHARS = 5_000
BUCKET_NAMES = [f"bucket_{i}" for i in range(BUCKETS)]


def _plain(char: str) -> str:
    """A letter in lower case and without accents; a space for a digit and for punctuation."""
    parts = [(part, unicodedata.category(part)[0]) for part in unicodedata.normalize("NFD", char.lower())]
    return "".join(part if kind == "L" else " " for part, kind in parts if kind != "M")


ASCII = bytes(ord(_plain(chr(byte))) if 32 < byte < 128 else byte for byte in range(256))
# Latin, Greek and Cyrillic with their accents, and the punctuation of other scripts.
RANGES = ((0xA1, 0x530), (0x1E00, 0x2000), (0x2010, 0x205F), (0x3001, 0x3040), (0xFF01, 0xFF21))
WIDE = {char: _plain(char) for begin, end in RANGES for char in map(chr, range(begin, end)) if _plain(char) != char}


def signatures(texts: pl.Series) -> pl.DataFrame:
    """One number per bucket for each text (BUCKET_NAMES, UInt64). Texts with the same number in a bucket are probably alike."""
    buckets, short = [], []
    plain = texts.str.slice(0, SIGNED_CHARS)
    wide = (plain.str.len_bytes() != plain.str.len_chars()).arg_true()
    for block in blocks(plain.scatter(wide, plain.gather(wide).str.replace_many(WIDE)), ASCII):
        # A number for each sequence, text after text. A text of fewer words has one, 0.
        n_sequences = np.diff(block.first) - NGRAM + 1
        sizes = np.maximum(n_sequences, 1)
        numbers, starts = np.zeros(sizes.sum(), np.uint32), np.cumsum(sizes) - sizes
        numbers[np.repeat(n_sequences > 0, sizes)] = ngrams(words(block)[0], block.text_of_words()) >> np.uint64(32)
        of_block = np.zeros((BUCKETS, len(starts)), np.uint64)
        for i, factor in enumerate(FACTORS if len(starts) else ()):
            bucket = of_block[i // HASHES]
            bucket[:] = scramble(bucket * MIX[2] + np.minimum.reduceat(numbers * factor, starts))
        buckets.append(of_block)
        short.append(n_sequences < 1)
    found = np.concatenate(buckets, axis=1)
    alone = np.concatenate(short)
    found[:, alone] = texts.hash().to_numpy()[alone]
    return pl.DataFrame(dict(zip(BUCKET_NAMES, found, strict=True)), schema=dict.fromkeys(BUCKET_NAMES, pl.UInt64))


def groups(buckets: Callable[[], Iterable[pl.Series]], n: int) -> np.ndarray:
    """For each of n texts the number of the first text of its group (its own, when it is the first or alone).

    A group is all that is connected: if a is like b and b like c, all three are one group. buckets: returns a Series of n
    numbers per bucket; it is called on every pass, so that only one Series is in memory.
    """
    label = np.arange(n, dtype=np.int64)
    while True:
        before = label
        for bucket in buckets():
            joined = pl.DataFrame({"bucket": bucket, "label": label})
            label = joined.select(pl.col("label").min().over("bucket")).to_series().to_numpy()
        if np.array_equal(label, before):
            return label
