"""The decoder on a GPU, beside Hugging Face's GPT-2 where `transformers` is installed. One command, under ten minutes.

    python -m benchmarks.decoder.gpu --text input.txt            # needs torch, numpy, safetensors and sentencepiece, and gpt/
    python -m benchmarks.decoder.gpu --text input.txt --look     # tiny shapes and seconds, also on a CPU: does it run?

Prints a table for each: training of 124M parameters (tokens/s, share of the card's measured dense bfloat16 rate, memory),
tiny-shakespeare's characters to a full-pass loss, exactness of resume, generation. README.md says what the figures mean.
"""

import argparse
import functools
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.decoder.shapes import characters, full_pass
from benchmarks.decoder.systems import packed, updating
from gpt.config import ModelConfig, Runtime, TrainConfig, preset
from gpt.generation.batch import Batch
from gpt.generation.sample import token_rows
from gpt.machine.device import prepare
from gpt.model.transformer import GPT
from gpt.trainer import loop as trainer
from gpt.trainer.update import Learner

RUNS = 5
# tiny-shakespeare, 6 layers of 384, T 256: not tuned on a GPU yet.
QUICK = {"batch_size": 64, "lr": 5e-3, "matrix_lr": 1e-2, "weight_decay": 0.5}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoder.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="tiny-shakespeare's input.txt")
    parser.add_argument("--look", action="store_true", help="tiny shapes, to see that everything runs")
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not given.look:
        parser.error("no GPU is here; --look runs tiny shapes on the CPU")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, medians [least-most] of {RUNS}")
    _step(device, given.look)
    _characters(given.text, given.look)
    _resume(given.text)
    _generate(device, given.look)


def _step(device: torch.device, look: bool) -> None:
    """Training steps of 124M parameters, T 1024, bfloat16, compiled; ours in both families and the peer."""
    T, B, V, size = (64, 2, 512, "nano") if look else (1024, 32, 50304, "small")
    rate = _matrix_rate(device, 512 if look else 8192)
    print(f"\ntraining, T {T}, B {B}, bfloat16; dense products at {rate / 1e12:,.1f} TFLOP/s here")
    ids_BT, targets_BT = torch.randint(V, (2, B, T), device=device)
    systems: dict[str, Callable[[], tuple[Callable, float]]] = {}
    for family, optimizer in (("classic", "adamw"), ("modern", "muon")):
        systems[f"ours, {family}, {optimizer}"] = lambda family=family, optimizer=optimizer: _ours(
            ModelConfig(vocab_size=V, block_size=T, **preset(f"{family}-{size}")), optimizer, device, ids_BT, targets_BT
        )
    if importlib.util.find_spec("transformers"):
        systems["Hugging Face GPT-2"] = lambda: _hugging_face(T, V, size, device, ids_BT)
    for who, build in systems.items():
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        update, flops = build()
        for _ in range(3):
            update()
        tokens = [B * T / seconds for seconds in _timed(update, device, 1 if look else 20)]
        peak = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else float("nan")
        mfu = statistics.median(tokens) * flops / rate
        print(f"  {who:<24} {_spread(tokens)} tokens/s, {mfu:.1%} of the measured rate, {peak:.1f} GiB")
        del update


def _ours(config: ModelConfig, optimizer: str, device: torch.device, ids_BT, targets_BT) -> tuple[Callable, float]:
    torch.manual_seed(0)
    model = GPT(config).to(device)
    update = updating(model, optimizer, ids_BT, targets_BT, compiled=device.type == "cuda", bfloat16=True)
    return update, model.flops_per_token


