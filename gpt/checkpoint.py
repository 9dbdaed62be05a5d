"""Models and training states on disk: safetensors and JSON, nothing that could run code when read.

    <model>/model.safetensors   weights, float32, by parameter name
    <model>/config.json         format, version, ModelConfig, and metadata (tokenizer fingerprint, step, scores ...)
    <model>/adapter.safetensors if adapters were trained: these alone; they are part of the weights, too

A training state is the same folder plus

    optimizer.safetensors       "<parameter name>/<what the optimizer keeps>"
    state.json                  step and progress; batches and random numbers follow from the step (`gpt.trainer.update`)

A folder is built under a hidden name beside its place, flushed to disk, and renamed: it is there whole or not at all.
The same model gives the same bytes, whatever number of processes trained it, because sharded tensors are gathered. So with many
processes every one must call `save_model` and `save_state`; only the first writes or deletes anything.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from gpt import GPTError
from gpt.config import ModelConfig, Start
from gpt.machine.parallel import full, is_main, shard_like
from gpt.model.adapters import adapt, merged, trained
from gpt.model.transformer import GPT
from gpt.settings import from_dict, read_document

FORMATS = {"config": "gpt-from-scratch/model", "state": "gpt-from-scratch/state"}
VERSION = 1


def save_model(folder: Path, model: GPT, **metadata: Any) -> None:
    """Write weights and config.json, atomically; an older folder of that name is replaced. Adapters are merged into the
    weights, and written beside them.

    metadata: JSON values, given back by `load_model`; by convention tokenizer_fingerprint, eos_id and step are among them.
    """
    weights = merged(model)
    adapters = {name: tensor for name, tensor in trained(model).items() if name not in weights}
    _save(
        folder,
        {"model": weights} | ({"adapter": adapters} if adapters else {}),
        {"config": {"model": model.config.as_dict(), "metadata": metadata}},
    )


def load_model(
    folder: Path, device: torch.device | str = "cpu", base: Path | None = None
) -> tuple[GPT, dict[str, Any]]:
    """The model, in eval mode on `device`, and its metadata.

    base: folder of the model that the adapters of `folder` were trained for, if `folder` has adapters without the weights.
    Raises GPTError that names the file: missing, cut, foreign, of a newer version, or with other tensors than config.json says.
    """
    folder = Path(folder)
    config, metadata = read_model_config(folder)
    path = Path(base or folder) / "model.safetensors"
    with torch.random.fork_rng(devices=[]):  # loading a model during a training must not change its random numbers
        model = GPT(config)  # on the device "meta", importing torch._dynamo would take two seconds
        model.load_state_dict(read_tensors(path, model.state_dict()))
        if base:
            training = metadata["task"]["train"]
            if training.get("start") != sha256(path) or "adapter" not in training:
                raise GPTError(f"{folder} has no adapters that were trained for {path}")
            adapt(model, Start(**training["adapter"]))
            model.load_state_dict(read_tensors(folder / "adapter.safetensors", trained(model)), strict=False)
            weights, model = merged(model), GPT(config)
            model.load_state_dict(weights)
    return model.to(device).eval(), metadata


def read_model_config(folder: Path) -> tuple[ModelConfig, dict[str, Any]]:
    """Shape and metadata of a model, without its weights. Raises GPTError (see `load_model`)."""
    path = folder / "config.json"
    document = read_document(path, FORMATS["config"], VERSION, "model", "metadata")
    return from_dict(ModelConfig, document["model"], f"{path}, model"), document["metadata"]


def save_state(folder: Path, model: GPT, optimizers: list[Optimizer], step: int, progress: dict[str, Any]) -> None:
    """Write all that a run needs to resume after `step` updates exactly as if it had not stopped, atomically.

    progress: JSON values of the trainer's own (its evaluations, what it was asked to do).
    """
    # By name, not by the optimizers' numbers, so that states stay readable if the order of parameters changes.
    moments = {
        f"{name}/{what}": tensor
        for name, parameter in model.named_parameters()
        for optimizer in optimizers
        for what, tensor in optimizer.state.get(parameter, {}).items()
    }
    config = {"model": model.config.as_dict(), "metadata": {"step": step}}
    tensors = {"model": trained(model), "optimizer": moments}
    _save(folder, tensors, {"config": config, "state": {"step": step, "progress": progress}})


def write_progress(folder: Path, step: int, progress: dict[str, Any]) -> None:
    """Give a state another progress."""
    write_json(
        folder / "state.json", {"format": FORMATS["state"], "version": VERSION, "step": step, "progress": progress}
    )


def read_progress(folder: Path) -> tuple[int, dict[str, Any]]:
    """Step and progress of a saved state, without its tensors. Raises GPTError (see `load_model`)."""
    state = read_document(folder / "state.json", FORMATS["state"], VERSION)
    return state["step"], state["progress"]


@torch.no_grad()
def load_state(folder: Path, model: GPT, optimizers: list[Optimizer]) -> None:
    """Load a saved state into model and optimizers. Raises GPTError (see `load_model`)."""
    read_progress(folder)
    weights = trained(model)
    saved = read_tensors(folder / "model.safetensors", weights)
    path, names = folder / "optimizer.safetensors", {parameter: name for name, parameter in model.named_parameters()}
    moments = read_tensors(path)
    for optimizer in optimizers:
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            prefix = f"{names[parameter]}/"
            own = {key.removeprefix(prefix): moments[key] for key in moments if key.startswith(prefix)}
            if not own:
                raise GPTError(f"{path}: nothing for {names[parameter]}")
            for what, tensor in own.items():
                optimizer.state[parameter][what] = tensor if what == "step" else shard_like(parameter, tensor)
        optimizer.load_state_dict(optimizer.state_dict())  # which moves the tensors to the parameters' device
    for name, tensor in weights.items():
        tensor.copy_(shard_like(tensor, saved[name]))


def step_folder(root: Path, step: int) -> Path:
    """The folder of a step's checkpoint; names sort by step."""
    return root / f"step-{step:06d}"


