"""How the learning rates change from step to step."""

import math

from gpt.config import TrainConfig


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
