"""What one update does: forward and backward over the micro-batches, clip, step, average.

Notable:
- an update is a function of weights, optimizer state and its number alone: batches, rates and dropout's random numbers all
  follow from the step, so a run resumes exactly without any generator's state
- gradients are those of the summed loss over the whole batch's number of real targets, so they are the same (up to float
  rounding) in one piece, in micro-batches, and on many devices
"""

import contextlib
import logging
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gpt import GPTError
from gpt.config import ModelConfig, Runtime, TrainConfig
from gpt.data.dataset import Dataset
from gpt.data.feeding import Feeder, MicroBatch
from gpt.evaluation.score import Evaluation, evaluate
from gpt.machine import parallel
from gpt.machine.device import Machine, autocast
from gpt.machine.fit import check_fit, largest_that_fits, too_large
from gpt.model.ema import EMA
from gpt.model.transformer import GPT
from gpt.trainer.optimizers import build_optimizers, set_schedule

log = logging.getLogger(__name__)


class Learner:
    """A model from its seed, its optimizers, and (with config.ema) the average of its weights."""

    def __init__(self, dataset: Dataset, model: ModelConfig, config: TrainConfig, runtime: Runtime, machine: Machine):
        self.config, self._dataset, self.machine = config, dataset, machine
        torch.manual_seed(config.seed)
        self.model = GPT(model).to(machine.device)
        self.model.recompute = runtime.activation_checkpointing
        world = parallel.world()
        parts = micro_steps(config.batch_size, world, runtime.micro_batch_size)
        self._rows = config.batch_size // (world * parts)
        check_fit(self.model, self._rows, machine, config, shards=world if runtime.parallel == "fsdp" else 1)
        self._objective = parallel.Objective(self.model)
        self._module = parallel.spread(self._objective, runtime.parallel)
        self._call = torch.compile(self._module, dynamic=False) if machine.compile else self._module
        self._proven = False  # that an update fits the memory and, if it shall be compiled, can be
        self.optimizers = build_optimizers(self.model, config)
        self.ema = EMA(self.model, config.ema) if config.ema else None
        first = parallel.rank() * parts
        self._feeder = Feeder(dataset, config.batch_size, config.seed, machine.device, first, parts, world * parts)

    def update(self, step: int) -> tuple[Tensor, Tensor]:
        """Update number `step` (from 0). Returns the batch's mean loss and the gradient's norm before clipping, on the device.

        Raises GPTError when the device's memory does not hold it.
        """
        set_schedule(self.optimizers, step, self.config)
        batches, n_targets = self._feeder.take(step)
        loss = (self._gradients if self._proven else self._first_gradients)(step, batches, n_targets)
        limit = self.config.grad_clip or float("inf")
        grad_norm = parallel.whole(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit))
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.ema:
            self.ema.update(step + 1)
        return loss, grad_norm

    def evaluate(self, on_batch: Callable[[int, int], None]) -> Evaluation:
        """The score on val of the weights that count (`weights_that_count`), by all processes together."""
        model = self.model if parallel.world() == 1 else parallel.Scorer(self._objective)
        rows = self._rows * parallel.world()
        with self.weights_that_count():
            return evaluate(model, self._dataset, "val", rows, self.machine.device, self.machine.dtype, on_batch)

    def weights_that_count(self) -> contextlib.AbstractContextManager[None]:
        """Within this context the model has the weights to evaluate and to keep: the average, if there is one."""
        return self.ema.in_place() if self.ema else contextlib.nullcontext()

    def close(self) -> None:
        """Let the feeding end."""
        self._feeder.close()

    def _gradients(self, step: int, batches: list[MicroBatch], n_targets: int) -> Tensor:
        """Leave the batch's gradients in the parameters. Returns its mean loss."""
        device, world = self.machine.device, parallel.world()
        n_all = parallel.total(torch.tensor(n_targets, device=device)) if world > 1 else n_targets
        total = torch.zeros((), device=device)
        for number, batch in enumerate(batches):
            part = parallel.rank() * len(batches) + number
            torch.manual_seed(_dropout_seed(self.config.seed, step, part))
            with parallel.gradients_wait(self._module, number < len(batches) - 1):
                with autocast(device, self.machine.dtype):
                    loss = self._call(*batch, "sum") / n_all
                (loss * world).backward()  # the processes' gradients are averaged, where their sum is wanted
            total += loss.detach()
        return parallel.total(total)

    def _first_gradients(self, step: int, batches: list[MicroBatch], n_targets: int) -> Tensor:
        """As `_gradients`, where memory may run out, and compiling fail."""
        try:
            loss = self._gradients(step, batches, n_targets)
        except torch.OutOfMemoryError:
            # With many processes a trial would need them all, and not all may be here: half is a guess.
            fits = largest_that_fits(self.model, self._rows, self.machine) if parallel.world() == 1 else self._rows // 2
            raise too_large(self._rows, fits, self.machine) from None
        except Exception as error:
            if self._call is self._module:
                raise
            reason = str(error).strip().partition("\n")[0]
            log.warning("torch.compile does not work here, so the training goes on without it (%s)", reason)
            self._call = self._module
            self.model.zero_grad(set_to_none=True)
            return self._first_gradients(step, batches, n_targets)
        self._proven = True
        return loss


def micro_steps(batch_size: int, world: int, at_once: int) -> int:
    """Into how many equal parts each of `world` processes cuts its share of a batch, so that none is over `at_once` (0: one).

    Raises GPTError if the processes' shares cannot be equal.
    """
    if batch_size % world:
        raise GPTError(f"batch_size {batch_size} cannot be shared equally by {world} processes: make it a multiple")
    share = batch_size // world
    return next(n for n in range(1, share + 1) if share % n == 0 and (not at_once or share // n <= at_once))


def _dropout_seed(seed: int, step: int, part: int) -> int:
    return int(np.random.SeedSequence((seed, step, part)).generate_state(1, np.uint64)[0])
