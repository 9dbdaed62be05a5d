"""Batches for the device; a thread prepares the next step's while this one computes.

A batch is a function of the step alone (`Dataset.batch`), so nothing here is state: after a resume or a rollback, the right
batches are drawn whatever was prepared.
"""

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from gpt.data.dataset import IGNORE, Dataset

# What a device processes at once: ids_BT and targets_BT as in `gpt.data.dataset.Batch`, int64 of shape (B / parts, T), and
# documents_BT if positions attend to their own document only.
MicroBatch = list[Tensor]


class Feeder:
    """This process's share of each step's batch: micro-batches `first` to `first + n - 1` of `parts`."""

    def __init__(
        self, dataset: Dataset, batch_size: int, seed: int, device: torch.device, first: int = 0, n: int = 1,
        parts: int = 1, ahead: bool | None = None,
    ):  # fmt: skip
        """ahead: prepare the next step's in a thread. None: on CUDA only; on a CPU the thread would compete for its cores."""
        self._dataset, self._batch_size, self._seed, self._device = dataset, batch_size, seed, device
        self._numbers, self._parts = range(first, first + n), parts
        ahead = device.type == "cuda" if ahead is None else ahead
        self._thread = ThreadPoolExecutor(1, "feeder") if ahead else None
        self._ahead: dict[int, Future[tuple[list[MicroBatch], int]]] = {}

    def take(self, step: int) -> tuple[list[MicroBatch], int]:
        """The micro-batches of a step, on the device, and how many targets they have together (without IGNORE)."""
        if self._thread is None:
            batches, n_targets = self._prepare(step)
        else:
            future = self._ahead.get(step) or self._thread.submit(self._prepare, step)
            self._ahead = {step + 1: self._thread.submit(self._prepare, step + 1)}
            batches, n_targets = future.result()
        # From pinned memory the copy runs beside the computation that is already queued.
        return [[tensor.to(self._device, non_blocking=True) for tensor in batch] for batch in batches], n_targets

    def _prepare(self, step: int) -> tuple[list[MicroBatch], int]:
        batches, n_targets, n_arrays = [], 0, 3 if self._dataset.document_mask else 2
        for number in self._numbers:
            arrays = self._dataset.batch(step, self._batch_size, self._seed, number, self._parts)
            n_targets += int((arrays.targets_BT != IGNORE).sum())
            tensors = [torch.from_numpy(array) for array in arrays[:n_arrays]]
            batches.append([tensor.pin_memory() for tensor in tensors] if self._device.type == "cuda" else tensors)
        return batches, n_targets
