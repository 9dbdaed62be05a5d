"""The trainer's command line, for a machine that has only the folder gpt/ and a packed dataset.

python -m gpt.trainer --data DIR --config FILE.toml --out DIR
torchrun --nproc-per-node 8 -m gpt.trainer --data DIR --config FILE.toml --out DIR

[model]                      # any of ModelConfig's fields; vocab_size and block_size are the dataset's
preset = "modern-nano"
[train]                      # any of TrainConfig's
steps = 1000
[runtime]                    # any of Runtime's
device = "auto"
[start]                      # any of Start's: a trained model, whose shape (but dropout) then holds
folder = "MODEL"
"""

import argparse
import json
import logging
import os
import sys
import threading
import tomllib
from dataclasses import asdict
from datetime import timedelta
from functools import partial
from pathlib import Path

from gpt import GPTError
from gpt.checkpoint import read_model_config
from gpt.config import ModelConfig, Runtime, Start, TrainConfig, preset
from gpt.data.dataset import Dataset
from gpt.machine import parallel
from gpt.settings import from_dict
from gpt.trainer.loop import train


def main(arguments: list[str] | None = None) -> int:
    """Train from the command line. Returns the exit code: 2 for what a user can correct."""
    parser = argparse.ArgumentParser(prog="python -m gpt.trainer", description="Train a GPT on a packed dataset.")
    add = partial(parser.add_argument, type=Path, required=True)
    add("--data", metavar="DIR", help="folder of the packed dataset")
    add("--config", metavar="FILE", help=".toml or .json: model, train, runtime")
    add("--out", metavar="DIR", help="folder for the model; resumes if it holds a state")
    parser.add_argument("--ends-with-stdin", action="store_true", help=argparse.SUPPRESS)  # for gpt.machine.launch
    options = parser.parse_args(arguments)
    if options.ends_with_stdin:
        threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
    silent = not parallel.is_main()  # of many processes, the first one prints
    logging.basicConfig(level=logging.ERROR if silent else logging.INFO, format="%(message)s")
    try:
        model, config, runtime, start = read_config(options.config, Dataset.open(options.data))
        result = train(options.data, options.out, model, config, runtime, _print_step, _print_evaluation, start)
    except GPTError as error:
        if not silent:
            print(f"error: {error}", file=sys.stderr)
        return 2
    if not silent:
        test = f", {result.test['bpb']:.4f} of test" if result.test else ""
        print(
            f"{result.model}: {result.bits_per_byte:.4f} bits per byte of val{test} at step {result.step} of {result.steps}"
            f"{' (stopped early)' if result.advice else ''}, "
            f"{result.n_parameters:,} parameters, {result.tokens:,} tokens, {result.seconds:.1f} s"
        )
    return 0


def read_config(path: Path, dataset: Dataset) -> tuple[ModelConfig, TrainConfig, Runtime, Start | None]:
    """Read a .toml or .json file with the sections model, train, runtime and start. Raises GPTError for anything unknown."""
    try:
        text = path.read_text(encoding="utf-8")
        document = dict(json.loads(text)) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError, TypeError) as error:
        raise GPTError(f"{path} cannot be read: {error}") from None
    for name, section in document.items():
        if name not in ("model", "train", "runtime", "start"):
            raise GPTError(f"{path}: section {name!r} is not known; sections are model, train, runtime and start")
        if not isinstance(section, dict):
            raise GPTError(f"{path}: {name} must be a table of settings, not {section!r}")
    shape = {"vocab_size": dataset.vocab_size, "block_size": dataset.block_size}
    start = from_dict(Start, document["start"], str(path)) if "start" in document else None
    shape = (asdict(read_model_config(Path(start.folder))[0]) if start else shape) | document.get("model", {})
    if "preset" in shape:
        shape = preset(shape.pop("preset")) | shape
    model = from_dict(ModelConfig, shape, str(path))
    config = from_dict(TrainConfig, document.get("train", {}), str(path))
    return model, config, from_dict(Runtime, document.get("runtime", {}), str(path)), start


def _print_step(step: int, metrics: dict[str, float]) -> None:
    remaining = timedelta(seconds=round(metrics["train/eta_seconds"]))
    print(
        f"step {step:6d}  loss {metrics['train/loss']:.4f}  lr {metrics['train/lr']:.2e}  "
        f"grad {metrics['train/grad_norm']:.3f}  {metrics['train/tokens_per_second']:,.0f} tokens/s  "
        f"mfu {metrics['train/mfu']:.0%}  epoch {metrics['train/epoch']:.2f}  {remaining} left",
        flush=True,
    )


def _print_evaluation(step: int, metrics: dict[str, float], _folder: Path, best: bool) -> None:
    score = f"val loss {metrics['val/loss']:.4f}  {metrics['val/bpb']:.4f} bits per byte"
    print(f"step {step:6d}  {score}{'  best' if best else ''}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
