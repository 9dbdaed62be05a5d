"""The dial: from the bytes to train on, the minutes and the device, every setting of a model and its training that nobody gave.

One dial, as nanochat's depth is one: what is set wins, the rest follows. Each rule states what it rests on; docs/log.md has the
runs (two CPU cores, corpora of 60 kB to 3 MB), and for GPUs the published settings that the rules meet.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import Any

from gpt.config import ModelConfig
from gpt.machine.hardware import gpu_peak_flops

# From small to large, (layers, width). Two wide layers learn more in minutes than four. From 768 on, GPT-2's own.
SHAPES = ((2, 128), (4, 192), (6, 384), (8, 512), (12, 768), (24, 1024), (36, 1280), (48, 1600))
# With fewer tokens for each parameter of the blocks, a smaller model learns more: four layers lost to two at 1; nanochat has 8.
TOKENS_PER_PARAMETER = 6
# More epochs gave nothing: rick-and-morty has 2.015 after 31, and 2.019 after 93 (with BPE dropout).
MOST_EPOCHS = 30
TUNED_EPOCHS = 2  # of a model that is trained already: 3 and more were worse (docs/log.md)
# (epochs, dropout from so many on). None at 7 epochs of python-docs; on rick-and-morty 0.2 at 12 gave 2.038, 0.3 at 31 2.015.
DROPOUT = ((24, 0.3), (12, 0.2), (8, 0.1))
STEPS = 4000  # that the tokens are divided into: small batches learn more from few tokens ...
TOKEN_BYTES = 8  # that no vocabulary of a small text exceeds, on average
BATCH_TOKENS = (1024, 1 << 19)  # ... within these bounds, the second GPT-2's
CPU_FLOPS = 100e9  # that two cores of a laptop reach; a nominal value, so that every machine chooses the same
UNKNOWN_GPU_FLOPS = 60e12
UTILISATION = 0.35  # share of a GPU's peak that training reaches
WIDTH = 128  # for which the learning rates were measured: 0.02, and 0.01 for Muon's matrices
TUNING = 0.12  # of these rates, for the matrices of a model that is trained already; adapters take them whole
EVALUATIONS = 8
CHOSEN = (
    "pack.block_size", "model.n_layer", "model.n_head", "model.n_embd", "model.dropout", "train.steps", "train.batch_size",
    "train.lr", "train.matrix_lr", "train.momentum", "train.eval_every",
)  # fmt: skip


@dataclass(frozen=True)
class Budget:
    """What there is to train with. `flops`: FLOP/s that training reaches. `tunes`: whether it starts from a trained model, and
    `adapts`: whether adapters to it are trained alone."""

    train_bytes: int
    minutes: float
    flops: float
    tunes: bool = False
    adapts: bool = False
    held_out_bytes: int = 1 << 40
    """of the smaller of val and test, which must hold a sequence"""

    def tokens(self, n: int) -> float:
        """Tokens that a model of n parameters sees in the time: 6 n operations each (Kaplan 2020)."""
        return self.flops * self.minutes * 60 / (6 * n)


def choose(given: Mapping[str, Any], model: ModelConfig, budget: Budget) -> dict[str, Any]:
    """A value for each name of CHOSEN: the given one, or what follows from the rules, the given values and the budget.

    model: with the vocabulary's size, and what CHOSEN does not name.
    """
    shape = _shape(given, model, budget)
    width, n = shape["model.n_embd"], _parameters(shape, model)
    epoch = budget.train_bytes / _bytes_per_token(model.vocab_size)  # tokens
    # As much context as the width can use; in a small corpus also the held-out part must hold a sequence.
    room = min(epoch / 20, budget.held_out_bytes / TOKEN_BYTES)
    T = given.get("pack.block_size", min(256 if width < 512 else 1024, 2 ** int(log2(max(2, room)))))
    tokens = min(budget.tokens(n), (TUNED_EPOCHS if budget.tunes else MOST_EPOCHS) * epoch)
    at_once = min(BATCH_TOKENS[1], max(BATCH_TOKENS[0], 2 ** round(log2(tokens / STEPS))))
    batch = given.get("train.batch_size", round(at_once / T) or 1)
    steps = given.get("train.steps", max(1, round(tokens / (batch * T))))
    epochs = steps * batch * T / epoch
    slower = min(1.0, (WIDTH / width) ** 0.75) * (TUNING if budget.tunes and not budget.adapts else 1)
    rules = {
        "pack.block_size": T,
        **shape,
        "model.dropout": next((rate for above, rate in DROPOUT if epochs >= above), 0.0),
        "train.steps": steps,
        "train.batch_size": batch,
        "train.lr": round(0.02 * slower, 5),
        "train.matrix_lr": round(0.01 * slower, 5),
        "train.momentum": 0.85 if steps < 600 else 0.95,  # early gradients are soon out of date
        "train.eval_every": max(1, steps // EVALUATIONS),
    }
    return {**rules, **given}


def reason(chosen: Mapping[str, Any], model: ModelConfig, budget: Budget) -> str:
    """One line that says what was chosen and why."""
    layers, width, T = (chosen[name] for name in ("model.n_layer", "model.n_embd", "pack.block_size"))
    tokens = chosen["train.steps"] * chosen["train.batch_size"] * T
    return (
        f"{budget.train_bytes / 1e6:.2f} MB and {budget.minutes:g} minutes at {budget.flops / 1e9:,.0f} GFLOP/s: "
        f"{layers} layers of {width}, dropout {chosen['model.dropout']:g}, T {T}, {chosen['train.steps']:,} steps of "
        f"{chosen['train.batch_size']} sequences, {tokens * _bytes_per_token(model.vocab_size) / budget.train_bytes:.1f} epochs"
    )


def device_flops(device: str) -> float:
    """FLOP/s that training reaches on the device of a Runtime: of a CPU a nominal value, of a GPU a share of its peak."""
    if device == "cpu" or (device == "auto" and not Path("/dev/nvidiactl").exists()):  # importing torch takes a second
        return CPU_FLOPS
    import torch

    if not torch.cuda.is_available():
        return CPU_FLOPS
    return UTILISATION * (gpu_peak_flops(torch.cuda.get_device_name()) or UNKNOWN_GPU_FLOPS)


def _shape(given: Mapping[str, Any], model: ModelConfig, budget: Budget) -> dict[str, int]:
    """The largest shape that has no more parameters than there are bytes, and sees enough tokens; the smallest otherwise."""
    chosen: dict[str, int] = {}
    for usual_layers, usual_width in SHAPES:
        layers, width = given.get("model.n_layer", usual_layers), given.get("model.n_embd", usual_width)
        heads = given.get("model.n_head", 4 if width < 256 or width % 64 else width // 64)
        shape = {"model.n_layer": layers, "model.n_head": heads, "model.n_embd": width}
        n = _parameters(shape, model)
        of_blocks = n - model.vocab_size * width
        if chosen and (n > budget.train_bytes or of_blocks * TOKENS_PER_PARAMETER > budget.tokens(n)):
            break
        chosen = shape
    return chosen


def _parameters(shape: Mapping[str, int], model: ModelConfig) -> int:
    """The parameters that multiply each token: the matrices of the blocks and the head."""
    width, kv_heads = shape["model.n_embd"], model.n_kv_head or shape["model.n_head"]
    attention = 2 * width**2 * (1 + kv_heads / shape["model.n_head"])
    return round(shape["model.n_layer"] * (attention + 8 * width**2) + model.vocab_size * width)  # SwiGLU has as many


def _bytes_per_token(vocab_size: int) -> float:
    """About: 2.5 with 512 pieces, 2.8 with 1,024, 3.3 with 4,096."""
    return log2(vocab_size) / 3.6
