"""Where a result comes from, as plain values: the commit, the packages and the machine.

`machine` is what trained a decoder: it is kept with the artifact, since a later run that reuses the artifact may be on another
machine.
"""

import platform
import subprocess
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from flows.home import ROOT
from gpt.config import Runtime

# Whose versions a manifest has.
RECORDED_PACKAGES = ("torch", "numpy", "safetensors", "sentencepiece", "polars", "pandera", "py3langid", "prefect",
                     "mlflow", "kagglehub")  # fmt: skip
# Whose versions may change a stage's output.
DECIDING_PACKAGES = {
    "clean": ("python", "polars", "numpy", "py3langid"),
    "tokenize": ("sentencepiece", "numpy"),
    "pack": ("sentencepiece", "numpy"),
    "train": ("torch", "numpy", "safetensors"),
}
MODEL_PACKAGES = ("mlflow", "torch", "numpy", "safetensors", "sentencepiece")  # that a registered model requires


def git_state() -> dict:
    """The project's commit, and whether the work tree differs from it; empty where there is no git."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return {"commit": "", "dirty": False}


def package_versions() -> dict[str, str]:
    """The versions of Python and of RECORDED_PACKAGES."""
    return {"python": platform.python_version()} | {name: version(name) for name in RECORDED_PACKAGES}


def machine(runtime: Runtime) -> dict:
    """What trains under these settings on this machine, every "auto" decided, as JSON. Raises GPTError for a device that is
    missing."""
    import torch

    from gpt.machine.device import prepare

    decided = prepare(runtime)
    on_gpu = decided.device.type == "cuda"
    threads = runtime.threads or max(1, torch.get_num_threads() // runtime.processes)
    return {
        "cpu": cpu(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "device_name": torch.cuda.get_device_name(decided.device) if on_gpu else cpu(),
        "dtype": str(decided.dtype).removeprefix("torch."),
        "runtime": asdict(runtime) | {"device": decided.device.type, "threads": threads},
    }


def cpu() -> str:
    """The model of the CPU."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
