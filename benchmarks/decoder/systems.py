"""One figure of ours, in a process of its own; prints it as JSON.

python -m benchmarks.decoder.systems step SHAPE MODE SECONDS     MODE: classic or modern, eager or compiled, float32 or bfloat16
python -m benchmarks.decoder.systems generate BATCH FAMILY NEW
python -m benchmarks.decoder.systems loss LAYERS SEED TEXT [STEPS]
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.decoder.shapes import CONTEXT, GENERATION, PROMPT, SHAPES, characters, full_pass, rate
from gpt.config import ModelConfig, Runtime, TrainConfig, preset
from gpt.data import dataset
from gpt.data.shards import Documents
from gpt.generation.sample import sample_batch
from gpt.machine.device import prepare
from gpt.model.cpu_kernels import use_cpu_kernels
from gpt.model.transformer import GPT
from gpt.trainer.optimizers import build_optimizers
from gpt.trainer.update import Learner

# Chosen on the last tenth of the characters to train on, never on those that judge (docs/log.md).
STEPS = {2: 250, 4: 240}  # by layers
QUICK = {"lr": 0.01, "matrix_lr": 0.015, "momentum": 0.8, "weight_decay": 0.0, "grad_clip": 0.0}


def model_of(family: str, layers: int, heads: int, width: int, T: int, V: int) -> GPT:
    torch.manual_seed(0)
    shape = {"n_layer": layers, "n_head": heads, "n_embd": width}
    model = GPT(ModelConfig(vocab_size=V, block_size=T, **(preset(f"{family}-nano") | shape)))
    use_cpu_kernels(model)
    return model


def step(shape: str, mode: str, seconds: str) -> dict:
    """Tokens a second of forward, backward and update, without clipping and loader."""
    family, how, dtype = mode.split("-")
    layers, heads, width, T, B, V = SHAPES[shape]
    model = model_of(family, layers, heads, width, T, V).train()
    ids_BT, targets_BT = torch.randint(V, (2, B, T))
    optimizer = "adamw" if family == "classic" else "muon"
    update = updating(model, optimizer, ids_BT, targets_BT, compiled=how == "compiled", bfloat16=dtype == "bfloat16")
    return {"tokens_per_second": B * T * rate(update, float(seconds))}


def updating(
    model: GPT, optimizer: str, ids_BT: Tensor, targets_BT: Tensor, compiled: bool, bfloat16: bool
) -> Callable[[], None]:
    """A function that makes one update of the model, on its device."""
    optimizers = build_optimizers(model, TrainConfig(optimizer=optimizer))
    loss_of = torch.compile(model.loss, dynamic=False) if compiled else model.loss

    def update() -> None:
        with torch.autocast(ids_BT.device.type, dtype=torch.bfloat16, enabled=bfloat16):
            loss = loss_of(ids_BT, targets_BT)
        loss.backward()
        for one in optimizers:
            one.step()
            one.zero_grad(set_to_none=True)

    return update


def generate(batch: str, family: str, new: str) -> dict:
    """New tokens a second of all rows together, prompt and set-up included."""
    layers, heads, width, V = GENERATION
    model, rows = model_of(family, layers, heads, width, CONTEXT, V).eval(), int(batch)
    contexts = torch.randint(V, (rows, PROMPT)).tolist()
    list(sample_batch(model, contexts, max_tokens=8))
    start = time.perf_counter()
    drawn = list(sample_batch(model, contexts, max_tokens=int(new)))
    seconds = time.perf_counter() - start
    n_bytes = 4 * sum(p.numel() for p in [*model.blocks.parameters(), model.head_weight_VC])
    block = torch.ones(64_000_000)  # written to: untouched pages would all be one
    read = min(_seconds(lambda: block.sum()) for _ in range(5))
    limit = rows * block.numel() * 4 / read / n_bytes  # every weight is read once a token, for all rows together
    return {"tokens_per_second": len(drawn) / seconds, "limit": limit}


def loss(layers: str, seed: str, text: str, steps: str = "") -> dict:
    """Train on tiny-shakespeare's characters: seconds of the updates alone, and the loss on those held out."""
    _, heads, width, T, B, V = SHAPES["4L/128"]
    train_N, val_N = characters(text)
    n_layer = int(layers.removesuffix("L"))
    config = TrainConfig(steps=int(steps or STEPS[n_layer]), batch_size=B, seed=int(seed), **QUICK)
    shape = {"n_layer": n_layer, "n_head": heads, "n_embd": width, "tied": False}
    with tempfile.TemporaryDirectory() as folder:
        data = packed(Path(folder), train_N, val_N, T, V)
        model = ModelConfig(vocab_size=data.vocab_size, block_size=T, **(preset("modern-nano") | shape))
        machine = prepare(Runtime(device="cpu"))
        learner = Learner(data, model, config, Runtime(), machine)
        start = time.perf_counter()
        for step in range(config.steps):
            learner.update(step)
        seconds = time.perf_counter() - start
    found = full_pass(lambda ids, targets: learner.model.loss(ids, targets, reduction="sum"), val_N, T)
    return {"seconds": seconds, "loss": found, "steps": config.steps, "tokens": config.steps * B * T}


def packed(folder: Path, train_N: Tensor, val_N: Tensor, T: int, V: int) -> dataset.Dataset:
    """A dataset of two documents; the token that ends them is one more than the characters."""
    about = dataset.Description(V + 1, T, V, V, "characters")
    splits = {
        name: lambda _done, name=name, ids=ids: [
            Documents([name], ids.numpy(), np.array([len(ids)]), np.array([len(ids)]), ["text"], np.array([0]))
        ]
        for name, ids in (("train", train_N), ("val", val_N))
    }
    dataset.write(folder, splits, about)
    return dataset.Dataset.open(folder)


def _seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    print(json.dumps({"step": step, "generate": generate, "loss": loss}[what](*arguments)))
