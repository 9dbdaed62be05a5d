"""The device to compute on: its dtype, threads, peak speed, and what to do where its memory is too small."""

import functools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from gpt import GPTError
from gpt.config import Runtime
from gpt.machine import parallel
from gpt.machine.hardware import gpu_peak_flops, usable_cores


@dataclass(frozen=True)
class Machine:
    """A Runtime with every "auto" decided."""

    device: torch.device
    dtype: torch.dtype
    peak_flops: float  # of matrix products in `dtype`: the maker's figure, or measured where it is not known
    compile: bool  # whether to torch.compile the training step


def prepare(runtime: Runtime) -> Machine:
    """Decide device, dtype and the rest, and set torch's global switches. Raises GPTError if the device does not exist."""
    processes_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(runtime.threads or max(1, usable_cores() // processes_here))
    device = _device(runtime)
    cuda = device.type == "cuda"
    supported = cuda and torch.cuda.is_bf16_supported(including_emulation=False)
    bfloat16 = supported if runtime.dtype == "auto" else runtime.dtype == "bfloat16"
    dtype = torch.bfloat16 if bfloat16 else torch.float32
    # What stays float32 on a GPU may use TF32; on a CPU the setting would lose precision for no speed.
    torch.set_float32_matmul_precision("high" if cuda else "highest")
    deterministic = runtime.deterministic and cuda
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    if deterministic != torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(deterministic)  # which imports torch._inductor, for seconds
    compiled = runtime.compile == "on" or (runtime.compile == "auto" and cuda)
    known = gpu_peak_flops(torch.cuda.get_device_name(device)) if cuda and bfloat16 else None
    peak_flops = known or _measured_flops(device, dtype, torch.get_num_threads())
    return Machine(device, dtype, peak_flops, compiled)


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """A context that computes matrix products in `dtype`."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


@contextmanager
def explain_out_of_memory(rows: int, device: torch.device) -> Iterator[None]:
    """Where the device runs out of memory in the block, raise a GPTError with the remedy instead. rows: sequences at once."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        fewer = f"set runtime.micro_batch_size to {rows // 2} or less (the step's batch stays the same)"
        smaller = "take a smaller model or block_size"
        raise GPTError(
            f"the memory of {device} does not hold the model and a batch of {rows}: {fewer if rows > 1 else smaller}, "
            "or set runtime.activation_checkpointing"
        ) from None


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device, or the machine itself, ran out of memory. On a CPU, torch raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _device(runtime: Runtime) -> torch.device:
    name = runtime.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    device = torch.device(name)
    if device.type == "cuda" and parallel.launched() > 1:
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))  # one for each process
    n_available, last = available[device.type], device.index or 0
    if device.type == "cuda":
        last = max(last, int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1)
    if last >= n_available:
        found = f"there are {n_available} of that kind"
        raise GPTError(f"device '{device}' is not here, or not for each process ({found}): use auto or cpu")
    return device


@functools.cache
def _measured_flops(device: torch.device, dtype: torch.dtype, _threads: int) -> float:
    """FLOP/s of the fastest of a few square matrix products: about 50 ms on a CPU core, once a process."""
    width, repeats = (768, 4) if device.type == "cpu" else (8192, 6)
    a, b = (torch.ones(width, width, dtype=dtype, device=device) for _ in range(2))
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        (a @ b)[0, 0].item()  # waits for the result
        seconds.append(time.perf_counter() - started)
    return 2 * width**3 / min(seconds)
