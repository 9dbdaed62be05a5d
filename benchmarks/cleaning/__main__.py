"""How fast the clean stage is: raw Wikipedia JSON to validated Parquet, beside its floor and its peers, in one run.

    make bench                                        # some eight minutes on two cores
    make bench BENCH="--memory 4000,8000"             # memory and growth as well
    python -m benchmarks.cleaning --megabytes 40 --runs 1 --only floor,ours

Every figure comes from a process of its own (systems.py). The systems take turns, so that what else the machine does falls on
all alike; the shares of CPU time that the hypervisor (steal) and other programs (others) took stand beside each figure.
README.md says what the figures mean.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl

from benchmarks import dump
from benchmarks.cleaning import tables
from benchmarks.measure import ROOT, empty, parse, watch
from benchmarks.tables import Results
from flows.stages.workers import SETTINGS

DATATROVE = ROOT / ".venv-bench"
PARTS = ("floor", "ours", "limit", "plain", "datatrove", "steps")
# What takes its turn in a round: system, workers, bytes of the dump at most.
TURNS = (
    ("floor", 1, 1e12),
    ("ours", 2, 1e12),
    ("limit", 2, 1e12),  # of what ours has measured
    ("floor", 2, 1e12),
    ("ours", 1, 5e8),
    ("plain", 2, 1.7e8),
    ("plain", 1, 8e7),
)
DATATROVE_BYTES = 20e6


def main() -> None:
    given = _arguments()
    if "limit" in given.only and "ours" not in given.only:
        raise SystemExit("limit decides from what ours has measured: name both in --only")
    cache, n_bytes = given.cache, given.megabytes * 1e6
    files = _dump(cache, max([n_bytes, *given.memory]))
    found = Results(given.json or cache / "cleaning.json", "runs", "memory")
    found |= {"steps": None, "equal": None}
    for _ in range(given.runs):
        for system, workers, most in TURNS:
            if system in given.only:
                found.add("runs", measure(cache, system, workers, subset(cache, files, min(n_bytes, most))))
    if {"plain", "ours"} <= set(given.only):
        found["equal"] = equal(cache, subset(cache, files, min(n_bytes, 8e7)))
    if "datatrove" in given.only:
        for run in datatrove(cache, files[0]):
            found.add("runs", run)
    if "steps" in given.only:
        command = [sys.executable, "-m", "benchmarks.cleaning.steps", files[0], str(given.runs)]
        output = subprocess.run(command, cwd=ROOT, env=os.environ | SETTINGS, stdout=subprocess.PIPE, check=True).stdout
        found["steps"] = json.loads(output)
    for size in given.memory:
        found.add("memory", measure(cache, "ours", 2, subset(cache, files, size), every=0.05))
    for path in cache.glob("out-*"):
        shutil.rmtree(path)
    found.write()
    (cache / "cleaning.md").write_text(tables.show(found), encoding="utf-8")


def measure(cache: Path, system: str, workers: int, files: list[Path], every: float = 0.5) -> dict:
    """One run of a system over files, its memory looked at `every` so many seconds; its results stay in out-<system>."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.cleaning.systems",
        system,
        workers,
        empty(cache / f"out-{system}"),
        *files,
    ]
    return watch(system, workers, command, sum(path.stat().st_size for path in files), every)


def datatrove(cache: Path, path: Path) -> list[dict]:
    """As `measure`, over the first articles of one file, made JSON Lines before the clock starts; none when not installed."""
    if not (DATATROVE / "installed").exists():
        print("datatrove is not installed and left out: `make bench` makes .venv-bench for it")
        return []
    lines = [json.dumps(article, ensure_ascii=False) + "\n" for article in json.loads(path.read_text(encoding="utf-8"))]
    lines = lines[: int(len(lines) * DATATROVE_BYTES / path.stat().st_size)]
    folder = empty(cache / "jsonl")
    for worker in range(2):
        (folder / f"{worker}.jsonl").write_text("".join(lines[worker::2]), encoding="utf-8")
    python, out = DATATROVE / "bin" / "python", empty(cache / "out-datatrove")
    command = [python, ROOT / "benchmarks" / "cleaning" / "datatrove_peer.py", folder, out]
    return [watch("datatrove", 2, command, sum(len(line.encode()) for line in lines), 0.5)]


def equal(cache: Path, files: list[Path]) -> bool:
    """Whether plain Python and ours keep the same texts under the same ids, and reject the same for the same reasons."""
    for system in ("plain", "ours"):
        measure(cache, system, 2, files)
    place = ["source_file", "source_row"]
    for kind, column in (("documents", "doc_id"), ("rejects", "reason")):
        paths = [cache / f"out-{system}" / kind / "*.parquet" for system in ("plain", "ours")]
        one, other = (pl.read_parquet(path).select(*place, column, "text", "metadata").sort(place) for path in paths)
        if not one.equals(other):
            raise AssertionError(f"plain Python and ours differ in {kind}: compare {paths[0]} with {paths[1]}")
    return True


def subset(cache: Path, files: list[Path], n_bytes: float) -> list[Path]:
    """The first files that make about n_bytes, one at least: links in a folder of their own, read once for the page cache."""
    folder = empty(cache / "subset" / files[0].parent.name)
    for path in files[: max(1, round(n_bytes / files[0].stat().st_size))]:
        os.link(path, folder / path.name)
        path.read_bytes()
    return sorted(folder.iterdir())


def _dump(cache: Path, n_bytes: float) -> list[Path]:
    """The dump's files, made unless they are there. SystemExit when the disk has no room for them and what follows."""
    cache.mkdir(parents=True, exist_ok=True)
    there = sum(path.stat().st_size for path in (cache / "dump").rglob("*.json"))
    needed = max(0, n_bytes - there) + 1.5 * n_bytes  # with results, and what the passes leave for each other
    if (free := shutil.disk_usage(cache).free) < needed:
        raise SystemExit(
            f"{cache} has {free / 1e6:,.0f} MB free; a dump of {n_bytes / 1e6:,.0f} MB and what is made of it need "
            f"{needed / 1e6:,.0f}: give a smaller --megabytes or --memory, or another --cache"
        )
    print(f"a dump of {n_bytes / 1e6:,.0f} MB in {cache / 'dump'}, made once", flush=True)
    return dump.write(cache / "dump", int(n_bytes))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cleaning", description="The clean stage and its peers.")
    parser.add_argument("--megabytes", type=float, default=2000, help="of JSON, for the floor and ours (2000)")
    parser.add_argument("--runs", type=int, default=3, help="rounds, of which medians are taken (3)")
    parser.add_argument("--memory", default="", help="sizes in MB to measure memory and growth at, such as 4000,8000")
    parser.add_argument("--cache", type=Path, default=ROOT / ".bench", help="for the dump and the results (.bench)")
    parser.add_argument("--json", type=Path, help="where the figures go (.bench/cleaning.json)")
    return parse(parser, PARTS)


if __name__ == "__main__":
    main()
