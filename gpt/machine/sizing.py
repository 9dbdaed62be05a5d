"""--size auto: the largest of the named sizes that suits a corpus, a device and a time.

Two limits, both rules of thumb: a model with more parameters than its corpus has bytes memorises it; one that sees fewer than
10 tokens a parameter is worse than a smaller model trained for as long.
"""

from dataclasses import replace

from gpt.config import SIZES, ModelConfig, TrainConfig
from gpt.machine.hardware import gpu_peak_flops, usable_cores

TOKENS_PER_PARAMETER = 10  # nanochat trains with 8 to 12; Hoffmann 2022 found 20 for large models
UTILISATION = 0.35  # share of the device's peak that training reaches, roughly
CORE_FLOPS = 60e9  # float32, of one CPU core: a nominal value, so that the choice is the same every time
UNKNOWN_GPU_FLOPS = 60e12
SHAPE = ("n_layer", "n_head", "n_embd")


def sized(model: ModelConfig, config: TrainConfig, train_bytes: int, device_flops: float) -> tuple[str, ModelConfig]:
    """The name of the size, and the model with the layers, heads and width of that size.

    train_bytes: raw UTF-8 bytes to train on. device_flops: peak FLOP/s (`device_flops`). The tokens seen are those of
    config.steps, or as many as the device processes in config.minutes.
    """
    chosen, fitting = "", model
    for size, (n_layer, n_head, n_embd) in SIZES.items():  # from small to large
        candidate = replace(model, n_layer=n_layer, n_head=n_head, n_embd=n_embd)
        n = parameters(candidate)
        if config.minutes:
            tokens = device_flops * UTILISATION * config.minutes * 60 / (6 * n)
        else:
            tokens = config.steps * config.batch_size * model.block_size
        if chosen and (n > train_bytes or n * TOKENS_PER_PARAMETER > tokens):
            break
        chosen, fitting = size, candidate
    return chosen, fitting


def parameters(model: ModelConfig) -> int:
    """The parameters that multiply each token: the matrices of the blocks and the head."""
    attention = 2 * model.n_embd**2 + 2 * model.n_embd * model.kv_heads * model.head_size
    matrices = 3 if model.feed_forward == "swiglu" else 2
    feed_forward = matrices * model.n_embd * model.feed_forward_size
    return model.n_layer * (attention + feed_forward) + model.vocab_size * model.n_embd


def device_flops(device: str = "auto", threads: int = 0) -> float:
    """Peak FLOP/s of the device that a Runtime names: the maker's figure for a GPU, a nominal one for a CPU."""
    import torch

    if device.startswith("cuda") or (device == "auto" and torch.cuda.is_available()):
        name = torch.cuda.get_device_name(device if ":" in device else None)
        return gpu_peak_flops(name) or UNKNOWN_GPU_FLOPS
    return CORE_FLOPS * (threads or usable_cores())
