"""Which parameter is updated how, and how fast at each step.

Three groups by role, proven to hold every parameter once: `matrices` (2-D, inside blocks), `embeddings` (tokens,
positions, head) and `vectors` (norms, biases). Weight decay falls on the first two. With optimizer "muon" the matrices go
to Muon, which is not meant for embeddings or the head.
"""

import math

from torch import nn
from torch.optim import AdamW, Optimizer

from gpt.config import TrainConfig
from gpt.trainer.muon import Muon

FIRST_MOMENTUM = 0.85  # modded-nanogpt's and nanochat's, over their first 300 to 500 steps


def parameter_groups(model: nn.Module) -> dict[str, dict[str, nn.Parameter]]:
    """{"matrices" | "embeddings" | "vectors": {parameter name: parameter}}; each parameter stands in exactly one."""
    groups: dict[str, dict[str, nn.Parameter]] = {"matrices": {}, "embeddings": {}, "vectors": {}}
    for name, parameter in model.named_parameters():
        role = "vectors" if parameter.ndim < 2 else "matrices" if name.startswith("blocks.") else "embeddings"
        groups[role][name] = parameter
    grouped = [id(parameter) for group in groups.values() for parameter in group.values()]
    assert sorted(grouped) == sorted({id(parameter) for parameter in model.parameters()})
    return groups


def build_optimizers(model: nn.Module, config: TrainConfig) -> list[Optimizer]:
    """One AdamW, or Muon and AdamW. Each parameter group carries its `peak_lr`, which the schedule scales."""
    matrices, embeddings, vectors = (list(group.values()) for group in parameter_groups(model).values())
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
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def set_schedule(optimizers: list[Optimizer], step: int, config: TrainConfig) -> None:
    """Set every group's learning rate, and Muon's momentum, for update number `step` (from 0)."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * schedule(step, config)
            if "momentum" in group:
                group["momentum"] = momentum(step, config)


def learning_rate(step: int, config: TrainConfig) -> float:
    """AdamW's learning rate for update number `step` (from 0); Muon's is in the same ratio to matrix_lr."""
    return config.lr * schedule(step, config)


def momentum(step: int, config: TrainConfig) -> float:
    """Muon's momentum for update number `step`: from FIRST_MOMENTUM straight to config.momentum, then that."""
    first = min(FIRST_MOMENTUM, config.momentum)
    risen = min(1.0, step / config.momentum_warmup_steps) if config.momentum_warmup_steps else 1.0
    return first + (config.momentum - first) * risen


def schedule(step: int, config: TrainConfig) -> float:
    """Share of the peak learning rate for update number `step` (from 0 to steps - 1); above 0, except at a ratio of 0."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "cosine":
        progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    else:
        fall = min(1.0, max(0.0, config.steps - step) / max(1.0, _fall_steps(config)))
    return config.min_lr_ratio + (1 - config.min_lr_ratio) * fall


def flat_until(config: TrainConfig) -> float:
    """The step up to which the rates do not depend on config.steps: where wsd's fall begins; 0 with cosine."""
    return config.steps - _fall_steps(config) if config.schedule == "wsd" else 0.0


def _fall_steps(config: TrainConfig) -> float:
    """The length of wsd's fall, which never begins before the warm-up has ended."""
    return min(config.cooldown * config.steps, config.steps - config.warmup_steps)
