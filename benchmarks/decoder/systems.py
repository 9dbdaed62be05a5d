"""One figure of ours, in a process of its own; prints it as JSON.

python -m benchmarks.decoder.systems step SHAPE MODE SECONDS     MODE: classic or modern, eager or compiled, float32 or bfloat16
python -m benchmarks.decoder.systems generate BATCH FAMILY NEW
python -m benchmarks.decoder.systems loss LAYERS SEED TEXT [STEPS]
python -m benchmarks.decoder.systems bits WHAT SEED TEXT [STEPS]      WHAT: sub-word, characters, GPT-2 or PPMd
"""

import json
import math
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.decoder.shapes import CONTEXT, GENERATION, PROMPT, SHAPES, characters, full_pass, rate
from flows.recipe import load_recipe, settle
from flows.stages.baselines import ORDERS, ppmd
from gpt.config import ModelConfig, Runtime, TrainConfig, preset
from gpt.data import dataset
from gpt.data.shards import Documents
from gpt.evaluation.score import evaluate
from gpt.generation.batch import Batch
from gpt.generation.sample import token_rows
from gpt.machine.device import prepare
from gpt.model.transformer import GPT
from gpt.trainer.optimizers import build_optimizers
from gpt.trainer.update import Learner
from tokenizers import training
from tokenizers.tokenizer import Tokenizer

PART = 8000  # characters, as clean.split_chars of a user's own text
# Chosen on the last tenth of the characters to train on, never on those that judge (docs/log.md).
STEPS = {2: 250, 4: 240}  # by layers
QUICK = {"lr": 0.01, "matrix_lr": 0.015, "momentum": 0.8, "weight_decay": 0.0, "grad_clip": 0.0}
# nanoGPT's for a CPU.
NANOGPT = {
    "steps": 2000, "optimizer": "adamw", "lr": 1e-3, "min_lr_ratio": 0.1, "warmup_steps": 100, "schedule": "cosine",
    "beta2": 0.99,
}  # fmt: skip


def model_of(family: str, layers: int, heads: int, width: int, T: int, V: int) -> GPT:
    torch.manual_seed(0)
    shape = {"n_layer": layers, "n_head": heads, "n_embd": width}
    return GPT(ModelConfig(vocab_size=V, block_size=T, **(preset(f"{family}-nano") | shape)))


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
    list(Batch(model).run(token_rows(model, contexts, max_tokens=8)))
    start = time.perf_counter()
    drawn = list(Batch(model).run(token_rows(model, contexts, max_tokens=int(new))))
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
        data = packed(Path(folder), [train_N], val_N, T, V)
        model = ModelConfig(vocab_size=data.vocab_size, block_size=T, **(preset("modern-nano") | shape))
        machine = prepare(Runtime(device="cpu"))
        learner = Learner(data, model, config, Runtime(), machine)
        start = time.perf_counter()
        for step in range(config.steps):
            learner.update(step)
        seconds = time.perf_counter() - start
    found = full_pass(lambda ids, targets: learner.model.loss(ids, targets, reduction="sum"), val_N, T)
    return {"seconds": seconds, "loss": found, "steps": config.steps, "tokens": config.steps * B * T}


def bits(what: str, seed: str, text: str, steps: str = "") -> dict:
    """Bits per byte of tiny-shakespeare's last tenth, one text, after the first nine; the last step's weights count.

    The first nine are cut as a user's own text is, into documents of PART characters, which each epoch packs anew.
    sub-word, characters: the recipe of shakespeare, with its tokenizer and with one of single characters. GPT-2: its shape,
    4 layers of 128, trained as nanoGPT does on a CPU. PPMd: the best order.
    """
    train, held_out = (part.decode() for part in _nine_tenths(Path(text).read_bytes()))
    n_bytes, start = len(held_out.encode()), time.perf_counter()
    if what == "PPMd":
        found = 8 * min(ppmd(order, train.encode(), [held_out])[0] for order in ORDERS) / n_bytes
        return {"seconds": time.perf_counter() - start, "bits": found, "loss": found * math.log(2), "steps": 0}
    changes = {"tokenizer.model_type": "char", "tokenizer.vocab_size": "auto"} if what != "sub-word" else {}
    asked = load_recipe("shakespeare", overrides=changes | {"train.seed": int(seed)})
    recipe, _ = settle(asked, {"train_bytes": len(train.encode()), "test_bytes": n_bytes})
    shape, config, T = asdict(recipe.model), recipe.train, recipe.pack.block_size
    if what == "GPT-2":
        n_layer, n_head, n_embd, T, B, _ = SHAPES["4L/128"]
        shape = preset("classic-nano") | {"n_layer": n_layer, "n_head": n_head, "n_embd": n_embd}
        config = TrainConfig(batch_size=B, seed=int(seed), **NANOGPT)
    config = replace(
        config, steps=int(steps or config.steps), warmup_steps=min(config.warmup_steps, int(steps or 2**31))
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        training.train([train], len(train.encode()), folder, recipe.tokenizer)
        tokenizer = Tokenizer(folder / "tokenizer.model")
        parts = tokenizer.encode(re.findall(rf"(?s).{{1,{PART}}}(?:\n|\Z)", train))
        val_N = torch.from_numpy(tokenizer.encode_flat([held_out])[0])
        data = packed(folder, [torch.from_numpy(part) for part in parts], val_N, T, tokenizer.vocab_size, n_bytes)
        model = ModelConfig(**(shape | {"vocab_size": data.vocab_size, "block_size": T}))
        learner, start = (
            Learner(data, model, config, Runtime(device="cpu"), prepare(Runtime(device="cpu"))),
            time.perf_counter(),
        )
        for step in range(config.steps):
            learner.update(step)
        seconds = time.perf_counter() - start
        found = evaluate(learner.model, data, "val").bits_per_byte
    return {"seconds": seconds, "bits": found, "loss": found * math.log(2), "steps": config.steps}


def _nine_tenths(text: bytes) -> tuple[bytes, bytes]:
    """As nanoGPT splits it: all its characters are single bytes."""
    return text[: int(0.9 * len(text))], text[int(0.9 * len(text)) :]


def packed(folder: Path, train: list[Tensor], val_N: Tensor, T: int, V: int, val_bytes: int = 0) -> dataset.Dataset:
    """A dataset of these documents to train on, and of one held out; the token that ends them is one more than the others.

    val_bytes: of the one held out; by default its tokens are single bytes.
    """
    about, splits = dataset.Description(V + 1, T, V, V, "characters"), {}
    for name, documents in (("train", train), ("val", [val_N])):
        n, lengths = len(documents), np.array([len(ids) for ids in documents])
        sizes = np.array([val_bytes]) if name == "val" and val_bytes else lengths
        names = [f"{name}{number}" for number in range(n)]
        splits[name] = [Documents(names, torch.cat(documents).numpy(), lengths, sizes, ["text"] * n, np.arange(n))]
    dataset.write(folder, splits, about)
    return dataset.Dataset.open(folder)


def _seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    print(json.dumps({"step": step, "generate": generate, "loss": loss, "bits": bits}[what](*arguments)))
