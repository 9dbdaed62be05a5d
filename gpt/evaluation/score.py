"""How good a model is: nats and bits per byte on held-out documents, by the scoring rule of `gpt.evaluation.baselines`."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from gpt import GPTError
from gpt.data.dataset import IGNORE, Dataset
from gpt.evaluation.baselines import bits_per_byte
from gpt.machine.device import autocast


@dataclass(frozen=True)
class Evaluation:
    """The score of one model on one split."""

    nats: float
    """Summed negative log-likelihood of the scored tokens, natural log."""
    n_tokens: int
    n_bytes: int
    """Raw UTF-8 bytes of the same documents."""
    document_nats: np.ndarray
    """Float64, one a document of the split, in its order: nats add up over them, so an interval can be drawn over documents."""
    seconds: float

    @property
    def loss(self) -> float:
        """Nats per scored token."""
        return self.nats / self.n_tokens

    @property
    def bits_per_byte(self) -> float:
        return bits_per_byte(self.nats, self.n_bytes)


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
    """Score every token of a split once, in its sequences of T: those of the dataset's strategy, in the split's order.

    model: a `gpt.model.transformer.GPT`, on `device`.
    batch_size: windows at a time: a matter of speed and memory, not of the result (up to float rounding).
    dtype: bfloat16 computes matrix products in it. Sums are float64. on_batch(done, total): after each batch of windows.
    Raises GPTError for a split without text, or a vocabulary that is not the model's.
    """
    part, device = dataset.splits[split], torch.device(device)
    if part.n_bytes <= 0 or part.n_tokens <= part.n_documents:
        raise GPTError(f"{dataset.folder}: the {split} split has no text to evaluate on")
    if (found := getattr(model, "config", dataset).vocab_size) != dataset.vocab_size:
        raise GPTError(f"the model has {found} tokens, {dataset.folder} has {dataset.vocab_size}")
    started, n_tokens, n_sequences, nats = (
        time.perf_counter(),
        0,
        dataset.n_sequences(split),
        np.zeros(part.n_documents),
    )
    with evaluating(model):
        for first in range(0, n_sequences, batch_size):
            last = min(first + batch_size, n_sequences)
            batch = dataset.sequences(split, range(first, last))
            batch.targets_BT[batch.targets_BT == dataset.eos_id] = IGNORE
            scored = batch.targets_BT != IGNORE
            ids_BT, targets_BT, documents_BT = (torch.from_numpy(array).to(device) for array in batch)
            with autocast(device, dtype):
                losses = model.loss(ids_BT, targets_BT, documents_BT if dataset.document_mask else None, "none")
            losses = losses.to("cpu", torch.float64).numpy()[scored.flatten()]
            np.add.at(nats, batch.documents_BT[scored], losses)
            n_tokens += len(losses)
            on_batch(last, n_sequences)
    return Evaluation(float(nats.sum()), n_tokens, part.n_bytes, nats, time.perf_counter() - started)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within the block the model is in eval mode; afterwards as it was."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