def steps_in(root: Path) -> list[int]:
    """Steps of the finished checkpoints under `root`, ascending; half-written ones have another name."""
    found = (path.name.removeprefix("step-") for path in root.glob("step-*") if (path / "config.json").is_file())
    return sorted(int(number) for number in found if number.isdigit())


def keep_only(root: Path, steps: set[int]) -> None:
    """Delete every checkpoint under `root` but these, and what a killed run left half-written; without steps, the root too."""
    if is_main():
        keep = {step_folder(root, step).name for step in steps}
        for path in [*root.glob("step-*/"), *root.glob(".step-*/")]:
            if path.name not in keep:
                (path / "config.json").unlink(missing_ok=True)  # first: without it, it is no checkpoint any more
                shutil.rmtree(path)
        if not steps and root.is_dir():
            shutil.rmtree(root)


def sha256(path: Path) -> str:
    """The SHA-256 of a file; empty if there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, atomically."""
    if not is_main():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    _flush(temporary)
    temporary.replace(path)
    _flush(path.parent)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary sibling to fill; when the block ends well, it is flushed and takes the name `folder`."""
    temporary, replaced = (folder.with_name(f".{folder.name}.{what}") for what in ("partial", "replaced"))
    for leftover in (temporary, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for path in (*temporary.iterdir(), temporary):
            _flush(path)
        if folder.exists():
            folder.replace(replaced)  # a folder cannot be renamed onto a full one
        temporary.replace(folder)
        _flush(folder.parent)
    finally:
        for leftover in (temporary, replaced):
            shutil.rmtree(leftover, ignore_errors=True)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _save(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], documents: dict[str, dict[str, Any]]) -> None:
    """A folder of one .safetensors file for each group of tensors, and of one .json file for each document."""
    gathered = {  # by every process, before the first writes alone
        file: {name: full(tensor.detach()).cpu().contiguous() for name, tensor in named.items()}
        for file, named in tensors.items()
    }
    if is_main():
        with atomic_folder(folder) as temporary:
            for file, named in gathered.items():
                # One metadata key only: safetensors writes several in random order, and equal models should be equal files.
                save_file(named, temporary / f"{file}.safetensors", metadata={"format": "pt"})
            for file, document in documents.items():
                about = {"format": FORMATS[file], "version": VERSION}
                write_json(temporary / f"{file}.json", about | document)


def read_tensors(path: Path, expected: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The tensors of a file. Raises GPTError if their names, shapes and dtypes are not those of `expected`."""
    try:
        tensors = load_file(path)
    except FileNotFoundError:
        raise GPTError(f"{path} is missing") from None
    except (OSError, SafetensorError) as error:
        raise GPTError(f"{path} is cut or no safetensors file ({error})") from None
    if expected is None:
        return tensors
    for name in sorted(tensors.keys() ^ expected.keys()):
        raise GPTError(f"{path}: {name} is {'missing' if name in expected else 'not part of this model'}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype:
            wanted = f"{tuple(expected[name].shape)} {expected[name].dtype}"
            raise GPTError(f"{path}: {name} is {tuple(tensor.shape)} {tensor.dtype}, config.json says {wanted}")
    return tensors
