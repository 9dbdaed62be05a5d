"""A GPT's arithmetic for one more token, over the keys and values that it keeps of those before.

Notable:
- what it gives is what `GPT.forward` gives for the last position of each row (tested for every kind of position)
- rows of unequal length stand side by side: each begins at slot 0 and has its own place, so no padding is ever attended to
- memory is taken once; a step writes its keys and values into it and copies nothing else
- a token costs reading all weights once; on a CPU they are laid out for oneDNN beforehand (`Packed`)

Shapes: R rows, C = n_embd, H heads of D, K heads of keys and values, G = H / K, V = vocab_size.
"""

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.model.transformer import GPT, attend

LAYOUT = 64  # rows that weights are laid out for when there is one


class Decoder:
    """R texts in the making, each of at most `length` tokens.

    To be used under torch.inference_mode, with a model in eval mode that does not change meanwhile. A memory is not looked at.
    """

    def __init__(self, model: GPT, rows: int, length: int):
        config, device = model.config, model.tokens.weight.device
        self.model = model
        self.lengths = [0] * rows
        """Tokens that each row holds."""
        shape = (config.n_layer, rows, config.kv_heads, min(length, config.block_size), config.head_size)
        # Zeros: what is masked is multiplied by a weight of zero, and zero times an arbitrary number could be no number.
        self.keys, self.values = torch.zeros(shape, device=device), torch.zeros(shape, device=device)
        shared = {id(parameter): parameter for parameter in model.parameters()}
        self.blocks = [packed(copy.deepcopy(block, dict(shared)), rows) for block in model.blocks]
        self.head = Packed(model.head_weight_VC, None, rows)
        self.row_R = torch.arange(rows, device=device)

    def read(self, rows: Sequence[int], contexts: Sequence[Sequence[int]]) -> None:
        """Put these tokens (at most length - 1) into these rows, in the place of what they held; equal ones are read once."""
        distinct = list(dict.fromkeys(map(tuple, contexts)))
        which = [distinct.index(tuple(context)) for context in contexts]
        T, model = max(map(len, distinct)), self.model
        for row, context in zip(rows, contexts, strict=True):
            self.lengths[row] = len(context)
        if T == 0:
            return
        # Padding stands at the end, where a causal model's tokens do not see it.
        padded = [[*context, *[0] * (T - len(context))] for context in distinct]
        x_BTC = model.embed(torch.tensor(padded, device=self.row_R.device), slice(T))
        for layer, block in enumerate(model.blocks):
            q, k, v = block.attention.project(block.attention_norm(x_BTC), model.rotary(slice(T)))
            self.keys[layer, rows, :, :T], self.values[layer, rows, :, :T] = k[which], v[which]
            x_BTC = x_BTC + block.attention.out(attend(q, k, v, is_causal=True))
            x_BTC = x_BTC + block.feed_forward(block.feed_forward_norm(x_BTC))

    def step(self, tokens_R: Tensor) -> Tensor:
        """Append one token to every row, int64 (R,). Returns the logits of the next, (R, V)."""
        longest, mask = max(self.lengths), None
        if longest == min(self.lengths):
            at = place = longest
        else:
            at = torch.tensor(self.lengths, device=tokens_R.device)
            place = at[:, None, None]
            unseen_RS = torch.arange(longest + 1, device=tokens_R.device) > at[:, None]
            mask = torch.zeros(unseen_RS.shape, device=tokens_R.device).masked_fill_(unseen_RS, -math.inf)[
                :, None, None
            ]
        x_R1C = self.model.embed(tokens_R, at)[:, None]
        rotary = self.model.rotary(place)
        for block, keys, values in zip(self.blocks, self.keys, self.values, strict=True):
            q_RH1D, k_RK1D, v_RK1D = block.attention.project(block.attention_norm(x_R1C), rotary)
            if mask is None:
                keys[:, :, at], values[:, :, at] = k_RK1D[:, :, 0], v_RK1D[:, :, 0]
            else:
                keys[self.row_R, :, at], values[self.row_R, :, at] = k_RK1D[:, :, 0], v_RK1D[:, :, 0]
            q_RKGD = q_RH1D.view(len(q_RH1D), keys.shape[1], -1, keys.shape[3])  # heads that share keys: one product
            y_RKGD = F.scaled_dot_product_attention(
                q_RKGD, keys[:, :, : longest + 1], values[:, :, : longest + 1], mask
            )
            x_R1C = x_R1C + block.attention.out(y_RKGD.reshape(x_R1C.shape))
            x_R1C = x_R1C + block.feed_forward(block.feed_forward_norm(x_R1C))
        self.lengths = [length + 1 for length in self.lengths]
        return self.head(self.model.norm(x_R1C))[:, 0]


class Packed(nn.Module):
    """x W^T + b, for R rows at a time.

    On a CPU with oneDNN, W is laid out anew for it, as torch's own compiler does: 6 layers of C 384 on 2 cores took 1.9 ms
    instead of 2.8 ms for one row, 4.1 ms instead of 7.5 ms for 16 (AVX-512). One row is better served by the layout for
    many than by its own: 2.6 ms instead of 3.1 ms (AVX2).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int):
        super().__init__()
        known = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        self.packs = known and weight.device.type == "cpu" and weight.dtype == torch.float32
        self.weight = (
            torch.ops.mkldnn._reorder_linear_weight(weight.detach(), LAYOUT if rows == 1 else rows)
            if self.packs
            else weight
        )
        self.bias = bias

    def forward(self, x: Tensor) -> Tensor:
        if self.packs:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return F.linear(x, self.weight, self.bias)


class QuickNorm(nn.Module):
    """RMSNorm in three operations: 6 us instead of 14 us for one token's 384 numbers, two dozen times a token."""

    def __init__(self, norm: nn.RMSNorm):
        super().__init__()
        size = norm.weight.numel()
        self.weight = norm.weight.detach() * math.sqrt(size)
        self.floor = torch.tensor(math.sqrt(size * norm.eps), device=norm.weight.device)

    def forward(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).hypot(
            self.floor
        )  # sqrt(sum of squares + size * eps)
        return x * (self.weight / length)


def packed(module: nn.Module, rows: int) -> nn.Module:
    """The module, its layers replaced by those above."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Packed(child.weight, child.bias, rows))
        else:
            setattr(module, name, QuickNorm(child) if isinstance(child, nn.RMSNorm) else packed(child, rows))
    return module
