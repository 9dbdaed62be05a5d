"""GPT: token embedding, positions, N blocks of causal self-attention and feed-forward, and a linear head.

Notable:
- every part that papers disagree on is an option of `ModelConfig`; GPT-2 and a modern decoder are two settings of one class
- pre-norm residual branches; attention by torch's scaled_dot_product_attention (a flash kernel where there is one)
- cross-attention to a memory (an encoder's output) is a branch that changes nothing until it is trained
- `init_weights` explains the initial value of every tensor in one place

Shapes: B sequences, T tokens, C = n_embd, H heads of D (C / H), K heads of keys and values, F = width of the feed-forward
layer, V = vocab_size, S positions of the memory.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gpt import GPTError
from gpt.config import ModelConfig
from gpt.model import cpu_kernels
from gpt.model.loss import cross_entropy
from gpt.model.positions import document_mask, rotate, rotations, sinusoids

EPS = 1e-6  # of RMSNorm, where the config has none
Rotary = tuple[Tensor, Tensor]  # cos_TD and sin_TD, or one row of each for every sequence


class GPT(nn.Module):
    """A decoder-only transformer.

    recompute: compute the activations of blocks again in the backward pass (Chen 2016). It changes no number, so it
    is no part of the config.
    """

    recompute = False
    sines_TC: Tensor
    cos_TD: Tensor
    sin_TD: Tensor

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.n_embd)
        if config.positions == "learned":
            self.positions = nn.Embedding(config.block_size, config.n_embd)
        elif config.positions == "sinusoidal":
            self.register_buffer("sines_TC", sinusoids(config.block_size, config.n_embd), persistent=False)
        else:
            cos_TD, sin_TD = rotations(config.block_size, config.head_size, config.rope_theta or 10_000.0)
            self.register_buffer("cos_TD", cos_TD, persistent=False)
            self.register_buffer("sin_TD", sin_TD, persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        # A ModuleList does not say what it is a list of.
        self.blocks: Sequence[Block] = nn.ModuleList(Block(config) for _ in range(config.n_layer))  # type: ignore[assignment]
        self.norm = normalization(config)
        if not config.tied:
            self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.init_weights()

    @property
    def head_weight_VC(self) -> Tensor:
        """The matrix that turns hidden states into logits; with tied weights, the token embedding."""
        return self.tokens.weight if self.config.tied else self.head.weight

    @property
    def n_parameters(self) -> int:
        """Number of trained values; a tied matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def flops_per_token(self) -> int:
        """Forward and backward: 6 per weight in a product (4 if it is not trained), and 12 L C T for attention (PaLM, Chowdhery
        2022, app. B)."""
        config = self.config
        weights = [self.head_weight_VC, *(parameter for block in self.blocks for parameter in block.parameters())]
        in_products = sum((6 if weight.requires_grad else 4) * weight.numel() for weight in weights)
        return in_products + 12 * config.n_layer * config.n_head * config.head_size * config.block_size

    @torch.no_grad()
    def init_weights(self) -> None:
        """Set every tensor's initial value, drawn from torch's global random generator.

        tokens, positions       normal, std 0.02 (GPT-2): with a tied head, logits start small and the loss at ln(V)
        head (not tied)         normal, std 0.001: the loss starts at ln(V) whatever the width
        matrices in blocks      normal, std 1/sqrt(fan in): a unit-variance input keeps its variance
        ... back into the       zero with zero_init (every block starts as the identity); else the std above divided by
            residual stream     sqrt(2 N), as in GPT-2: the stream's variance does not grow with its 2 N branches
            from the memory     always zero
        biases                  zero
        norm weights            one; LayerNorm biases zero (torch's own defaults)
        """
        nn.init.normal_(self.tokens.weight, std=0.02)
        if self.config.positions == "learned":
            nn.init.normal_(self.positions.weight, std=0.02)
        if not self.config.tied:
            nn.init.normal_(self.head.weight, std=0.001)
        for block in self.blocks:
            for linear in (module for module in block.modules() if isinstance(module, nn.Linear)):
                std = linear.in_features**-0.5
                if linear in (block.attention.out, block.feed_forward.down):
                    std = 0.0 if self.config.zero_init else std / math.sqrt(2 * self.config.n_layer)
                nn.init.normal_(linear.weight, std=std)
                if linear.bias is not None:
                    nn.init.zeros_(linear.bias)
            if self.config.cross_attention:
                nn.init.zeros_(block.cross_attention.out.weight)

    def forward(self, ids_BT: Tensor, documents_BT: Tensor | None = None, **memory: Tensor) -> Tensor:
        """Logits of the token after each position.

        ids_BT: int64 in 0..V-1, T at most block_size.
        documents_BT: a number for each position, equal within a document. If given, a position attends to its own document only
        and is counted from that document's beginning, as if each document stood in a row of its own.
        memory_BSC: what the cross-attention attends to; without it, that branch is left out.
        memory_mask_BS: bool, true where the memory may be attended to (by default everywhere); a row without a true gets
        nothing from it.
        Returns logits_BTV in the dtype of computation. Raises GPTError if T is over block_size, or if the model has no
        cross-attention for the memory.
        """
        return F.linear(self.hidden(ids_BT, documents_BT, **memory), self.head_weight_VC)

    def loss(
        self, ids_BT: Tensor, targets_BT: Tensor, documents_BT: Tensor | None = None, reduction: str = "mean", **memory: Tensor,
    ) -> Tensor:  # fmt: skip
        """Cross-entropy in nats, float32, of the targets that are not IGNORE. documents_BT, memory: see `forward`.

        reduction: "mean", "sum", or "none" for one value a target: flat (B*T,), 0 where IGNORE. The logits of a batch are never
        held all at once (see `gpt.model.loss`).
        """
        x_BTC = self.hidden(ids_BT, documents_BT, **memory)
        return cross_entropy(x_BTC.flatten(0, 1), self.head_weight_VC, targets_BT.flatten(), reduction)

    def hidden(
        self, ids_BT: Tensor, documents_BT: Tensor | None = None, memory_BSC: Tensor | None = None,
        memory_mask_BS: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """The head's input: the last block's output, normalized, (B, T, C). Arguments: see `forward`."""
        T = ids_BT.shape[1]
        if self.config.block_size < T:
            raise GPTError(f"{T} tokens of context are more than this model's block size {self.config.block_size}")
        if memory_BSC is not None and not self.config.cross_attention:
            raise GPTError("this model has no attention to a memory: build it with cross_attention = true")
        mask_B1TT, position = (None, slice(T)) if documents_BT is None else document_mask(documents_BT)
        memory_mask_B11S = None if memory_mask_BS is None else memory_mask_BS[:, None, None]
        x_BTC: Tensor = self.dropout(self.embed(ids_BT, position))
        rotary = self.rotary(slice(T))  # only distances count in it: no need to count from a document's beginning
        recompute = self.recompute and torch.is_grad_enabled()
        for block in self.blocks:
            inputs = (x_BTC, rotary, mask_B1TT, memory_BSC, memory_mask_B11S)
            x_BTC = checkpoint(block, *inputs, use_reentrant=False) if recompute else block(*inputs)
        return self.norm(x_BTC)

    def embed(self, ids_BT: Tensor, position: Tensor | slice | int) -> Tensor:
        """The first block's input, (B, T, C). position: of each token in its text; an index into the tables of positions."""
        x_BTC: Tensor = self.tokens(ids_BT)
        if self.config.positions == "learned":
            x_BTC = x_BTC + self.positions.weight[position]
        elif self.config.positions == "sinusoidal":
            x_BTC = x_BTC * math.sqrt(self.config.n_embd) + self.sines_TC[position]  # Vaswani 2017, 3.4 and 3.5
        return F.rms_norm(x_BTC, x_BTC.shape[-1:], eps=EPS) if self.config.embedding_norm else x_BTC

    def rotary(self, position: Tensor | slice | int) -> Rotary | None:
        """Cosines and sines that rotate queries and keys at these positions; None for other kinds of position."""
        return (self.cos_TD[position], self.sin_TD[position]) if self.config.positions == "rotary" else None


class Block(nn.Module):
    """x + attention(norm(x)), then (with a memory) + cross_attention(norm(x), memory), then + feed_forward(norm(x))."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.attention_norm = normalization(config)
        self.attention = SelfAttention(config)
        if config.cross_attention:
            self.cross_attention_norm = normalization(config)
            self.cross_attention = CrossAttention(config)
        self.feed_forward_norm = normalization(config)
        self.feed_forward = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x_BTC: Tensor, rotary: Rotary | None = None, mask_B1TT: Tensor | None = None,
        memory_BSC: Tensor | None = None, memory_mask_B11S: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        x_BTC = x_BTC + self.dropout(self.attention(self.attention_norm(x_BTC), rotary, mask_B1TT))
        if memory_BSC is not None:
            normed_BTC = self.cross_attention_norm(x_BTC)
            x_BTC = x_BTC + self.dropout(self.cross_attention(normed_BTC, memory_BSC, memory_mask_B11S))
        return x_BTC + self.dropout(self.feed_forward(self.feed_forward_norm(x_BTC)))


class SelfAttention(nn.Module):
    """Causal multi-head self-attention; H / K heads of queries share each head of keys and values.

    Dropout is at the branch's end only: on attention weights it would rule out the flash kernel on CPU.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.head_size, self.heads = config.head_size, (config.n_head, config.kv_heads, config.kv_heads)
        self.qkv = nn.Linear(config.n_embd, sum(self.heads) * config.head_size, bias=config.bias)
        self.out = nn.Linear(config.n_head * config.head_size, config.n_embd, bias=config.bias)
        # With a weight: unit queries and keys alone could not score above sqrt(D), too flat for narrow heads.
        self.q_norm = RMSNorm(config.head_size, eps=config.norm_eps or EPS) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(config.head_size, eps=config.norm_eps or EPS) if config.qk_norm else nn.Identity()

    def forward(self, x_BTC: Tensor, rotary: Rotary | None = None, mask_B1TT: Tensor | None = None) -> Tensor:
        q_BHTD, k_BKTD, v_BKTD = self.project(x_BTC, rotary)
        return self.out(attend(q_BHTD, k_BKTD, v_BKTD, mask_B1TT, is_causal=mask_B1TT is None))

    def project(self, x_BTC: Tensor, rotary: Rotary | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, T, D), keys and values (B, K, T, D), the first two normalized and rotated."""
        qkv_BHTD = self.qkv(x_BTC).unflatten(2, (-1, self.head_size)).transpose(1, 2)
        q_BHTD, k_BKTD, v_BKTD = qkv_BHTD.split(self.heads, dim=1)
        q_BHTD, k_BKTD = self.q_norm(q_BHTD), self.k_norm(k_BKTD)
        if rotary is not None:
            q_BHTD, k_BKTD = rotate(q_BHTD, *rotary), rotate(k_BKTD, *rotary)
        return q_BHTD, k_BKTD, v_BKTD


class CrossAttention(nn.Module):
    """Encoder-decoder attention: queries from the text, keys and values from the whole memory, without positions."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.head_size = config.head_size
        self.q = nn.Linear(config.n_embd, config.n_head * config.head_size, bias=config.bias)
        self.kv = nn.Linear(config.n_embd, 2 * config.kv_heads * config.head_size, bias=config.bias)
        self.out = nn.Linear(config.n_head * config.head_size, config.n_embd, bias=config.bias)
        self.q_norm = RMSNorm(config.head_size, eps=config.norm_eps or EPS) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(config.head_size, eps=config.norm_eps or EPS) if config.qk_norm else nn.Identity()

    def forward(self, x_BTC: Tensor, memory_BSC: Tensor, mask_B11S: Tensor | None = None) -> Tensor:
        q_BHTD = self.q(x_BTC).unflatten(2, (-1, self.head_size)).transpose(1, 2)
        k_BKSD, v_BKSD = self.kv(memory_BSC).unflatten(2, (-1, self.head_size)).transpose(1, 2).chunk(2, dim=1)
        seen_BTC = attend(self.q_norm(q_BHTD), self.k_norm(k_BKSD), v_BKSD, mask_B11S)
        if mask_B11S is not None:  # kernels differ in what a softmax over nothing gives
            seen_BTC = seen_BTC.where(mask_B11S.any(-1), 0)
        return self.out(seen_BTC)


def attend(
    q_BHTD: Tensor, k_BKSD: Tensor, v_BKSD: Tensor, mask: Tensor | None = None, is_causal: bool = False
) -> Tensor:
    """softmax(q k^T / sqrt(D)) v, the heads joined again: (B, T, C). mask: bool, true where a key may be attended to."""
    grouped = q_BHTD.shape[1] != k_BKSD.shape[1]
    y_BHTD = F.scaled_dot_product_attention(q_BHTD, k_BKSD, v_BKSD, mask, is_causal=is_causal, enable_gqa=grouped)
    return y_BHTD.transpose(1, 2).flatten(2)


class FeedForward(nn.Module):
    """C -> 4C -> C with GELU or squared ReLU (So 2021); swiglu: down(silu(gate(x)) * up(x)), 8C/3 wide (Shazeer 2020)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.kind = config.feed_forward
        if self.kind == "swiglu":
            self.gate = nn.Linear(config.n_embd, config.feed_forward_size, bias=config.bias)
        self.up = nn.Linear(config.n_embd, config.feed_forward_size, bias=config.bias)
        self.down = nn.Linear(config.feed_forward_size, config.n_embd, bias=config.bias)

    def forward(self, x_BTC: Tensor) -> Tensor:
        up_BTF = self.up(x_BTC)
        if self.kind == "swiglu":
            up_BTF = F.silu(self.gate(x_BTC)) * up_BTF
        elif self.kind == "relu2":
            up_BTF = F.relu(up_BTF).square()
        else:
            up_BTF = F.gelu(up_BTF, approximate="tanh")
        return self.down(up_BTF)


class RMSNorm(nn.RMSNorm):
    """x / RMS(x) times a weight, in the input's dtype: mixed with a float32 weight, bfloat16 has no fused kernel."""

    def forward(self, x: Tensor) -> Tensor:
        if cpu_kernels.pay(x):
            return cpu_kernels.RMSNormKernel.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)


def normalization(config: ModelConfig) -> nn.Module:
    """The norm that the configuration names, over the last axis (C)."""
    if config.norm == "layernorm":
        return nn.LayerNorm(config.n_embd, eps=config.norm_eps or 1e-5, bias=config.bias)
    return RMSNorm(config.n_embd, eps=config.norm_eps or EPS)
