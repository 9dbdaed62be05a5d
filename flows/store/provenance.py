"""What a run's record says beside its parameters, as plain values: the recipe, the software and the machine.

Two questions are kept apart. `environment` is what the run found, asked at its beginning, with no need of torch. `machine` is
what really trained a decoder, asked where it was trained: it stays with the artifact, since a later run that reuses the
artifact may be on another machine.
"""

import os
import platform
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path

from data_contracts.sources.https import public
from flows.recipe import Recipe
from gpt.config import Runtime
from gpt.machine.hardware import usable_cores

DECIDING = ("python", "torch", "numpy", "sentencepiece", "polars")  # what numbers depend on: also tags of the run


def recipe_values(recipe: Recipe) -> dict:
    """The whole recipe, typed, as `recorded_recipe` reads it; without what an address may hold of secrets."""
    values = recipe.model_dump(mode="json")
    if values["source"]["url"]:
        values["source"]["url"] = public(values["source"]["url"])
    return values


def environment() -> dict:
    """The software and the hardware that this process finds: JSON."""
    import psutil

    installed = {found.metadata["Name"] or "?": found.version for found in distributions()}
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": gpus(),
        "packages": dict(sorted(installed.items(), key=lambda item: item[0].lower())),
    }


def tags(environment: dict) -> dict[str, str]:
    """The part of `environment` to find runs by."""
    versions = environment["packages"] | {"python": environment["python"]}
    found = {name: versions[name] for name in DECIDING if name in versions}
    return found | {
        "cpu": environment["cpu"],
        "cores": str(environment["cores"]),
        "gpus": ", ".join(environment["gpus"]),
    }


def machine(runtime: Runtime) -> dict:
    """What trains under these settings on this machine, every "auto" decided: JSON. Raises GPTError for a device that is not
    here."""
    import torch

    from gpt.machine.device import prepare

    decided = prepare(runtime)
    on_gpu = decided.device.type == "cuda"
    return {
        "cpu": cpu(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "device_name": torch.cuda.get_device_name(decided.device) if on_gpu else cpu(),
        "dtype": str(decided.dtype).removeprefix("torch."),
        "runtime": asdict(runtime)
        | {
            "device": decided.device.type,
            "threads": runtime.threads or max(1, torch.get_num_threads() // runtime.processes),
        },
    }


def cpu() -> str:
    """The model of the CPU, as the system calls it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def gpus() -> list[str]:
    """Names of NVIDIA's GPUs in this machine; empty where there is no driver."""
    with suppress(Exception):
        import pynvml

        pynvml.nvmlInit()
        return [
            pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(i)) for i in range(pynvml.nvmlDeviceGetCount())
        ]
    return []
