"""Detects a training that goes wrong: losses that are not finite, or have jumped and stay up; held-out text that gets worse.

Losses and gradient norms stay on the device until `first_bad` is called, because reading each would make a GPU wait. The
verdict on a step depends on the steps before it alone, not on when it is asked for.
"""

import math
import statistics
from collections import deque
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from gpt.config import TrainConfig
from gpt.trainer.schedule import lr_ratio

HISTORY = 100  # losses that define the usual
RECENT = 5  # losses whose median must stand out: one odd batch is no spike
DEVIATIONS = 6.0  # the median must be above the usual by so many standard deviations (estimated robustly),
JUMP = 0.2  # and by at least so many nats
SKIPPED_BEFORE = 8  # a spike shows some updates after its cause, so as many batches before it are left out as well
APART = 1000  # steps: if trouble comes back within so many, the data is not the cause
OVERFITTED = (
    1.05  # bits per byte on the best ones: 3 % were made good again before the learning rate fell (docs/log.md)
)
FALLING = 0.9  # of the peak learning rate: from there on a model should improve at every evaluation
LEAST_SHARE = 0.1  # of all steps, without a better evaluation, before a run stops early


class LossMonitor:
    """Records each step's loss and gradient norm, and finds the first bad step."""

    def __init__(self, losses: list[float] | None = None):
        self._losses: deque[float] = deque(losses or (), HISTORY + RECENT)
        self._unread: list[tuple[int, Tensor]] = []

    def record(self, step: int, loss: Tensor, grad_norm: Tensor) -> None:
        """Add update number `step` (from 0); both tensors are 0-D, on the device."""
        self._unread.append((step, torch.stack((loss, grad_norm))))

    def first_bad(self) -> tuple[int, str] | None:
        """The first bad update since the last call, and what is wrong with it, as a clause; None if all are good."""
        if not self._unread:
            return None
        values = torch.stack([pair for _, pair in self._unread]).tolist()
        unread, self._unread = self._unread, []
        for (step, _), (loss, grad_norm) in zip(unread, values, strict=True):
            for name, value in (("loss", loss), ("gradient norm", grad_norm)):
                if not math.isfinite(value):
                    return step, f"the {name} is not a finite number"
            self._losses.append(loss)
            before, recent = list(self._losses)[:-RECENT], list(self._losses)[-RECENT:]
            if len(before) == HISTORY:
                usual, now = statistics.median(before), statistics.median(recent)
                deviation = 1.4826 * statistics.median(abs(loss - usual) for loss in before)  # sigma, if normal
                if now > usual + max(JUMP, DEVIATIONS * deviation):
                    return step, f"the loss has jumped from {usual:.3f} to {now:.3f}"
        return None

    def losses(self) -> list[float]:
        """The history that a resumed run needs, as JSON; only when nothing is unread."""
        assert not self._unread
        return list(self._losses)


def worse_in_a_row(evaluations: list[dict[str, Any]], best: dict[str, Any], config: TrainConfig) -> int:
    """How many of the latest evaluations count against the run: those behind the best one while the learning rate falls, or
    where it never does; clearly over-fitted ones twice, and before it falls as well."""
    falling = max(FALLING, lr_ratio(config.steps - 1, config))

    def counts(found: dict[str, Any]) -> int:
        overfitted = found["bpb"] > OVERFITTED * best["bpb"] and found["train_loss"] < best["train_loss"]
        falls = found["step"] > config.warmup_steps and lr_ratio(found["step"] - 1, config) <= falling
        return 0 if found["step"] <= best["step"] else 2 if overfitted else int(falls)

    return sum(takewhile(bool, map(counts, reversed(evaluations))))


def stops_early(evaluations: list[dict[str, Any]], best: dict[str, Any], config: TrainConfig) -> bool:
    """Whether a run has got no better for so long that it ends here."""
    enough = evaluations[-1]["step"] - best["step"] >= LEAST_SHARE * config.steps
    return enough and 0 < config.patience <= worse_in_a_row(evaluations, best, config)


def advice(now: dict[str, Any], best: dict[str, Any]) -> str:
    """What went wrong since the best evaluation, and what to change, in one line."""
    had, has = (f"{found['bpb']:.3f} bits per byte at step {found['step']:,}" for found in (best, now))
    seen, change = f"held-out text had {had}, and has {has}", f"fewer steps (train.steps={best['step']})"
    if now["train_loss"] >= best["train_loss"]:
        return f"{seen}; try {change} or lower learning rates (train.lr, train.matrix_lr)"
    losses = f"from {best['train_loss']:.2f} to {now['train_loss']:.2f}"
    cause = f"while the training loss fell {losses}: the model learns its text by heart"
    return f"{seen}, {cause}; try {change}, more dropout (model.dropout=0.2), a smaller model or more text"
