"""Loss against tokens of the two families, at equal shape, batch and tokens: tiny-shakespeare's characters, three seeds each.

python -m benchmarks.decoder.curves --text input.txt --out docs/curves.png         # some six minutes on two cores
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.decoder.shapes import SHAPES, characters, full_pass
from benchmarks.decoder.systems import QUICK, packed
from gpt.config import ModelConfig, Runtime, TrainConfig, preset
from gpt.data.dataset import Dataset
from gpt.machine.device import prepare
from gpt.trainer.update import Learner

STEPS, EVERY, SEEDS, JUDGED = 600, 50, (1, 2, 3), 30_000
# classic as nanoGPT trains it; modern with the rates of `make bench`. Each with a schedule that ends at STEPS.
FAMILIES = {
    "classic": {
        "optimizer": "adamw", "lr": 1e-3, "min_lr_ratio": 0.1, "warmup_steps": 100, "schedule": "cosine", "beta2": 0.99,
    },
    "modern": QUICK,
}  # fmt: skip
COLOURS = {"classic": "#8a8f98", "modern": "#2f6fb0"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decoder.curves", description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="tiny-shakespeare's input.txt")
    parser.add_argument("--out", type=Path, default=Path("docs/curves.png"))
    given = parser.parse_args()
    _, _, _, T, B, V = SHAPES["4L/128"]
    train_N, val_N = characters(str(given.text))
    with tempfile.TemporaryDirectory() as folder:
        data = packed(Path(folder), [train_N], val_N, T, V)
        curves = {name: [_curve(data, name, seed, val_N[:JUDGED]) for seed in SEEDS] for name in FAMILIES}
    for name, found in curves.items():
        print(name, *(f"{curve[-1]:.4f}" for curve in found))
    _draw(curves, B * T).savefig(given.out, dpi=110)


def _curve(data: Dataset, family: str, seed: int, judge_N: torch.Tensor) -> list[float]:
    """Nats per held-out character after each EVERY steps, from step 0 on."""
    layers, heads, width, T, B, _ = SHAPES["4L/128"]
    shape = {"n_layer": layers, "n_head": heads, "n_embd": width, "tied": False}
    model = ModelConfig(vocab_size=data.vocab_size, block_size=T, **(preset(f"{family}-nano") | shape))
    config, runtime = TrainConfig(steps=STEPS, batch_size=B, seed=seed, **FAMILIES[family]), Runtime(device="cpu")
    learner, found = Learner(data, model, config, runtime, prepare(runtime)), []
    for step in range(STEPS + 1):
        if step % EVERY == 0:
            found.append(full_pass(lambda ids, to: learner.model.loss(ids, to, reduction="sum"), judge_N, T))
        if step < STEPS:
            learner.update(step)
    return found


def _draw(curves: dict[str, list[list[float]]], tokens: int) -> Figure:
    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    axes = figure.subplots()
    x = np.arange(0, STEPS + 1, EVERY) * tokens / 1000
    for name, found in curves.items():
        runs = np.array(found)
        axes.fill_between(x, runs.min(0), runs.max(0), color=COLOURS[name], alpha=0.25, linewidth=0)
        axes.plot(x, np.median(runs, 0), color=COLOURS[name], linewidth=2)
        axes.annotate(
            f"{name} {np.median(runs[:, -1]):.3f}", (x[-1], np.median(runs[:, -1])), (6, 0), textcoords="offset points",
            va="center", color=COLOURS[name], weight="bold",
        )  # fmt: skip
    axes.set(xlabel="thousand characters seen", ylabel="nats per held-out character", ylim=(1.6, 3.4), xlim=(0, x[-1]))
    axes.set_title("tiny-shakespeare, 4 layers of 128, T 64, batch 12: medians and range of 3 seeds", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", alpha=0.3)
    return figure


if __name__ == "__main__":
    main()
