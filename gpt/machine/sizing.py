"""--size auto: the largest of the named sizes that a corpus, a device and a time are good for.

Two limits, rules of thumb: a model of more parameters than its corpus has bytes learns it by heart; one that sees fewer than 10
tokens a parameter would have been better off smaller.
"""

import os
from dataclasses import replace

from gpt.config import PRESETS, ModelConfig, TrainConfig

TOKENS_PER_PARAMETER = 10  # nanochat trains with 8 to 12; Hoffmann 2022 found 20 for large models
UTILISATION = 0.35  # of the device's peak that training reaches, roughly
CORE_FLOPS = 60e9  # of a CPU core in float32; a nominal figure, so that the choice is the same every time
UNKNOWN_GPU_FLOPS = 60e12
SHAPE = ("n_layer", "n_head", "n_embd")


def sized(model: ModelConfig, config: TrainConfig, train_bytes: int, device_flops: float) -> tuple[str, ModelConfig]:
    """The size's name, and the model with its layers, heads and width.

    train_bytes: of raw UTF-8 to train on. device_flops: a second, at best (`device_flops`). Tokens to be seen are those of
    config.steps, or as many as the device takes in config.minutes.
    """
    chosen, fitting = "", model
    for name, values in PRESETS.items():  # from small to large
        family, _, size = name.partition("-")
        if family != "modern":
            continue
        candidate = replace(model, **{field: values[field] for field in SHAPE})
        n = parameters(candidate)
        if config.minutes:
            tokens = device_flops * UTILISATION * config.minutes * 60 / (6 * n)
        else:
            tokens = config.steps * config.batch_size * model.block_size
        if not chosen or (n <= train_bytes and n * TOKENS_PER_PARAMETER <= tokens):
            chosen, fitting = size, candidate
        else:
            break
    return chosen, fitting


def parameters(model: ModelConfig) -> int:
    """In products for each token: the matrices of the blocks and the head."""
    attention = 2 * model.n_embd**2 + 2 * model.n_embd * model.kv_heads * model.head_size
    gates = 3 if model.feed_forward == "swiglu" else 2
    return (
        model.n_layer * (attention + gates * model.n_embd * model.feed_forward_size) + model.vocab_size * model.n_embd
    )


def device_flops(device: str = "auto", threads: int = 0) -> float:
    """FLOP/s of the device that a Runtime names, at best: the maker's figure for a GPU, a nominal one for a CPU."""
    import torch

    from gpt.machine.device import PEAK_FLOPS

    if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()):
        name = torch.cuda.get_device_name(device if ":" in device else None)
        return next((flops for part, flops in PEAK_FLOPS.items() if part in name), UNKNOWN_GPU_FLOPS)
    return CORE_FLOPS * (threads or usable_cores())


def usable_cores() -> int:
    """Cores that this process may run on, where the system tells (Linux); else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
