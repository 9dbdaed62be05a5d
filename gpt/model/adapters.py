"""Low-rank adapters (LoRA, Hu 2021): the matrices W of a trained model stay as they are; of W + (alpha / rank) B A only A and B
are trained, which for rank 8 and C 768 is one percent of the numbers.

A is random and B zero, so that the first step starts from the model itself.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.config import Start
from gpt.model.transformer import GPT


class Adapted(nn.Module):
    """A linear layer with an adapter. Shapes: x (..., in), A (rank, in), B (out, rank)."""

    def __init__(self, linear: nn.Linear, start: Start):
        super().__init__()
        self.linear, self.scale = linear, start.alpha / start.rank
        self.A = nn.Parameter(torch.randn(start.rank, linear.in_features) * linear.in_features**-0.5)
        self.B = nn.Parameter(torch.zeros(linear.out_features, start.rank))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x) + F.linear(F.linear(x, self.A * self.scale), self.B)
        return y


def adapt(model: GPT, start: Start) -> None:
    """Give adapters to the matrices of blocks that `start` names; nothing else is trained from now on. Their random numbers are
    torch's own."""
    model.requires_grad_(False)
    for block in model.blocks:
        for branch, module in block.named_children():
            for name, layer in list(module.named_children()):
                if isinstance(layer, nn.Linear) and start.matrices in ("all", branch):
                    setattr(module, name, Adapted(layer, start))


def trained(model: GPT) -> dict[str, nn.Parameter]:
    """The parameters that are trained: all, or those of the adapters."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


@torch.no_grad()
def merged(model: GPT) -> dict[str, Tensor]:
    """The weights by name as a model without adapters has them, with the same logits. The model itself stays as it is."""
    weights: dict[str, Tensor] = model.state_dict()
    for name, layer in model.named_modules():
        if isinstance(layer, Adapted):
            change = weights.pop(f"{name}.B") @ weights.pop(f"{name}.A")
            weights[f"{name}.weight"] = weights.pop(f"{name}.linear.weight") + change * layer.scale
            if layer.linear.bias is not None:
                weights[f"{name}.bias"] = weights.pop(f"{name}.linear.bias")
    return weights
