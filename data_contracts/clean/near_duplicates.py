"""Texts of nearly the same words, found by MinHash (rensa) and locality-sensitive hashing.

The parameters are FineWeb's (Penedo et al. 2024, arXiv 2406.17557): sequences of five words, 14 buckets of 8 hashes, which
finds a pair that shares 80 % of its sequences with probability 0.92, and one that shares half of them with 0.05. Case is
ignored, and so is what follows the first SIGNED_CHARS. A text is signed once, where it is cleaned; what meets in a bucket is
grouped over the whole corpus afterwards, one bucket at a time.
"""

from collections.abc import Callable, Iterable

import numpy as np
import polars as pl
from rensa import RMinHash

from data_contracts.clean.measures import MIX, NGRAM, blocks, ngrams, scramble, words

BUCKETS, HASHES, SEED = 14, 8, 1
# Copies differ in their beginnings as much as in the rest, and long articles take a fifth of the time.
SIGNED_CHARS = 5_000
BUCKET_NAMES = [f"bucket_{i}" for i in range(BUCKETS)]


def signatures(texts: pl.Series) -> pl.DataFrame:
    """One number a bucket for each text (BUCKET_NAMES, UInt64); texts that agree in a bucket are probably alike."""
    found = [np.zeros((0, BUCKETS * HASHES), np.uint64)]
    for block in blocks(texts.str.slice(0, SIGNED_CHARS)):
        ids, _ = words(block.data | np.uint8(32), block)
        n_words = np.diff(block.first)
        text = np.repeat(np.arange(len(n_words)), n_words)
        grams = ngrams(ids)
        within = text[: len(grams)] == text[len(text) - len(grams) :]
        counts = np.where(n_words >= NGRAM, n_words - NGRAM + 1, 0)
        # A text of fewer words than make a sequence is one sequence, of them all.
        short = np.flatnonzero(counts == 0)
        sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(scramble(ids))])
        alone = sums[block.first[short + 1]] - sums[block.first[short]]
        flat = np.insert(grams[within], np.cumsum(counts)[short], alone)
        offsets = np.cumsum(np.concatenate([[0], np.maximum(counts, 1)]))
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(
            flat, offsets.astype(np.uint64), num_perm=BUCKETS * HASHES, seed=SEED
        )
        found.append(np.array(matrix.to_rows(), np.uint64).reshape(-1, BUCKETS * HASHES))
    hashes = np.concatenate(found).reshape(-1, BUCKETS, HASHES)
    buckets = np.zeros(hashes.shape[:2], np.uint64)
    for i in range(HASHES):
        buckets = scramble(buckets * MIX[2] + hashes[:, :, i])
    return pl.DataFrame(buckets, schema=dict.fromkeys(BUCKET_NAMES, pl.UInt64))


def groups(buckets: Callable[[], Iterable[pl.Series]], n: int) -> np.ndarray:
    """For each of n texts the number of the first text of its group (its own, when it is the first or alone).

    buckets: gives a Series of n numbers a bucket; asked anew on every pass, so that one at a time is in memory. A group is
    all that is connected: alike to alike to alike.
    """
    label = np.arange(n, dtype=np.int64)
    while True:
        before = label
        for bucket in buckets():
            joined = pl.DataFrame({"bucket": bucket, "label": label})
            label = joined.select(pl.col("label").min().over("bucket")).to_series().to_numpy()
        if np.array_equal(label, before):
            return label
