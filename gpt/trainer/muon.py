"""Muon: momentum whose update is made orthogonal, so that every direction of a matrix moves equally (Jordan 2024).

The arithmetic is that of torch.optim.Muon(adjust_lr_fn="match_rms_adamw"), which is not used for two reasons: it always works
in bfloat16, so that a CPU without bfloat16 instructions needs 578 ms a step instead of 16 for a model of a million parameters
(measured with AVX2); and it updates one matrix at a time, where matrices of one shape can share a batched product.
"""

import itertools
import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gpt.machine.parallel import full, shard_like

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # quintic whose iteration drives every singular value to about 1
NEWTON_SCHULZ_STEPS = 5


class Muon(torch.optim.Optimizer):
    """For 2-D parameters other than embeddings and the head. lr is on AdamW's scale; weight decay is decoupled."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.1, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        assert all(p.ndim == 2 for group in self.param_groups for p in group["params"])

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            trained = sorted((p for p in group["params"] if p.grad is not None), key=lambda p: tuple(p.shape))
            for _, same in itertools.groupby(trained, key=lambda p: tuple(p.shape)):
                self._update(list(same), group["lr"], group["weight_decay"], group["momentum"])

    def _update(self, params: list[Tensor], lr: float, weight_decay: float, momentum: float) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        grads = [p.grad for p in params if p.grad is not None]  # all of them
        buffers = [self.state[p]["momentum_buffer"] for p in params]
        torch._foreach_lerp_(buffers, grads, 1 - momentum)
        ahead = torch._foreach_lerp(grads, buffers, momentum)  # Nesterov
        # A sharded matrix is gathered first: making its shards orthogonal would be another, worse update.
        orthogonal = orthogonalize(torch.stack([full(matrix) for matrix in ahead])).to(params[0].dtype)
        updates = [shard_like(p, update) for p, update in zip(params, orthogonal, strict=True)]
        torch._foreach_mul_(params, 1 - lr * weight_decay)
        # An orthogonal matrix has entries of RMS 1/sqrt(longer side); AdamW's updates have about 0.2 (Liu 2025, Moonlight).
        torch._foreach_add_(params, updates, alpha=-lr * 0.2 * math.sqrt(max(params[0].shape)))


def orthogonalize(x_NRC: Tensor) -> Tensor:
    """For N matrices at once, the nearest ones with singular values of about 1; in bfloat16 on a GPU, else in float32."""
    a, b, c = NEWTON_SCHULZ
    wide = x_NRC.shape[1] <= x_NRC.shape[2]
    x = (x_NRC if wide else x_NRC.mT).to(torch.bfloat16 if x_NRC.is_cuda else torch.float32)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)  # singular values at most 1, where the iteration converges
    if x.dtype == torch.float32 and x.shape[2] > x.shape[1]:
        x = _polynomial(x @ x.mT) @ x
    else:
        for _ in range(NEWTON_SCHULZ_STEPS):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT


def _polynomial(gram_NRR: Tensor) -> Tensor:
    """The polynomial in x x^T by which the whole iteration multiplies x.

    All its products are as small as the short side, which is 0.55 of the work for a matrix of 128 x 512. It needs float32: the
    Gram matrix squares the singular values, whose differences bfloat16 would lose.
    """
    a, b, c = NEWTON_SCHULZ
    for step in range(NEWTON_SCHULZ_STEPS):
        p = torch.baddbmm(gram_NRR, gram_NRR, gram_NRR, beta=b, alpha=c)  # without the term a times the identity
        if step == 0:
            product = p.clone()
            product.diagonal(dim1=1, dim2=2).add_(a)
        else:
            product = torch.baddbmm(product, p, product, beta=a)
        if step < NEWTON_SCHULZ_STEPS - 1:
            half = torch.baddbmm(gram_NRR, p, gram_NRR, beta=a)
            gram_NRR = torch.baddbmm(half, p, half, beta=a)
    return product
