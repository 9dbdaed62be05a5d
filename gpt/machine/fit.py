"""Does a batch fit? Said before the training starts, or, where a GPU runs out after all, with the largest that would.

What a step needs is counted, not guessed: the bytes that autograd keeps of one sequence (whatever the model's options are),
beside weights, gradients and the optimizer's state. It is a lower bound, so nothing that would run is refused.
"""

import gc
from pathlib import Path

import torch
from torch import Tensor

from gpt import GPTError
from gpt.config import TrainConfig
from gpt.machine.device import Machine, autocast
from gpt.model.transformer import GPT

COMPILED = 0.4  # share of those bytes that surely remains when compiling has cheap ones computed again; not measured


def check_fit(model: GPT, rows: int, machine: Machine, config: TrainConfig, shards: int = 1) -> None:
    """Raises GPTError if `rows` sequences at once can't fit the device's free memory, with the number that may.

    model: on the device, before gradients and optimizer state exist. shards: devices that share those (FSDP).
    """
    free = free_bytes(machine.device)
    copies = 3 + bool(config.ema)  # gradient, and two moments; Muon keeps one, yet needs the other for its update
    fixed = copies * sum(parameter.nbytes for parameter in model.parameters()) // shards
    each = int(kept_bytes(model, machine) * (COMPILED if machine.compile else 1))
    if fixed + rows * each > free:
        fits = max(0, free - fixed) // each
        raise too_large(rows, int(fits), machine, f": it needs {_gb(fixed + rows * each)}, {_gb(free)} are free")


def too_large(rows: int, fits: int, machine: Machine, why: str = "") -> GPTError:
    """The error for a batch that does not fit. fits: the largest that does; 0 for none."""
    if fits:
        mend = f"at most {fits} can fit: set runtime.micro_batch_size to that (the step's batch stays the same)"
    else:
        mend = "not even one does: take a smaller model or block_size, or runtime.activation_checkpointing"
    return GPTError(f"a batch of {rows} sequences does not fit {machine.device}{why}; {mend}")


def kept_bytes(model: GPT, machine: Machine) -> int:
    """Bytes of the tensors that a forward pass of one sequence keeps for its backward pass, parameters left out."""
    known = {parameter.untyped_storage().data_ptr() for parameter in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}  # by storage; holding them keeps an address from being used twice

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in known:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _loss(model, 1, machine)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def largest_that_fits(model: GPT, rows: int, machine: Machine) -> int:
    """The largest of rows/2, rows/4 ... 1 whose forward and backward pass the device's memory holds, tried; 0 if none."""
    while rows := rows // 2:
        model.zero_grad(set_to_none=True)
        gc.collect()
        torch.cuda.empty_cache()
        try:
            _loss(model, rows, machine).backward()
        except torch.OutOfMemoryError:
            continue
        return rows
    return 0


def free_bytes(device: torch.device) -> int:
    """Memory that this process may still take on the device."""
    if device.type == "cuda":
        return (
            torch.cuda.mem_get_info(device)[0]
            + torch.cuda.memory_reserved(device)
            - torch.cuda.memory_allocated(device)
        )
    limits = []
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            limits.append(int(line.split()[1]) * 1024)
    most, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    if most.isdigit() and used.isdigit():  # "max" where a container has no limit
        limits.append(int(most) - int(used))
    return min(limits, default=2**63)  # elsewhere than on Linux: not known without a further library


def _loss(model: GPT, rows: int, machine: Machine) -> Tensor:
    ids_BT = torch.zeros(rows, model.config.block_size, dtype=torch.int64, device=machine.device)
    with autocast(machine.device, machine.dtype):
        return model.loss(ids_BT, ids_BT, None, "sum")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError:
        return ""


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB"
