"""Cross-entropy of a linear head, without ever holding all of its logits.

Notable:
- N positions times V tokens are by far the largest tensor of a training step; here they are made some rows at a time
- the gradient is computed while the rows' logits are there, so none is computed twice: 6 N V C operations, as without chunks
- on a GPU the head is padded to a multiple of 64 rows for the products alone: matrix units want whole tiles, while the
  parameters, their count and every checkpoint keep exactly V rows
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from gpt.data.dataset import IGNORE

# Logits at a time. CPU: past 2**26 a step of 50,257 tokens took up to twice as long (fresh pages); GPU: large products.
CHUNK = {"cpu": 2**26, "cuda": 2**28}
TILE = {"cuda": 64}  # the head is padded to a multiple of it


def cross_entropy(x_NC: Tensor, weight_VC: Tensor, targets_N: Tensor, reduction: str = "mean") -> Tensor:
    """Negative log-likelihood in nats, float32, of targets under softmax(x W^T); 0 where the target is IGNORE.

    x_NC: hidden states. weight_VC: the head. targets_N: int64, 0..V-1 or IGNORE.
    reduction: "mean" over the targets that are not IGNORE (0 if all are), "sum", or "none" for one value a row, (N,), which
    keeps all logits if a gradient is wanted.
    Products are in autocast's dtype if that is on, the softmax in float32.
    """
    device, V = x_NC.device.type, len(weight_VC)
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        x_NC, weight_VC = x_NC.to(dtype), weight_VC.to(dtype)
    rows = max(1, CHUNK.get(device, CHUNK["cpu"]) // V)
    if padding := -V % TILE.get(device, 1):
        weight_VC = F.pad(weight_VC, (0, 0, 0, padding))
    if reduction == "none":
        chunks = zip(torch.split(x_NC, rows), torch.split(targets_N, rows), strict=True)
        return torch.cat([_losses(_log_softmax(x, weight_VC, V), targets) for x, targets in chunks])
    total: Tensor = _SummedLoss.apply(x_NC, weight_VC, targets_N, V, rows)  # type: ignore[no-untyped-call]
    return total if reduction == "sum" else total / (targets_N != IGNORE).sum().clamp(min=1)


class _SummedLoss(torch.autograd.Function):
    """The sum of the losses. The forward pass computes the gradients of both inputs already; the backward pass scales them."""

    @staticmethod
    def forward(ctx: Any, x_NC: Tensor, weight_VC: Tensor, targets_N: Tensor, V: int, rows: int) -> Tensor:
        needs_gradient = any(ctx.needs_input_grad)
        x_grads: list[Tensor] = []
        weight_grad: Tensor | None = None
        total = torch.zeros((), device=x_NC.device)
        for x, targets in zip(torch.split(x_NC, rows), torch.split(targets_N, rows), strict=True):
            log_p = _log_softmax(x, weight_VC, V)
            total += _losses(log_p, targets).sum()
            if needs_gradient:
                is_target = (targets != IGNORE)[:, None]
                grad = log_p.exp_()  # of the logits: p - 1 at the target, p elsewhere
                grad.scatter_add_(1, targets.clamp(min=0)[:, None], -is_target.to(grad.dtype))
                grad = grad.mul_(is_target).to(x.dtype)
                x_grads.append(grad @ weight_VC)
                if ctx.needs_input_grad[1]:
                    part = (grad.T @ x).float()
                    weight_grad = part if weight_grad is None else weight_grad.add_(part)
        if needs_gradient:
            ctx.save_for_backward(torch.cat(x_grads), None if weight_grad is None else weight_grad.to(weight_VC.dtype))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        x_grad, weight_grad = ctx.saved_tensors
        of_weight = None if weight_grad is None else weight_grad * scale.to(weight_grad.dtype)
        return x_grad * scale.to(x_grad.dtype), of_weight, None, None, None


def _log_softmax(x_NC: Tensor, weight_VC: Tensor, V: int) -> Tensor:
    """Log-probabilities, float32, one column for each row of the head; -inf for those past V, which stand for no token."""
    logits = F.linear(x_NC, weight_VC).float()
    if len(weight_VC) > V:
        logits[:, V:] = float("-inf")
    return logits.log_softmax(1)


def _losses(log_p: Tensor, targets_N: Tensor) -> Tensor:
    return F.nll_loss(log_p, targets_N, ignore_index=IGNORE, reduction="none")
