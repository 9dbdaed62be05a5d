"""What is known about hardware without torch: the cores that a process may use, and the peak speed of GPUs."""

import contextlib
import math
import os
from pathlib import Path

# Peak dense bfloat16 FLOP/s by a part of the device's name, from the makers' data sheets (without sparsity).
PEAK_FLOPS = {
    "B200": 2250e12, "H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12,
    "A10G": 70e12, "RTX 4090": 165e12, "RTX 3090": 71e12,
}  # fmt: skip


def gpu_peak_flops(name: str) -> float | None:
    """The entry of PEAK_FLOPS for a device name as CUDA reports it; None for a GPU that is not listed."""
    return next((flops for part, flops in PEAK_FLOPS.items() if part in name), None)


def usable_cores() -> int:
    """Cores that this process may use: on Linux within its affinity (taskset, Slurm) and its quota (containers); else all."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    return max(1, math.floor(min(len(os.sched_getaffinity(0)), cgroup_quota())))


def cgroup_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """The fewest cores that the process's control group, or one above it, may use at a time; infinite without a quota."""
    quota = math.inf
    with contextlib.suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            # Version 2: no controllers; version 1: a line for each hierarchy.
            _, controllers, place = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            folder = root / controllers / place.lstrip("/")
            for level in (folder, *folder.parents):
                if root in (level, *level.parents):
                    quota = min(quota, _quota(level))
    return quota


def _quota(folder: Path) -> float:
    """Of one control group: `cpu.max` of version 2, `cpu.cfs_quota_us` and `cpu.cfs_period_us` of version 1."""
    with contextlib.suppress(OSError, ValueError):
        limit, period = (folder / "cpu.max").read_text().split()
        return int(limit) / int(period)
    with contextlib.suppress(OSError, ValueError):
        limit, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(limit) / int(period) if int(limit) > 0 else math.inf
    return math.inf
