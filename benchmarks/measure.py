"""Run one system in a process of its own, and watch it: memory, and who else was at work."""

import argparse
import json
import os
import platform
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import polars as pl
import psutil

ROOT = Path(__file__).resolve().parents[1]


def machine() -> dict[str, str]:
    cpu = Path("/proc/cpuinfo").read_text().partition("model name\t: ")[2].partition("\n")[0]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB"
    versions = {"python": platform.python_version(), "polars": pl.__version__, "commit": commit.strip()}
    return {"date": time.strftime("%Y-%m-%d"), "cpu": cpu, "cores": str(os.cpu_count()), "memory": memory} | versions


def watch(system: str, workers: int, command: list, n_bytes: int, every: float) -> dict:
    """What a command prints last, as JSON, with its rate, the memory of all its processes, and who else was at work."""
    before, own, peak = psutil.cpu_times(), os.times(), 0
    with subprocess.Popen([*map(str, command)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):  # one that ended meanwhile
                root = psutil.Process(process.pid)
                peak = max(peak, sum(one.memory_info().rss for one in [root, *root.children(recursive=True)]))
            time.sleep(every)
        output = process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{system} with {workers} workers ended with code {process.returncode}: see its out-{system}")
    after, own = psutil.cpu_times(), sum(os.times()[2:4]) - sum(own[2:4])  # of the process and all its own
    spent = {name: getattr(after, name) - getattr(before, name) for name in before._fields if "guest" not in name}
    others = sum(spent.values()) - spent["idle"] - spent["iowait"] - spent["steal"] - own
    run = {"system": system, "workers": workers, "bytes": n_bytes, "cpu_seconds": own, "peak": peak}
    run |= {"steal": spent["steal"] / sum(spent.values()), "others": max(0.0, others) / sum(spent.values())}
    run |= json.loads(output.splitlines()[-1])  # cpu_seconds without the start of the process, where a system says it
    if n_bytes:
        run["mb_per_s"] = n_bytes / 1e6 / run["seconds"]
    print(line(run), flush=True)
    return run


def empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def parse(parser: argparse.ArgumentParser, parts: tuple[str, ...]) -> argparse.Namespace:
    """The arguments, with --only some of `parts`, --memory in bytes and --cache as a whole path."""
    parser.add_argument("--only", default=",".join(parts), help=f"some of {','.join(parts)}; none: just --memory")
    given = parser.parse_args()
    given.cache = given.cache.resolve()
    given.memory = [float(size) * 1e6 for size in given.memory.split(",") if size]
    given.only = [part for part in given.only.split(",") if part != "none"]
    if unknown := set(given.only) - set(parts):
        parser.error(f"--only {', '.join(unknown)}: not one of {', '.join(parts)}, none")
    return given


def line(run: dict) -> str:
    """One run, as it ends."""
    who, busy = f"{run['system']:>9} {run['workers']}", f"steal {run['steal']:.0%}, others {run['others']:.0%}"
    if "loss" in run:
        return f"{who}: {run['loss']:.4f} nats in {run['seconds']:.1f} s, {busy}"
    if "tokens_per_second" in run:
        return f"{who}: {run['tokens_per_second']:,.0f} tokens/s, {busy}"
    return f"{who}: {run['mb_per_s']:6.1f} MB/s, {run['bytes'] / 1e6:,.0f} MB in {run['seconds']:.1f} s, {busy}"
