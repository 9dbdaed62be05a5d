"""The peer of decoder.py, in .venv-bench: Hugging Face's GPT-2, SDPA attention, fused AdamW, generate with its cache.

python benchmarks/hugging_face_decoder.py step SHAPE MODE SECONDS | generate BATCH FAMILY NEW
"""

import json
import sys
import time

import torch
from shapes import CONTEXT, GENERATION, PROMPT, SHAPES, rate
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


what, *arguments = sys.argv[1:]
print(json.dumps({"step": step, "generate": generate}[what](*arguments)))
