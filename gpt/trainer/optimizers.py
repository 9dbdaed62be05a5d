"""Which optimizer updates which parameter, and by what learning rate at each step.

Three groups by role, and each parameter is in exactly one: `matrices` (2-D, inside blocks), `embeddings` (tokens, positions,
head) and `vectors` (norms, biases). Weight decay applies to the first two. With optimizer "muon" the matrices go to Muon, which
is not meant for embeddings or the head.
"""

import math

from torch import nn
from torch.optim import AdamW, Optimizer

from gpt.config import TrainConfig
from gpt.model.adapters import trained
from gpt.model.transformer import GPT
from gpt.trainer.muon import Muon


def build_optimizers(model: GPT, config: TrainConfig) -> list[Optimizer]:
    """One AdamW, or Muon and AdamW. Each parameter group has its `peak_lr`, which the schedule scales."""
    matrices, embeddings, vectors = list[nn.Parameter](), list[nn.Parameter](), list[nn.Parameter]()
    for name, parameter in trained(model).items():
        group = vectors if parameter.ndim < 2 else matrices if name.startswith("blocks.") else embeddings
        group.append(parameter)
    optimizers: list[Optimizer] = []
    if config.optimizer == "muon":
        optimizers.append(Muon(matrices, config.matrix_lr, config.weight_decay, config.momentum))
        matrices = []
    adamw_groups = [
        {"params": [*matrices, *embeddings], "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    # Fused: one pass over each tensor instead of a dozen; it exists for CPU and CUDA.
    fused = all(p.device.type in ("cpu", "cuda") for p in model.parameters())
    optimizers.append(AdamW(adamw_groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=fused))
    for optimizer in optimizers:
        for settings in optimizer.param_groups:
            settings["peak_lr"] = settings["lr"]
    return optimizers


def lr_ratio(step: int, config: TrainConfig) -> float:
    """Share of the peak learning rate for update number `step` (from 0 to steps - 1); 0 only if min_lr_ratio is."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "cosine":
        progress = (step - config.warmup_steps) / max(1.0, config.decay_steps)
        decay = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    else:
        decay = min(1.0, max(0.0, config.steps - step) / max(1.0, config.decay_steps))
    return config.min_lr_ratio + (1 - config.min_lr_ratio) * decay
