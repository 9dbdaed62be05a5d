"""What is known about hardware without torch: the cores that a process may use, and the peak speed of GPUs."""

import os

# Peak dense bfloat16 FLOP/s by a part of the device's name, from the makers' data sheets (without sparsity).
PEAK_FLOPS = {
    "B200": 2250e12, "H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12,
    "A10G": 70e12, "RTX 4090": 165e12, "RTX 3090": 71e12,
}  # fmt: skip


def gpu_peak_flops(name: str) -> float | None:
    """The entry of PEAK_FLOPS for a device name as CUDA reports it; None for a GPU that is not listed."""
    return next((flops for part, flops in PEAK_FLOPS.items() if part in name), None)


def usable_cores() -> int:
    """Cores that this process may run on, where the system has such a limit (Linux); else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