def _hugging_face(T: int, V: int, size: str, device: torch.device, ids_BT) -> tuple[Callable, float]:
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = preset(f"classic-{size}")
    off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, "bos_token_id": 0, "eos_token_id": None}
    config = GPT2Config(
        vocab_size=V, n_positions=T, n_embd=shape["n_embd"], n_layer=shape["n_layer"], n_head=shape["n_head"], **off
    )
    config._attn_implementation = "sdpa"
    model = GPT2LMHeadModel(config).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    call = torch.compile(model, dynamic=False) if device.type == "cuda" else model

    def update() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = call(ids_BT, labels=ids_BT, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    same = GPT(ModelConfig(vocab_size=V, block_size=T, **shape))
    return update, same.flops_per_token


def _characters(text: Path, look: bool) -> None:
    """Seconds of training, evaluation left out, to the full-pass loss; wanted: 1.4697 or less in under a minute."""
    train_N, val_N = characters(str(text))
    T, steps, size = (64, 10, "nano") if look else (256, 700, "tiny")
    config = TrainConfig(steps=steps, **(QUICK | ({"batch_size": 4} if look else {})))
    print(f"\ntiny-shakespeare's characters, modern-{size}, T {T}, {steps} steps of {config.batch_size}")
    with tempfile.TemporaryDirectory() as folder:
        data = packed(Path(folder), [train_N], val_N, T, 65)
        shape = preset(f"modern-{size}") | {"tied": False, "dropout": 0.2}
        runtime = Runtime()
        for seed in (1, 2, 3):
            model = ModelConfig(vocab_size=data.vocab_size, block_size=T, **shape)
            learner = Learner(data, model, replace(config, seed=seed), runtime, prepare(runtime))
            start = time.perf_counter()
            for step in range(steps):
                loss, _ = learner.update(step)
            loss.item()
            seconds = time.perf_counter() - start
            score = functools.partial(_summed, learner.model.eval(), learner.machine.device)
            found = full_pass(score, val_N, T)
            print(f"  seed {seed}: {found:.4f} nats per character in {seconds:.1f} s, compiling included")


def _summed(model: GPT, device: torch.device, ids_BT: Tensor, targets_BT: Tensor) -> Tensor:
    return model.loss(ids_BT.to(device), targets_BT.to(device), reduction="sum")


def _resume(text: Path) -> None:
    """A run of 20 steps against one that is cut off after 10 and taken up again, deterministic algorithms on."""
    train_N, val_N = characters(str(text))
    config = TrainConfig(steps=20, batch_size=8, eval_every=10, checkpoint_every=10)
    runtime = Runtime(deterministic=True)
    with tempfile.TemporaryDirectory() as folder:
        data = packed(Path(folder) / "data", [train_N[:20_000]], val_N[:5_000], 64, 65)
        model = ModelConfig(vocab_size=data.vocab_size, block_size=64, **preset("modern-nano"))
        weights = {}
        for name in ("whole", "cut"):
            out = Path(folder) / name

            if name == "cut":
                with suppress(_Cut):
                    trainer.train(data.folder, out, model, config, runtime, on_step=_cut)
            trainer.train(data.folder, out, model, config, runtime)
            weights[name] = (out / "model" / "model.safetensors").read_bytes()
    verdict = "the same bytes" if weights["whole"] == weights["cut"] else "OTHER bytes"
    print(f"\nresume after a cut at step 10 of 20: {verdict}")


class _Cut(Exception):
    pass


def _cut(step: int, _: dict) -> None:
    if step == 10:
        raise _Cut


def _generate(device: torch.device, look: bool) -> None:
    """New tokens a second, 6 layers of 384, T 512, of all rows together."""
    new = 16 if look else 256
    print(f"\ngeneration, {new} new tokens, 6 layers of 384, T 512")
    torch.manual_seed(0)
    model = GPT(ModelConfig(vocab_size=4096, block_size=512, **preset("modern-tiny"))).to(device).eval()
    for rows in (1, 16):
        contexts = torch.randint(4096, (rows, 16)).tolist()
        list(Batch(model).run(token_rows(model, contexts, max_tokens=4)))
        rates = []
        for _ in range(RUNS):
            start = time.perf_counter()
            drawn = list(Batch(model).run(token_rows(model, contexts, max_tokens=new)))
            rates.append(len(drawn) / (time.perf_counter() - start))
        print(f"  batch {rows:<3} {_spread(rates)} tokens/s")


def _timed(update: Callable[[], None], device: torch.device, steps: int) -> list[float]:
    """Seconds of a step, RUNS times the mean of `steps`."""
    found = []
    for _ in range(RUNS):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(steps):
            update()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append((time.perf_counter() - start) / steps)
    return found


def _matrix_rate(device: torch.device, width: int) -> float:
    """FLOP/s of a square product in bfloat16: what the card does at best."""
    a, b = (torch.randn(width, width, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * width**3 / min(_timed(lambda: a @ b, device, 10))


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):,.0f} [{min(values):,.0f}-{max(values):,.0f}]"


if __name__ == "__main__":
    main()
