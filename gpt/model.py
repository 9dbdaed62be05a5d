"""GPT: token embedding, positions, N blocks of causal self-attention and feed-forward, and a linear head.

Notable:
- every part that papers disagree on is an option of `ModelConfig`; GPT-2 and a modern decoder are two settings of one class
- pre-norm residual branches; attention through torch's scaled_dot_product_attention (flash where there is one)
- rotary positions, RMSNorm on queries and keys, squared ReLU, projections that start at zero
- `init_weights` explains the initial value of every tensor in one place

Shapes: B sequences, T tokens, C = n_embd, H heads of D = C / H, V = vocab_size.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt import GPTError
from gpt.config import ModelConfig

IGNORE = -1  # a target that is no target: padding after the last token of a split


class GPT(nn.Module):
    """A decoder-only transformer."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.n_embd)
        if config.positions == "learned":
            self.positions = nn.Embedding(config.block_size, config.n_embd)
        elif config.positions == "sinusoidal":
            self.register_buffer("sines_TC", sinusoids(config.block_size, config.n_embd), persistent=False)
        else:
            cos_TD, sin_TD = rotations(config.block_size, config.head_size)
            self.register_buffer("cos_TD", cos_TD, persistent=False)
            self.register_buffer("sin_TD", sin_TD, persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = normalization(config)
        if not config.tied:
            self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.init_weights()

    @property
    def head_weight_VC(self) -> Tensor:
        """The matrix that turns the last hidden state into logits; with tied weights, the token embedding."""
        return self.tokens.weight if self.config.tied else self.head.weight

    @property
    def n_parameters(self) -> int:
        """Trained numbers; a tied matrix counts once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def flops_per_token(self) -> int:
        """Forward and backward, 6 per weight in a product and 12 L C T for attention (PaLM, Chowdhery 2022, app. B)."""
        config = self.config
        in_products = sum(p.numel() for p in self.blocks.parameters()) + self.head_weight_VC.numel()
        return 6 * in_products + 12 * config.n_layer * config.n_embd * config.block_size

    @torch.no_grad()
    def init_weights(self) -> None:
        """Every tensor's first value, from torch's global random generator.

        tokens, positions       normal, std 0.02 (GPT-2): with a tied head, logits start small and the loss at ln(V)
        head (not tied)         normal, std 0.001: the loss starts at ln(V) whatever the width
        matrices in blocks      normal, std 1/sqrt(fan in): a unit-variance input keeps its variance
        ... back into the       zero with zero_init (every block starts as the identity); else the std above over
            residual stream     sqrt(2 N), as GPT-2 has it: the stream's variance does not grow with its 2 N branches
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

    def forward(self, ids_BT: Tensor, documents_BT: Tensor | None = None) -> Tensor:
        """Logits of the token after each position.

        ids_BT: int64 in 0..V-1, T at most block_size. documents_BT: a number for each position, equal within a document; then
        positions see their own document only and count from its beginning, as if each document stood in a row of its own.
        Returns logits_BTV in the dtype of computation. Raises GPTError when T is over block_size.
        """
        T = ids_BT.shape[1]
        if self.config.block_size < T:
            raise GPTError(f"{T} tokens of context are more than this model's block size {self.config.block_size}")
        x_BTC = self.tokens(ids_BT)
        rotary, mask_B1TT, place_T = None, None, slice(T)
        if documents_BT is not None:
            mask_B1TT, place_T = document_mask(documents_BT)
        if self.config.positions == "learned":
            x_BTC = x_BTC + self.positions.weight[place_T]
        elif self.config.positions == "sinusoidal":
            x_BTC = x_BTC * math.sqrt(self.config.n_embd) + self.sines_TC[place_T]  # Vaswani 2017, sections 3.4 and 3.5
        else:  # tells distances only, so it needs no counting from a document's beginning
            rotary = (self.cos_TD[:T], self.sin_TD[:T])
        if self.config.embedding_norm:
            x_BTC = F.rms_norm(x_BTC, x_BTC.shape[-1:], eps=1e-6)
        x_BTC = self.dropout(x_BTC)
        for block in self.blocks:
            x_BTC = block(x_BTC, rotary, mask_B1TT)
        return F.linear(self.norm(x_BTC), self.head_weight_VC)

    def loss(
        self, ids_BT: Tensor, targets_BT: Tensor, documents_BT: Tensor | None = None, reduction: str = "mean"
    ) -> Tensor:
        """Cross-entropy in nats, float32, of the targets that are not IGNORE (documents_BT: see `forward`).

        reduction: "mean", "sum", or "none" for one of each target: flat (B*T,), 0 where IGNORE.
        """
        logits_BTV = self(ids_BT, documents_BT)
        return F.cross_entropy(
            logits_BTV.flatten(0, 1).float(), targets_BT.flatten(), ignore_index=IGNORE, reduction=reduction
        )


def document_mask(documents_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Which positions each may see, bool (B, 1, T, T): those of its own document so far; and its place there, int64 (B, T)."""
    T = documents_BT.shape[1]
    index_T = torch.arange(T, device=documents_BT.device)
    same_BTT = documents_BT[:, :, None] == documents_BT[:, None, :]
    mask_BTT = same_BTT & (index_T[:, None] >= index_T)
    first_BT = torch.where(documents_BT != documents_BT.roll(1, dims=1), index_T, 0).cummax(dim=1).values
    return mask_BTT[:, None], index_T - first_BT


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)); a further branch (over a memory) would stand between."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.attention_norm = normalization(config)
        self.attention = SelfAttention(config)
        self.feed_forward_norm = normalization(config)
        self.feed_forward = SwiGLU(config) if config.feed_forward == "swiglu" else FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x_BTC: Tensor, rotary: tuple[Tensor, Tensor] | None = None, mask_B1TT: Tensor | None = None
    ) -> Tensor:
        x_BTC = x_BTC + self.dropout(self.attention(self.attention_norm(x_BTC), rotary, mask_B1TT))
        return x_BTC + self.dropout(self.feed_forward(self.feed_forward_norm(x_BTC)))


class SelfAttention(nn.Module):
    """Causal multi-head self-attention.

    Dropout is at the branch's end only: on attention weights it would rule out the flash kernel on CPU.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.n_head = config.n_head
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.out = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        # With a weight: unit queries and keys alone could not score above sqrt(D), too flat for narrow heads.
        self.q_norm = nn.RMSNorm(config.head_size, eps=1e-6) if config.qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(config.head_size, eps=1e-6) if config.qk_norm else nn.Identity()

    def forward(
        self, x_BTC: Tensor, rotary: tuple[Tensor, Tensor] | None = None, mask_B1TT: Tensor | None = None
    ) -> Tensor:
        B, T, C = x_BTC.shape
        qkv_BTSHD = self.qkv(x_BTC).view(B, T, 3, self.n_head, C // self.n_head)
        q_BHTD, k_BHTD, v_BHTD = qkv_BTSHD.permute(2, 0, 3, 1, 4)
        q_BHTD, k_BHTD = self.q_norm(q_BHTD), self.k_norm(k_BHTD)
        if rotary is not None:
            q_BHTD, k_BHTD = rotate(q_BHTD, *rotary), rotate(k_BHTD, *rotary)
        y_BHTD = F.scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD, mask_B1TT, is_causal=mask_B1TT is None)
        return self.out(y_BHTD.transpose(1, 2).reshape(B, T, C))


class FeedForward(nn.Module):
    """C -> 4C -> C with GELU, or with squared ReLU (So 2021, "Primer")."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.squared = config.feed_forward == "relu2"
        self.up = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.down = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x_BTC: Tensor) -> Tensor:
        h_BTF = self.up(x_BTC)
        return self.down(F.relu(h_BTF).square() if self.squared else F.gelu(h_BTF, approximate="tanh"))


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), 8C/3 wide rounded up to 32 (Shazeer 2020)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        width = -(-8 * config.n_embd // 3 // 32) * 32
        self.gate = nn.Linear(config.n_embd, width, bias=config.bias)
        self.up = nn.Linear(config.n_embd, width, bias=config.bias)
        self.down = nn.Linear(width, config.n_embd, bias=config.bias)

    def forward(self, x_BTC: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x_BTC)) * self.up(x_BTC))


def normalization(config: ModelConfig) -> nn.Module:
    """The norm that the configuration names, over the last axis (C)."""
    if config.norm == "layernorm":
        return nn.LayerNorm(config.n_embd, bias=config.bias)
    return nn.RMSNorm(config.n_embd, eps=1e-6)


def sinusoids(block_size: int, n_embd: int) -> Tensor:
    """Fixed position codes, float32 (T, C): sines, then cosines, of geometrically spaced periods (Vaswani 2017)."""
    sin, cos = _waves(block_size, n_embd)
    return torch.cat((sin, cos), dim=1)


def rotations(block_size: int, head_size: int) -> tuple[Tensor, Tensor]:
    """cos and sin, float32 (T, D) each, that turn each pair of channels by position times a frequency (Su 2021)."""
    sin, cos = _waves(block_size, head_size)
    return torch.cat((cos, cos), dim=1), torch.cat((-sin, sin), dim=1)


def rotate(x_BHTD: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
    """Turn channel pairs (i, i + D/2): the dot product of two results depends on the distance of their positions."""
    return (x_BHTD * cos_TD + x_BHTD.roll(x_BHTD.shape[-1] // 2, dims=-1) * sin_TD).to(x_BHTD.dtype)


def _waves(block_size: int, width: int) -> tuple[Tensor, Tensor]:
    """Sine and cosine of position times frequency, float32 (T, width / 2).

    By numpy: torch's cosine on the CPU came out with one of three last bits, differing from process to process, so that every
    few runs trained other weights.
    """
    frequencies = 10_000.0 ** (-np.arange(0, width, 2) / width)
    angles = np.outer(np.arange(block_size), frequencies)
    return torch.from_numpy(np.sin(angles)).float(), torch.from_numpy(np.cos(angles)).float()
