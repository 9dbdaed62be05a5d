"""`Learner.update`, one training step: forward and backward over the micro-batches, clip, optimizer step.

Notable:
- an update depends on the weights, the optimizers' state and its number alone: batches, learning rates and dropout's random
  numbers follow from the number, so a run resumes exactly without the state of any random generator
- gradients are those of the summed loss divided by the whole batch's number of targets, so they are the same (up to float
  rounding) in one piece, in micro-batches, and on many devices
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gpt import GPTError
from gpt.checkpoint import load_model
from gpt.config import ModelConfig, Runtime, Start, TrainConfig
from gpt.data.dataset import Dataset
from gpt.data.feeding import Feeder, MicroBatch
from gpt.evaluation.score import Evaluation, evaluate
from gpt.machine import parallel
from gpt.machine.device import Machine, autocast, explain_out_of_memory, is_out_of_memory
from gpt.model.adapters import adapt
from gpt.model.transformer import GPT
from gpt.trainer.optimizers import build_optimizers, lr_ratio

log = logging.getLogger(__name__)


class Learner:
    """A model initialized from the seed, or from `start`, and its optimizers."""

    def __init__(
        self, dataset: Dataset, model: ModelConfig, config: TrainConfig, runtime: Runtime, machine: Machine,
        start: Start | None = None,
    ):  # fmt: skip
        self.machine, self._config, self._dataset = machine, config, dataset
        world = parallel.world_size()
        parts = micro_steps(config.batch_size, world, runtime.micro_batch_size)
        self._first_part = parallel.rank() * parts
        self._rows = config.batch_size // (world * parts)
        torch.manual_seed(config.seed)
        with explain_out_of_memory(1, machine.device):
            self.model = GPT(model)
            if start:
                self.model.load_state_dict(_weights(Path(start.folder), model, dataset))
            if start and start.rank:
                adapt(self.model, start)
            self.model.to(machine.device)
            self.model.recompute = runtime.activation_checkpointing
            self._objective = parallel.Objective(self.model)
            self._module = parallel.distribute(self._objective, runtime.parallel)
            self.optimizers = build_optimizers(self.model, config)
        self._call: Callable[..., Tensor] = self._module
        self._compile_next = machine.compile
        share = (self._first_part, parts, world * parts)
        self._feeder = Feeder(dataset, config.batch_size, config.seed, machine.device, *share)

    def update(self, step: int) -> tuple[Tensor, Tensor]:
        """Update number `step` (from 0). Returns the batch's mean loss and the gradient's norm before clipping, on the device.

        Raises GPTError when the device's memory does not hold it.
        """
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = group["peak_lr"] * lr_ratio(step, self._config)
        batches, n_targets = self._feeder.take(step)
        device, world = self.machine.device, parallel.world_size()
        n_all = n_targets if world == 1 else parallel.all_sum(torch.tensor(n_targets, device=device))
        loss = torch.zeros((), device=device)
        with explain_out_of_memory(self._rows, device):
            if self._compile_next:
                self._compile(batches[0])
            for number, batch in enumerate(batches):
                seeds = np.random.SeedSequence((self._config.seed, step, self._first_part + number))
                torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0]))  # of dropout
                with parallel.gradient_sync(self._module, now=number == len(batches) - 1):
                    part = self._summed_loss(batch) / n_all
                    # The processes' gradients are averaged, where their sum is wanted.
                    (part * world).backward()  # type: ignore[no-untyped-call]
                loss += part.detach()
            grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._config.grad_clip or float("inf"))
            for optimizer in self.optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        return parallel.all_sum(loss), parallel.full(grad_norm)

    def evaluate(self, on_batch: Callable[[int, int], None]) -> Evaluation:
        """The score on val, computed by all processes together."""
        model = self.model if parallel.world_size() == 1 else self._objective
        rows = self._rows * parallel.world_size()
        return evaluate(model, self._dataset, "val", rows, self.machine.device, self.machine.dtype, on_batch)

    def _summed_loss(self, batch: MicroBatch) -> Tensor:
        with autocast(self.machine.device, self.machine.dtype):
            return self._call(*batch)

    def _compile(self, batch: MicroBatch) -> None:
        """Compile the training step and try it on a batch; where that fails, the training stays uncompiled."""
        self._compile_next = False
        try:
            self._call = torch.compile(self._module, dynamic=False)
            self._summed_loss(batch).backward()  # type: ignore[no-untyped-call]
        except Exception as error:
            if is_out_of_memory(error):
                raise
            reason = str(error).strip().partition("\n")[0]
            log.warning("torch.compile does not work here, so the training goes on without it (%s)", reason)
            self._call = self._module
        self.model.zero_grad(set_to_none=True)


def _weights(start: Path, model: ModelConfig, dataset: Dataset) -> dict[str, Tensor]:
    """The weights to start from. Raises GPTError if they are of another shape, or speak of other tokens."""
    base, metadata = load_model(start)
    if replace(base.config, dropout=model.dropout) != model:
        raise GPTError(f"{start} is {base.config}, and not {model}: leave all but dropout to it")
    if metadata.get("tokenizer_fingerprint") != dataset.tokenizer_fingerprint:
        raise GPTError(f"{start} has another tokenizer than {dataset.folder}: pack the data with its tokenizer")
    return base.state_dict()


def micro_steps(batch_size: int, world: int, at_once: int) -> int:
    """Into how many equal parts each of `world` processes divides its share of a batch; none is over `at_once` (0: one part).

    Raises GPTError if the processes' shares cannot be equal.
    """
    if batch_size % world:
        raise GPTError(f"batch_size {batch_size} cannot be shared equally by {world} processes: make it a multiple")
    share = batch_size // world
    return next(n for n in range(1, share + 1) if share % n == 0 and (not at_once or share // n <= at_once))
