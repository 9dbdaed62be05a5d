"""The next token's logits from the keys and values of the tokens before it, which are kept instead of computed again.

Notable:
- the result is that of `GPT.forward` for the last position of each row (tested for every kind of position)
- rows of unequal length stand side by side: each begins at slot 0 and has its own position, and no padding is attended to
- memory grows by doubling and is kept; a step writes its keys and values into it and copies nothing else
- a token costs reading all weights once; on a CPU they are laid out for oneDNN beforehand (`PackedLinear`)

Shapes: R rows, C = n_embd, H heads of D, K heads of keys and values, G = H / K, V = vocab_size, S slots.
"""

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.model.transformer import GPT, Block, attend

LAYOUT_ROWS = 64  # rows that weights are laid out for: see PackedLinear


class KVCache:
    """Keys and values of R texts, each of at most T tokens. Rows are numbered from 0; R grows with them.

    To be used under torch.inference_mode, with a model in eval mode that does not change meanwhile. It attends to no memory.
    """

    def __init__(self, model: GPT):
        config, device = model.config, model.tokens.weight.device
        self.model, self.device = model, device
        self.lengths: list[int] = []  # tokens of each row
        empty = (config.n_layer, 0, config.kv_heads, 0, config.head_size)
        self.keys, self.values = torch.zeros(empty, device=device), torch.zeros(empty, device=device)
        shared = {id(parameter): parameter for parameter in model.parameters()}
        self.blocks: list[Block] = [copy.deepcopy(block, dict(shared)) for block in model.blocks]
        for block in self.blocks:
            _speed_up(block)
        self.head = PackedLinear(model.head_weight_VC, None)

    def remove(self, row: int) -> None:
        """Forget a row; the last one takes its place."""
        last, length = len(self.lengths) - 1, self.lengths.pop()
        if row < last:
            self.lengths[row] = length
            for kept in (self.keys, self.values):
                kept[:, row, :, :length] = kept[:, last, :, :length]

    def prefill(self, rows: Sequence[int], contexts: Sequence[Sequence[int]]) -> None:
        """Replace what these rows hold, or begin them with, by these tokens, at most T - 1 each. Equal contexts are computed
        once."""
        distinct = list(dict.fromkeys(map(tuple, contexts)))
        which = [distinct.index(tuple(context)) for context in contexts]
        T, model = max(map(len, distinct)), self.model
        self.lengths += [0] * (max(rows) + 1 - len(self.lengths))
        for row, context in zip(rows, contexts, strict=True):
            self.lengths[row] = len(context)
        if T == 0:
            return
        self._reserve(T)
        # Padding is at the end, where no token of a causal model attends to it.
        padded = [[*context, *[0] * (T - len(context))] for context in distinct]
        x_BTC = model.embed(torch.tensor(padded, device=self.device), slice(T))
        for layer, block in enumerate(model.blocks):
            q, k, v = block.attention.project(block.attention_norm(x_BTC), model.rotary(slice(T)))
            self.keys[layer, rows, :, :T], self.values[layer, rows, :, :T] = k[which], v[which]
            x_BTC = x_BTC + block.attention.out(attend(q, k, v, is_causal=True))
            x_BTC = x_BTC + block.feed_forward(block.feed_forward_norm(x_BTC))

    def step(self, tokens_R: Tensor) -> Tensor:
        """Append one token to every row, int64 (R,). Returns the logits of the next, (R, V)."""
        R, longest = len(self.lengths), max(self.lengths)
        self._reserve(longest + 1)
        slot: int | Tensor = longest
        position: int | Tensor = longest
        mask: Tensor | None = None
        if longest > min(self.lengths):
            slot = torch.tensor(self.lengths, device=tokens_R.device)
            position = slot[:, None, None]
            is_empty_RS = torch.arange(longest + 1, device=tokens_R.device) > slot[:, None]
            mask_RS = torch.zeros(is_empty_RS.shape, device=tokens_R.device).masked_fill_(is_empty_RS, -math.inf)
            mask = mask_RS[:, None, None]
        row = slice(R) if mask is None else torch.arange(R, device=tokens_R.device)
        x_R1C = self.model.embed(tokens_R, slot)[:, None]
        rotary = self.model.rotary(position)
        for block, keys, values in zip(self.blocks, self.keys, self.values, strict=True):
            q_RH1D, k_RK1D, v_RK1D = block.attention.project(block.attention_norm(x_R1C), rotary)
            keys[row, :, slot], values[row, :, slot] = k_RK1D[:, :, 0], v_RK1D[:, :, 0]
            q_RKGD = q_RH1D.view(len(q_RH1D), keys.shape[1], -1, keys.shape[3])  # heads that share keys: one product
            k_RKSD, v_RKSD = keys[:R, :, : longest + 1], values[:R, :, : longest + 1]
            y_RKGD = F.scaled_dot_product_attention(q_RKGD, k_RKSD, v_RKSD, mask)
            x_R1C = x_R1C + block.attention.out(y_RKGD.reshape(R, 1, -1))
            x_R1C = x_R1C + block.feed_forward(block.feed_forward_norm(x_R1C))
        self.lengths = [length + 1 for length in self.lengths]
        logits_R1V: Tensor = self.head(self.model.norm(x_R1C))
        return logits_R1V[:, 0]

    def _reserve(self, length: int) -> None:
        """Make room for all rows and so many tokens each."""
        for axis, wanted, most in ((1, len(self.lengths), math.inf), (3, length, self.model.config.block_size)):
            have = self.keys.shape[axis]
            if wanted > have:
                shape = list(self.keys.shape)
                shape[axis] = int(min(max(wanted, 2 * have), most)) - have
                # Zeros: a masked value is multiplied by a weight of zero, and must not be infinite or no number.
                more = self.keys.new_zeros(shape)
                self.keys, self.values = (torch.cat((kept, more), axis) for kept in (self.keys, self.values))


class PackedLinear(nn.Module):
    """x W^T + b, for a few rows at a time.

    On a CPU with oneDNN, W is laid out anew for it, as torch's own compiler does: 6 layers of C 384 on 2 cores took 1.9 ms
    instead of 2.8 ms for one row, 4.1 ms instead of 7.5 ms for 16 (AVX-512). For one row, the layout for many is quicker than
    its own: 2.6 ms instead of 3.1 ms (AVX2).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__()
        has_onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
        has_onednn = has_onednn and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        self.is_packed = has_onednn and weight.device.type == "cpu" and weight.dtype == torch.float32
        if self.is_packed:
            weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), LAYOUT_ROWS)
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        if not self.is_packed:
            return F.linear(x, self.weight, self.bias)
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return y


class FastRMSNorm(nn.Module):
    """RMSNorm in three operations: 6 us instead of 14 us for one token's 384 numbers, two dozen times a token."""

    def __init__(self, weight: Tensor, eps: float):
        super().__init__()
        self.weight = weight.detach() * math.sqrt(weight.numel())
        self.floor = torch.tensor(math.sqrt(weight.numel() * eps), device=weight.device)

    def forward(self, x: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).hypot(self.floor)  # sqrt(sum of x^2 + size * eps)
        y: Tensor = x * (self.weight / length)
        return y


def _speed_up(module: nn.Module) -> None:
    """Replace layers of the module by those above."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, PackedLinear(child.weight, child.bias))
        elif isinstance(child, nn.RMSNorm):
            setattr(module, name, FastRMSNorm(child.weight, child.eps or 0.0))
        else:
            _speed_up(child)
