"""How good a model is: bits per byte on held-out documents, and count models on the same bytes to compare with.

The scoring rule, for models and baselines alike: every token of every document of the split is scored exactly once; the
end-of-document tokens are context, never scored, because they stand for no byte of text. So a uniform model over bytes
gets exactly 8 bits per byte, and models with different tokenizers compare. Bytes are raw UTF-8, counted before
tokenization (they stand in the dataset's index), never derived from tokens.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from gpt.config import GPTError
from gpt.dataset import PAD_TARGET, Dataset
from gpt.model import token_losses

BASELINE_TOKENS = 50_000_000  # of train, counted for baselines: pairs of them still fit in a few GB
CHUNK = 4_000_000  # tokens at a time in the baselines


@dataclass(frozen=True)
class Evaluation:
    """The score of one model on one split."""

    nats: float
    """Summed negative log-likelihood of the scored tokens, natural log."""
    n_tokens: int
    """Tokens scored."""
    n_bytes: int
    """Raw UTF-8 bytes of the same documents."""
    seconds: float
    """Wall time."""

    @property
    def loss(self) -> float:
        """Nats per scored token."""
        return self.nats / self.n_tokens

    @property
    def bits_per_byte(self) -> float:
        """See `bits_per_byte`."""
        return bits_per_byte(self.nats, self.n_bytes)


def bits_per_byte(nats: float, n_bytes: int) -> float:
    """Cross-entropy in bits per raw UTF-8 byte: comparable across tokenizers and corpora.

    nats: summed negative log-likelihood of every scored token (natural log).
    n_bytes: UTF-8 bytes of the same documents, counted before tokenization.
    Raises ValueError if n_bytes is not positive.
    """
    if n_bytes <= 0:
        raise ValueError(f"bits per byte need at least one byte of text, got {n_bytes}")
    return nats / math.log(2) / n_bytes


@torch.no_grad()
def evaluate(
    model: nn.Module,
    dataset: Dataset,
    split: str = "val",
    batch_size: int = 32,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Score every token of a split once, in windows of T that do not overlap.

    model: ids_BT -> logits_BTV, on `device`; it is put in eval mode and back.
    batch_size: windows at a time: a matter of speed and memory, not of the result (up to float rounding).
    dtype: bfloat16 computes matrix products in it. Sums are float64. on_batch(done, total): after each batch of windows.
    Raises GPTError for a split without text, or a vocabulary that is not the model's.
    """
    part, device = dataset.splits[split], torch.device(device)
    if part.n_bytes <= 0 or part.n_tokens <= part.n_documents:
        raise GPTError(f"{dataset.folder}: the {split} split has no text to evaluate on")
    started, was_training = time.perf_counter(), model.training
    model.eval()
    nats, n_tokens, n_windows = 0.0, 0, dataset.n_sequences(split)
    try:
        for first in range(0, n_windows, batch_size):
            ids_BT, targets_BT = dataset.sequences(split, range(first, min(first + batch_size, n_windows)))
            targets_BT[targets_BT == dataset.eos_id] = PAD_TARGET
            n_tokens += int((targets_BT != PAD_TARGET).sum())
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                logits_BTV = model(torch.from_numpy(ids_BT).to(device))
            if logits_BTV.shape[-1] != dataset.vocab_size:
                raise GPTError(
                    f"the model has {logits_BTV.shape[-1]} tokens, {dataset.folder} has {dataset.vocab_size}"
                )
            losses = token_losses(logits_BTV, torch.from_numpy(targets_BT).to(device))
            nats += losses.to("cpu", torch.float64).sum().item()
            on_batch(min(first + batch_size, n_windows), n_windows)
    finally:
        model.train(was_training)
    return Evaluation(nats, n_tokens, part.n_bytes, time.perf_counter() - started)


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
    pairs, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    for previous, targets in _pairs(dataset, "train", BASELINE_TOKENS):
        new_pairs, new_counts = np.unique(previous * V + targets, return_counts=True)
        pairs, inverse = np.unique(np.concatenate((pairs, new_pairs)), return_inverse=True)
        counts = np.bincount(inverse, np.concatenate((counts, new_counts))).astype(np.int64)
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
    return counts_V / counts_V.sum()


def _pairs(dataset: Dataset, split: str, limit: int | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(previous token, token) of a split as int64, CHUNK at a time; an eos stands before the first."""
    tokens = dataset.splits[split].tokens[:limit]
    before = dataset.eos_id
    for first in range(0, len(tokens), CHUNK):
        targets = tokens[first : first + CHUNK].astype(np.int64)
        yield np.concatenate(([before], targets[:-1])), targets
        before = int(targets[-1])


def _scored(dataset: Dataset, split: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The pairs whose second token is scored: all but the ends of documents."""
    for previous, targets in _pairs(dataset, split):
        kept = targets != dataset.eos_id
        yield previous[kept], targets[kept]
