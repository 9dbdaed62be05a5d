"""Texts of nearly the same words, found by MinHash (rensa) and locality-sensitive hashing.

The parameters are FineWeb's (Penedo et al. 2024, arXiv 2406.17557): sequences of five words, 14 buckets of 8 hashes. They find
a pair that shares 80 % of its sequences with probability 0.92, and one that shares half of them with 0.05. Case is ignored, and
so is what follows the first SIGNED_CHARS. A text is signed once, in its shard; the texts of the whole corpus that share a
bucket are grouped afterwards, one bucket at a time.
"""

from collections.abc import Callable, Iterable

import numpy as np
import polars as pl
from rensa import RMinHash

from data_contracts.clean.measures import MIX, NGRAM, Block, blocks, ngrams, scramble, sums, words

BUCKETS, HASHES, SEED = 14, 8, 1
# Copies differ in their beginnings as much as in the rest, and long articles take a fifth of the time.
SIGNED_CHARS = 5_000
BUCKET_NAMES = [f"bucket_{i}" for i in range(BUCKETS)]


def signatures(texts: pl.Series) -> pl.DataFrame:
    """One number per bucket for each text (BUCKET_NAMES, UInt64). Texts with the same number in a bucket are probably alike."""
    hashes = []
    for block in blocks(texts.str.slice(0, SIGNED_CHARS)):
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(*_sequences(block), num_perm=BUCKETS * HASHES, seed=SEED)
        hashes.append(np.array(matrix.to_rows(), np.uint64).reshape(-1, BUCKETS, HASHES))
    by_bucket = np.concatenate(hashes)
    buckets = np.zeros(by_bucket.shape[:2], np.uint64)
    for i in range(HASHES):
        buckets = scramble(buckets * MIX[2] + by_bucket[:, :, i])
    return pl.DataFrame(buckets, schema=dict.fromkeys(BUCKET_NAMES, pl.UInt64))


def _sequences(block: Block) -> tuple[np.ndarray, np.ndarray]:
    """A number for each sequence of NGRAM words, text after text, and where the sequences of each text begin (and the end).

    A text of fewer words has one sequence: all its words, in any order.
    """
    ids, _ = words(block.data | np.uint8(32), block)  # 32 is the bit that makes an ASCII letter a small one
    n_words = np.diff(block.first)
    short = n_words < NGRAM
    n_sequences = np.where(short, 1, n_words - NGRAM + 1)
    of_short = np.repeat(short, n_sequences)
    sequences = np.empty(len(of_short), np.uint64)
    sequences[of_short] = sums(scramble(ids), block.first)[short]
    sequences[~of_short] = ngrams(ids, block.text_of_words())[0]
    return sequences, np.concatenate([[0], np.cumsum(n_sequences)]).astype(np.uint64)


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
