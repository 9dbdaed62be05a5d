"""A batch that the device's memory cannot hold ends in an error that names the largest batch that fits."""

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.optim import Optimizer

from gpt import GPTError
from gpt.machine.device import Machine, autocast
from gpt.model.transformer import GPT


@contextmanager
def explain_out_of_memory(rows: int, machine: Machine, largest: Callable[[], int]) -> Iterator[None]:
    """Where the device runs out of memory in the block, raise a GPTError with the remedy instead.

    rows: sequences in the batch. largest(): the largest number of them that fits; 0 if not even one does.
    """
    try:
        yield
        return
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they still hold the activations
    if fits := largest():
        remedy = f"at most {fits} can fit: set runtime.micro_batch_size to that (the step's batch stays the same)"
    else:
        remedy = "not even one does: take a smaller model or block_size, or runtime.activation_checkpointing"
    raise GPTError(f"a batch of {rows} sequences does not fit {machine.device}; {remedy}") from None


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device, or the machine itself, ran out of memory. On a CPU, torch raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def largest_that_fits(model: GPT, optimizers: list[Optimizer], rows: int, machine: Machine) -> int:
    """The largest of rows/2, rows/4 ... 1 on which the device can train the model, found by trial; 0 if there is none.

    The gradients and the optimizers' state are lost.
    """
    for optimizer in optimizers:
        optimizer.state.clear()
    while rows := rows // 2:
        model.zero_grad(set_to_none=True)
        gc.collect()
        torch.cuda.empty_cache()
        try:
            _train_on(model, rows, machine)
            return rows
        except Exception as error:
            if not is_out_of_memory(error):
                raise
    return 0


def _train_on(model: GPT, rows: int, machine: Machine) -> None:
    """A forward and a backward pass, beside as much memory as the optimizer's state takes: two moments a parameter."""
    moments = [torch.empty_like(parameter) for parameter in model.parameters() for _ in range(2)]
    ids_BT = torch.zeros(rows, model.config.block_size, dtype=torch.int64, device=machine.device)
    with autocast(machine.device, machine.dtype):
        loss = model.loss(ids_BT, ids_BT, None, "sum")
    loss.backward()  # type: ignore[no-untyped-call]
    del moments
