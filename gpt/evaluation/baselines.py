"""Bits per byte, and the baselines that a model is compared with on the same bytes: what counting tokens alone reaches.

The scoring rule, for models (`gpt.evaluation.score`) and baselines alike: every token of every document of the split is scored
exactly once; the end-of-document tokens do not count, because they stand for no byte of text. So a uniform
model over bytes gets exactly 8 bits per byte, and models with different tokenizers compare. Bytes are raw UTF-8, counted
before tokenization (they are in the dataset's index), never derived from tokens.
"""

import math
from collections.abc import Iterator

import numpy as np

from gpt.data.dataset import Dataset

BASELINE_TOKENS = 20_000_000  # of train that are counted: pairs of them fit in half a gigabyte
CHUNK = 4_000_000  # tokens at a time


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """Cross-entropy in bits per raw UTF-8 byte: comparable across tokenizers and corpora.

    nats: summed negative log-likelihood of every scored token (natural log).
    n_bytes: UTF-8 bytes of the same documents, counted before tokenization.
    Raises ValueError if n_bytes is not positive.
    """
    if n_bytes <= 0:
        raise ValueError(f"bits per byte need at least one byte of text, got {n_bytes}")
    return nats / math.log(2) / n_bytes


def unigram_bits_per_byte(dataset: Dataset, split: str = "val") -> float:
    """Bits per byte of token frequencies counted in train, plus one."""
    log_p_V = np.log(_unigram(dataset))
    nats = -sum(log_p_V[targets].sum() for _, targets in _scored(dataset, split))
    return bits_per_byte(float(nats), dataset.splits[split].n_bytes)


def bigram_bits_per_byte(dataset: Dataset, split: str = "val") -> float:
    """Bits per byte of pairs of tokens counted in train, backing off to `_unigram` (Witten and Bell 1991).

    P(w | v) = (c(v, w) + t(v) P(w)) / (c(v) + t(v)), where t(v) is how many different tokens followed v.
    """
    V, p_V = dataset.vocab_size, _unigram(dataset)
    found = [previous * V + targets for previous, targets in _pairs(dataset, "train", BASELINE_TOKENS)]
    pairs, counts = np.unique(np.concatenate(found), return_counts=True)
    seen_V = np.bincount(pairs // V, counts, minlength=V)
    kinds_V = np.bincount(pairs // V, minlength=V)
    nats = 0.0
    for previous, targets in _scored(dataset, split):
        wanted = previous * V + targets
        at = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
        count = np.where(pairs[at] == wanted, counts[at], 0)
        # A token that train never followed with anything has t = 0: then only the unigram is left.
        kinds = np.maximum(kinds_V[previous], 1)
        nats -= np.log((count + kinds * p_V[targets]) / (seen_V[previous] + kinds)).sum()
    return bits_per_byte(float(nats), dataset.splits[split].n_bytes)


def _unigram(dataset: Dataset) -> np.ndarray:
    """Add-one token probabilities, float64 (V,), of the first BASELINE_TOKENS of train."""
    counts_V = np.ones(dataset.vocab_size, np.int64)
    for _, targets in _pairs(dataset, "train", BASELINE_TOKENS):
        counts_V += np.bincount(targets, minlength=dataset.vocab_size)
    p_V: np.ndarray = counts_V / counts_V.sum()
    return p_V


def _pairs(dataset: Dataset, split: str, limit: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(previous token, token) of a split as int64, CHUNK at a time; an eos stands before the first."""
    part, before = dataset.splits[split], dataset.eos_id
    end = min(part.n_tokens, limit or part.n_tokens)
    for first in range(0, end, CHUNK):
        targets = part.stream(first, min(first + CHUNK, end)).astype(np.int64)
        yield np.concatenate(([before], targets[:-1])), targets
        before = int(targets[-1])


def _scored(dataset: Dataset, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The pairs whose second token is scored: all but the ends of documents."""
    for previous, targets in _pairs(dataset, split):
        kept = targets != dataset.eos_id
        yield previous[kept], targets[kept]
