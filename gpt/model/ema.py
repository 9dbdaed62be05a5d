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
        self._decay = decay
        self._names = [name for name, _ in model.named_parameters()]
        self._weights: list[Tensor] = list(model.parameters())
        self._average = [weight.detach().clone() for weight in self._weights]

    @torch.no_grad()
    def update(self, n: int) -> None:
        """Add the weights after `n` updates (from 1) to the average."""
        decay = min(self._decay, (1 + n) / (10 + n))
        torch._foreach_lerp_(self._average, self._weights, 1 - decay)

    def tensors(self) -> dict[str, Tensor]:
        """The average itself, by parameter name."""
        return dict(zip(self._names, self._average, strict=True))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the model has the average as its weights; afterwards its own again, bit for bit."""
        own = [weight.detach().clone() for weight in self._weights]
        self._copy(self._average)
        try:
            yield
        finally:
            self._copy(own)

    @torch.no_grad()
    def _copy(self, values: list[Tensor]) -> None:
        for weight, value in zip(self._weights, values, strict=True):
            weight.copy_(value)
