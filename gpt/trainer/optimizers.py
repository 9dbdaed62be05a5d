"""Which optimizer updates which parameter.

Three groups by role, and each parameter is in exactly one: `matrices` (2-D, inside blocks), `embeddings` (tokens, positions,
head) and `vectors` (norms, biases). Weight decay applies to the first two. With optimizer "muon" the matrices go to Muon, which
is not meant for embeddings or the head.
"""

from torch import nn
from torch.optim import AdamW, Optimizer

from gpt.config import TrainConfig
from gpt.trainer.muon import Muon


def build_optimizers(model: nn.Module, config: TrainConfig) -> list[Optimizer]:
    """One AdamW, or Muon and AdamW. Each parameter group has its `peak_lr`, which the schedule scales."""
    matrices, embeddings, vectors = list[nn.Parameter](), list[nn.Parameter](), list[nn.Parameter]()
    for name, parameter in model.named_parameters():
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
