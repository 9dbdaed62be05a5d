"""Is the training still sound? Losses that are no numbers, and losses that have jumped and stay up.

Losses and gradient norms stay on the device until someone asks, because reading each would stall a GPU. The verdict on a step
depends on the steps before it alone, not on when it is asked for.
"""

import math
import statistics
from collections import deque

import torch
from torch import Tensor

BEFORE = 100  # losses that say what is usual
RECENT = 5  # losses whose median must stand out: one odd batch is no spike
DEVIATIONS = 6.0  # by so many the median must be above the usual; a deviation is that of most losses, odd ones aside
JUMP = 0.2  # nats, and at least by that
SKIPPED_BEFORE = 8  # a spike shows some updates after its cause: as many batches before it are left out as well
APART = 1000  # steps: trouble again within so many is not the data's


class Watch:
    """Notes each step's loss and gradient norm, and finds the first bad one."""

    def __init__(self, losses: list[float] | None = None):
        self._losses: deque[float] = deque(losses or (), BEFORE + RECENT)
        self._unread: list[tuple[int, Tensor]] = []

    def note(self, step: int, loss: Tensor, grad_norm: Tensor) -> None:
        """Of update number `step` (from 0); both are 0-D, on the device."""
        self._unread.append((step, torch.stack((loss, grad_norm))))

    def first_bad(self) -> tuple[int, str] | None:
        """The first unsound update since the last look, and what is wrong with it, as a clause; None if all is well."""
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
            if len(before) == BEFORE:
                usual, now = statistics.median(before), statistics.median(recent)
                deviation = 1.4826 * statistics.median(abs(loss - usual) for loss in before)  # sigma, were they normal
                if now > usual + max(JUMP, DEVIATIONS * deviation):
                    return step, f"the loss has jumped from {usual:.3f} to {now:.3f}"
        return None

    def losses(self) -> list[float]:
        """What a resumed run must know, as JSON; only when nothing is unread."""
        assert not self._unread
        return list(self._losses)
