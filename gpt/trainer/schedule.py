"""How the learning rates and Muon's momentum change from step to step."""

import math

from torch.optim import Optimizer

from gpt.config import TrainConfig

FIRST_MOMENTUM = 0.85  # modded-nanogpt's and nanochat's, over their first 300 to 500 steps


def set_schedule(optimizers: list[Optimizer], step: int, config: TrainConfig) -> None:
    """Set every group's learning rate, and Muon's momentum, for update number `step` (from 0)."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * lr_ratio(step, config)
            if "momentum" in group:
                group["momentum"] = momentum(step, config)


def momentum(step: int, config: TrainConfig) -> float:
    """Muon's momentum for update number `step`: a linear rise from FIRST_MOMENTUM to config.momentum, then constant."""
    first = min(FIRST_MOMENTUM, config.momentum)
    progress = min(1.0, step / config.momentum_warmup_steps) if config.momentum_warmup_steps else 1.0
    return first + (config.momentum - first) * progress


def lr_ratio(step: int, config: TrainConfig) -> float:
    """Share of the peak learning rate for update number `step` (from 0 to steps - 1); 0 only if min_lr_ratio is."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "cosine":
        progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
        decay = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    else:
        # Not before the warm-up ends.
        decay_steps = min(config.cooldown * config.steps, config.steps - config.warmup_steps)
        decay = min(1.0, max(0.0, config.steps - step) / max(1.0, decay_steps))
    return config.min_lr_ratio + (1 - config.min_lr_ratio) * decay
