"""An exponential moving average of the weights: less noisy than the last of them, at no cost in steps (Polyak 1992)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class EMA:
    """average <- d average + (1 - d) weights after each update, where d rises to `decay`.

    d = min(decay, (1 + n) / (10 + n)) after n updates: the first weights, far from any good ones, soon lose their part, and the
    average is always over about the last tenth of the run, until that is longer than 1 / (1 - decay) updates.
    """

    def __init__(self, model: nn.Module, decay: float):
        self._decay, self._weights = decay, dict(model.named_parameters())
        self.average = self._copied()  # by parameter name

    @torch.no_grad()
    def update(self, n: int) -> None:
        """Add the weights after `n` updates (from 1) to the average."""
        decay = min(self._decay, (1 + n) / (10 + n))
        torch._foreach_lerp_([*self.average.values()], [*self._weights.values()], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the model has the average as its weights; afterwards its own again, bit for bit."""
        own = self._copied()
        self._load(self.average)
        try:
            yield
        finally:
            self._load(own)

    def _copied(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def _load(self, values: dict[str, Tensor]) -> None:
        for name, weight in self._weights.items():
            weight.copy_(values[name])
