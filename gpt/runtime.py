"""The machine: which device, which dtype, how many threads, and how fast it could be at best."""

import os
from dataclasses import dataclass

import torch

from gpt import GPTError
from gpt.config import Runtime

# Peak dense bfloat16 FLOP/s by what the device's name contains, from the makers' data sheets (without sparsity).
PEAK_FLOPS = {
    "B200": 2250e12, "H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12,
    "A10G": 70e12, "RTX 4090": 165e12, "RTX 3090": 71e12,
}  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """A Runtime with every "auto" decided."""

    device: torch.device
    dtype: torch.dtype
    peak_flops: float
    """FLOP/s at best in `dtype`, 0 where it is not known."""


def prepare(runtime: Runtime) -> Machine:
    """Decide device and dtype, and set torch's CPU threads. Raises GPTError for a device that is not there."""
    torch.set_num_threads(runtime.threads or _usable_cores())
    name = runtime.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    try:
        device = torch.device(name)
    except RuntimeError:
        raise GPTError(f"device {name!r} is not known; use auto, cpu, cuda or cuda:<number>") from None
    if (device.index or 0) >= available.get(device.type, 0):
        raise GPTError(
            f"device {name!r} is not here: {available.get(device.type, 0)} of that kind; use device auto or cpu"
        )
    bfloat16 = runtime.dtype == "bfloat16"
    if runtime.dtype == "auto":
        bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    peak = 0.0
    if device.type == "cuda" and bfloat16:
        peak = next((flops for part, flops in PEAK_FLOPS.items() if part in torch.cuda.get_device_name(device)), 0.0)
    return Machine(device, torch.bfloat16 if bfloat16 else torch.float32, peak)


def _usable_cores() -> int:
    """Cores that this process may run on, where the system tells (Linux); else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
