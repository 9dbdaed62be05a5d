"""Detects a training that goes wrong: losses that are not finite, and losses that have jumped and stay up.

Losses and gradient norms stay on the device until `first_bad` is called, because reading each would make a GPU wait. The
verdict on a step depends on the steps before it alone, not on when it is asked for.
"""

import math
import statistics
from collections import deque

import torch
from torch import Tensor

HISTORY = 100  # losses that define the usual
RECENT = 5  # losses whose median must stand out: one odd batch is no spike
DEVIATIONS = 6.0  # the median must be above the usual by so many standard deviations (estimated robustly),
JUMP = 0.2  # and by at least so many nats
SKIPPED_BEFORE = 8  # a spike shows some updates after its cause, so as many batches before it are left out as well
APART = 1000  # steps: if trouble comes back within so many, the data is not the cause


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
