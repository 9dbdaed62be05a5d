"""Attention maps: how much each position of a text attends to each earlier one, in every layer and head."""

import math

import torch
from torch import Tensor

from gpt.model.transformer import GPT, Rotary, SelfAttention


@torch.no_grad()
def attention_maps(model: GPT, ids_BT: Tensor) -> Tensor:
    """Attention probabilities, float32 (layers, B, H, T, T): row t is what position t attends to, and adds up to 1.

    They are computed beside the pass, as the kernels that the model uses never hold them. model: in eval mode.
    ids_BT: see `GPT.forward`, which raises GPTError for a text over T.
    """
    maps: list[Tensor] = []

    def keep(attention: SelfAttention, inputs: tuple[Tensor, Rotary | None, Tensor | None]) -> None:
        x_BTC, rotary, _ = inputs
        q_BHTD, k_BKTD, _ = attention.project(x_BTC, rotary)
        k_BHTD = k_BKTD.repeat_interleave(q_BHTD.shape[1] // k_BKTD.shape[1], dim=1)
        scores_BHTT = (q_BHTD @ k_BHTD.mT).float() / math.sqrt(attention.head_size)
        later_TT = torch.ones(scores_BHTT.shape[-2:], dtype=torch.bool, device=x_BTC.device).triu(1)
        maps.append(scores_BHTT.masked_fill(later_TT, -math.inf).softmax(-1))

    hooks = [block.attention.register_forward_pre_hook(keep) for block in model.blocks]
    try:
        model.hidden(ids_BT)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(maps)
