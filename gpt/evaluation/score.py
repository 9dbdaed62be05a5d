"""How good a model is: nats and bits per byte on held-out documents, by the scoring rule of `gpt.evaluation.baselines`.

The loss is that of training: the mean over every target, ends of documents included, so a gap between the two is over-fitting.
Bits per byte are those of the text alone.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from gpt import GPTError
from gpt.data.dataset import IGNORE, Dataset
from gpt.evaluation.baselines import bits_per_byte
from gpt.machine.device import autocast
from gpt.machine.parallel import Objective
from gpt.model.transformer import GPT


@dataclass(frozen=True)
class Evaluation:
    """The score of one model on one split."""

    nats: float  # summed negative log-likelihood of the tokens of text, natural log
    n_tokens: int  # of text
    loss: float  # nats per target, ends of documents included, as in training
    n_bytes: int  # raw UTF-8 bytes of the same documents
    document_nats: np.ndarray  # float64, one a document, in the split's order; they add up to `nats`
    seconds: float

    @property
    def bits_per_byte(self) -> float:
        """See `gpt.evaluation.baselines.bits_per_byte`."""
        return bits_per_byte(self.nats, self.n_bytes)


@torch.no_grad()
def evaluate(
    model: GPT | Objective, dataset: Dataset, split: str = "val", batch_size: int = 32, device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32, on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:  # fmt: skip
    """Score every token of a split once, in sequences of T in the split's order.

    model: on `device`. batch_size: sequences at a time; it changes speed and memory, not the result (up to float rounding).
    dtype: bfloat16 computes matrix products in it. Sums are float64. on_batch(done, total): called after each batch.
    Raises GPTError for a split without text, or a vocabulary that is not the model's.
    """
    part, device = dataset.splits[split], torch.device(device)
    if part.n_bytes <= 0 or part.n_tokens <= part.n_documents:
        raise GPTError(f"{dataset.folder}: the {split} split has no text to evaluate on")
    if isinstance(model, GPT) and model.config.vocab_size != dataset.vocab_size:
        raise GPTError(f"the model has {model.config.vocab_size} tokens, {dataset.folder} has {dataset.vocab_size}")
    started, n_sequences, was_training = time.perf_counter(), dataset.n_sequences(split), model.training
    model.eval()
    n_tokens, end_nats, document_nats = 0, 0.0, np.zeros(part.n_documents)
    for first in range(0, n_sequences, batch_size):
        last = min(first + batch_size, n_sequences)
        batch = dataset.sequences(split, range(first, last))
        is_end = batch.targets_BT == dataset.eos_id
        is_text = (batch.targets_BT != IGNORE) & ~is_end
        ids_BT, targets_BT, documents_BT = (torch.from_numpy(array).to(device) for array in batch)
        with autocast(device, dtype):
            losses = model.loss(ids_BT, targets_BT, documents_BT if dataset.document_mask else None, "none")
        losses_BT = losses.to("cpu", torch.float64).numpy().reshape(is_text.shape)
        np.add.at(document_nats, batch.documents_BT[is_text], losses_BT[is_text])
        n_tokens, end_nats = n_tokens + int(is_text.sum()), end_nats + float(losses_BT[is_end].sum())
        on_batch(last, n_sequences)
    model.train(was_training)
    seconds = time.perf_counter() - started
    nats = float(document_nats.sum())
    loss = (nats + end_nats) / (n_tokens + part.n_documents)
    return Evaluation(nats, n_tokens, loss, part.n_bytes, document_nats, seconds)
