"""One figure of decoder.py, of ours, in a process of its own; prints it as JSON.

python -m benchmarks.decoders step SHAPE MODE SECONDS      MODE: classic or modern, eager or compiled, float32 or bfloat16
python -m benchmarks.decoders generate BATCH FAMILY NEW
"""

import json
import sys
import time

import torch

from benchmarks.shapes import CONTEXT, GENERATION, PROMPT, SHAPES, rate
from gpt.config import ModelConfig, TrainConfig, preset
from gpt.generate import sample_batch
from gpt.model import GPT
from gpt.optim import build_optimizers


def model_of(family: str, layers: int, heads: int, width: int, T: int, V: int) -> GPT:
    torch.manual_seed(0)
    shape = {"n_layer": layers, "n_head": heads, "n_embd": width}
    return GPT(ModelConfig(vocab_size=V, block_size=T, **(preset(f"{family}-nano") | shape)))


def step(shape: str, mode: str, seconds: str) -> dict:
    """Tokens a second of forward, backward and update, without clipping and loader."""
    family, how, dtype = mode.split("-")
    layers, heads, width, T, B, V = SHAPES[shape]
    model = model_of(family, layers, heads, width, T, V).train()
    optimizers = build_optimizers(model, TrainConfig(optimizer="adamw" if family == "classic" else "muon"))
    loss_of = torch.compile(model.loss, dynamic=False) if how == "compiled" else model.loss
    ids_BT, targets_BT = torch.randint(V, (2, B, T))

    def update() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = loss_of(ids_BT, targets_BT)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return {"tokens_per_second": B * T * rate(update, float(seconds))}


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


def _seconds(call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    print(json.dumps({"step": step, "generate": generate}[what](*arguments)))
