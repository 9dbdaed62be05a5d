"""One system, once, in a process of its own: JSON files in, clean texts out, the seconds printed as JSON.

    python -m benchmarks.cleaning.systems ours 2 OUT FILE...

floor    polars reads the JSON and writes zstd Parquet, no rule. Threads will do: polars lets go of Python's lock
ours     clean_corpus by the recipe `wiki`: documents, rejects, report, card
limit    the same with another min_words, decided from what the run of ours before it has measured
plain    the same rules in plain Python (plain.py)
The seconds are wall-clock, from before the workers start until after they ended.
"""

import json
import multiprocessing
import os
import sys
import time
import tomllib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl

from benchmarks.cleaning import plain as plain_python
from data_contracts import facts
from data_contracts.clean import clean_corpus
from data_contracts.clean.change import text_rules
from data_contracts.clean.shard import PARQUET
from data_contracts.corpora import wiki
from data_contracts.rules import Rules

RECIPE = Path(__file__).resolve().parents[2] / "flows" / "recipes" / "wiki.toml"
RULES = Rules(**tomllib.loads(RECIPE.read_text(encoding="utf-8"))["clean"])


def floor(files: list[Path], out: Path, workers: int) -> None:
    def one(path: Path) -> None:
        frame = pl.read_json(path, schema=dict.fromkeys(("id", "title", "text"), pl.String))
        frame.write_parquet(out / f"{path.stem}.parquet", **PARQUET)

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, files))


def ours(files: list[Path], out: Path, workers: int, rules: Rules = RULES, earlier: Path | None = None) -> None:
    from flows.pages.figures import write_data_card  # the workers import this file again and draw nothing

    about = {"corpus": "wiki", "title": "Articles", "licence": "not known", "source": {}}

    def describe(sample: pl.DataFrame, counts: dict) -> None:
        write_data_card(out / "card", facts.describe(out, sample, counts, rules, about))

    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        how = {"fan_out": pool.map, "describe": describe, "earlier": earlier}
        clean_corpus("wiki", files[0].parents[1], out, rules, **how)


def limit(files: list[Path], out: Path, workers: int) -> None:
    ours(files, out, workers, replace(RULES, min_words=RULES.min_words + 10), out.with_name("out-ours"))


def plain(files: list[Path], out: Path, workers: int) -> None:
    names = [rule.name for rule in text_rules(wiki.RULES, RULES)]
    if names != list(plain_python.TEXT_RULES):
        raise SystemExit(f"plain.py and the recipe do not have the same rules in the same order: {names}")
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        plain_python.write(pool.map(partial(plain_python.clean_file, RULES), files), out)


if __name__ == "__main__":
    # Here, for the workers import this file again and have no use for Prefect.
    from flows.stages.workers import SETTINGS

    os.environ.update(SETTINGS)  # what workers inherit; polars in this process has its own by now
    system, workers, out, *files = sys.argv[1:]
    start, before = time.perf_counter(), os.times()
    {"floor": floor, "ours": ours, "limit": limit, "plain": plain}[system](
        sorted(map(Path, files)), Path(out), int(workers)
    )
    seconds, cpu = (
        time.perf_counter() - start,
        sum(os.times()[:4]) - sum(before[:4]),
    )  # of the workers too, which have ended
    peak = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "main_peak": int(peak) * 1024}))
