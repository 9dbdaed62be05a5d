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
    """
    return nats / math.log(2) / n_bytes


def counted_bits_per_byte(dataset: Dataset, split: str = "val") -> dict[str, float]:
    """Bits per byte of tokens ("unigram") and of pairs of tokens ("bigram") counted in the first BASELINE_TOKENS of train.

    unigram: the counts plus one. bigram: backs off to that (Witten and Bell 1991): P(w | v) = (c(v, w) + t(v) P(w)) / (c(v) +
    t(v)), where t(v) is how many different tokens followed v.
    """
    V, nats = dataset.vocab_size, {"unigram": 0.0, "bigram": 0.0}
    found = [previous * V + targets for previous, targets in _pairs(dataset, "train", BASELINE_TOKENS)]
    pairs, counts = np.unique(np.concatenate(found), return_counts=True)
    counts_V = 1 + np.bincount(pairs % V, counts, minlength=V)
    p_V = counts_V / counts_V.sum()
    seen_V = np.bincount(pairs // V, counts, minlength=V)
    kinds_V = np.bincount(pairs // V, minlength=V)
    for previous, targets in _pairs(dataset, split):
        scored = targets != dataset.eos_id
        previous, targets = previous[scored], targets[scored]
        wanted = previous * V + targets
        at = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
        count = np.where(pairs[at] == wanted, counts[at], 0)
        # A token that train never followed with anything has t = 0: then only the unigram is left.
        kinds = np.maximum(kinds_V[previous], 1)
        nats["unigram"] -= float(np.log(p_V)[targets].sum())
        nats["bigram"] -= float(np.log((count + kinds * p_V[targets]) / (seen_V[previous] + kinds)).sum())
    return {name: bits_per_byte(value, dataset.splits[split].n_bytes) for name, value in nats.items()}


def _pairs(dataset: Dataset, split: str, limit: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(previous token, token) of a split as int64, CHUNK at a time; an eos stands before the first."""
    part, before = dataset.splits[split], dataset.eos_id
    end = min(part.n_tokens, limit or part.n_tokens)
    for first in range(0, end, CHUNK):
        targets = part.tokens(np.arange(first, min(first + CHUNK, end)))
        yield np.concatenate(([before], targets[:-1])), targets
        before = int(targets[-1])
