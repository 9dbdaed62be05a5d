"""The peer, in .venv-bench: Hugging Face's GPT-2, SDPA attention, fused AdamW, generate with its cache.

python benchmarks/decoder/hugging_face.py step SHAPE MODE SECONDS | generate BATCH FAMILY NEW | loss NAME SEED TEXT [STEPS]
"""

import json
import math
import sys
import time

import torch
import torch.nn.functional as F
from shapes import CONTEXT, GENERATION, PROMPT, SHAPES, characters, full_pass, rate
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel


def model_of(layers, heads, width, T, V):
    torch.manual_seed(0)
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": None}
    config = GPT2Config(vocab_size=V, n_positions=T, n_embd=width, n_layer=layers, n_head=heads, **off)
    config._attn_implementation = "sdpa"
    return GPT2LMHeadModel(config)


def step(shape, mode, seconds):
    _, how, dtype = mode.split("-")
    layers, heads, width, T, B, V = SHAPES[shape]
    model = model_of(layers, heads, width, T, V).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    call = torch.compile(model, dynamic=False) if how == "compiled" else model
    ids = torch.randint(V, (B, T))

    def update():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = call(ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return {"tokens_per_second": B * T * rate(update, float(seconds))}


def generate(batch, _, new):
    layers, heads, width, V = GENERATION
    model = model_of(layers, heads, width, CONTEXT, V).eval()
    ids = torch.randint(V, (int(batch), PROMPT))

    def write(n):
        how = GenerationConfig(do_sample=True, top_k=0, min_new_tokens=n, max_new_tokens=n, pad_token_id=0)
        with torch.inference_mode():
            return model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=how)

    write(8)
    start = time.perf_counter()
    written = write(int(new))
    return {"tokens_per_second": written[:, PROMPT:].numel() / (time.perf_counter() - start)}


def loss(_, seed, text, iterations="2000"):
    """nanoGPT's recipe for a CPU: 2,000 iterations, AdamW 1e-3 falling to 1e-4, weights decayed by 0.1, gradients clipped."""
    layers, heads, width, T, B, V = SHAPES["4L/128"]
    train_N, val_N = characters(text)
    model = model_of(layers, heads, width, T, V).train()
    torch.manual_seed(int(seed))
    model.init_weights()
    matrices = {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.1}
    vectors = {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0}
    optimizer = torch.optim.AdamW([matrices, vectors], betas=(0.9, 0.99), fused=True)
    start, steps, warmup = time.perf_counter(), int(iterations), 100
    for step in range(steps):
        cosine = 0.5 + 0.5 * math.cos(math.pi * (step - warmup) / (steps - warmup))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (step + 1) / warmup if step < warmup else 1e-4 + 9e-4 * cosine
        window_BT = torch.randint(len(train_N) - T, (B, 1)) + torch.arange(T)
        logits = model(train_N[window_BT], use_cache=False).logits
        F.cross_entropy(logits.flatten(0, 1), train_N[window_BT + 1].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - start

    def summed(ids_BT, targets_BT):
        logits = model(ids_BT, use_cache=False).logits
        return F.cross_entropy(logits.flatten(0, 1), targets_BT.flatten(), reduction="sum")

    return {"seconds": seconds, "loss": full_pass(summed, val_N, T), "steps": steps, "tokens": steps * B * T}


what, *arguments = sys.argv[1:]
print(json.dumps({"step": step, "generate": generate, "loss": loss}[what](*arguments)))
