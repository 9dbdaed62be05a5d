"""Where the time goes: every step of clean/shard.py on one file and one core, and every rule, ours beside plain Python's.

The real functions are clocked, no copies of them: a clock is read whenever `clean_shard` or `finish_shard` enters or leaves a
function named below, and between one rule and the next. It counts the CPU time of the process: what else runs does not matter.

    POLARS_MAX_THREADS=1 python -m benchmarks.cleaning.steps FILE RUNS        # JSON: nanoseconds a step, in each run

`python -m benchmarks.cleaning` gives it all the settings of a worker (flows/stages/workers.py).
"""

import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import polars as pl

from benchmarks.cleaning import plain
from benchmarks.cleaning.systems import RULES
from data_contracts.clean import shard as shards
from data_contracts.clean import split

# function: what comes before it since the last clock, what it does itself
CLEAN = {
    (shards, "read_files"): ("set aside", "read JSON"),
    (shards, "check"): ("contract of raw rows", "contract of raw rows"),
    (shards, "signatures"): ("samples, cut", "MinHash"),
    (shards, "measure_all"): ("samples, cut", "measure"),
    (shards, "identify"): ("samples, cut", "ids, split"),
    (shards, "judge"): ("samples, cut", "drop rules"),
    (shards, "write_parquet"): ("set aside", "keys, samples"),
}
FINISH = {
    (shards, "check"): ("read back, settled", "contract of documents"),
    (shards, "write_parquet"): ("contract of documents", "zstd Parquet"),
}


class Clock:
    def __init__(self):
        self.spent: dict[str, int] = defaultdict(int)
        self.last = time.process_time_ns()

    def lap(self, step: str) -> None:
        """What was spent since the last lap goes to `step`."""
        now = time.process_time_ns()
        self.spent[step] += now - self.last
        self.last = now

    def run(self, function: Callable, shard: shards.Shard, clocked: dict) -> dict | None:
        def around(called: Callable, before: str, inside: str) -> Callable:
            def call(*args, **kwargs):
                self.lap(before)
                result = called(*args, **kwargs)
                self.lap(inside)
                return result

            return call

        with ExitStack() as stack:
            for (module, name), laps in clocked.items():
                stack.enter_context(patch.object(module, name, around(getattr(module, name), *laps)))
            stack.enter_context(patch.object(shards, "text_rules", self.rules(shards.text_rules)))
            return function(shard)

    def rules(self, text_rules: Callable) -> Callable:
        """text_rules, whose list `apply_rules` goes through twice: to search for what is rare, then rule by rule."""
        clock, before = self, ["documents()", "search for the rare"]

        class Lapped(list):
            def __iter__(self):
                clock.lap(before.pop(0))
                for rule in super().__iter__():
                    yield rule
                    if not before:
                        clock.lap(rule.name)

        return lambda *args: Lapped(text_rules(*args))


def ours(path: Path) -> dict[str, int]:
    with tempfile.TemporaryDirectory(dir=path.parents[2]) as out:
        (work := Path(out) / "work").mkdir()
        shard, clock = shards.Shard("wiki", 0, {path.name: str(path)}, str(work), RULES, {}, sampled=100), Clock()
        clock.run(shards.clean_shard, shard, CLEAN)
        split.settle(pl.scan_parquet(shard.path("keys")), RULES, split.ENOUGH).write_parquet(shard.path("verdict"))
        clock.lap("settle")
        clock.run(shards.finish_shard, shard, FINISH)
    return clock.spent


def plain_python(path: Path) -> dict[str, int]:
    clock = Clock()
    articles = json.loads(path.read_text(encoding="utf-8"))
    clock.lap("read JSON")
    texts = [f"{article['title']}\n\n{article['text']}" for article in articles]
    clock.lap("documents()")
    for name, change in {**plain.TEXT_RULES, "measure": plain.measure, "MinHash": plain.minhash}.items():
        changed = [change(text) for text in texts]
        clock.lap(name)
        texts = changed if name in plain.TEXT_RULES else texts
    return clock.spent


if __name__ == "__main__":
    path, runs = Path(sys.argv[1]), int(sys.argv[2])
    ours(path)  # imports and first uses
    each = [ours(path) for _ in range(runs)]
    spent = {step: [run[step] for run in each] for step in each[0]}
    print(json.dumps({"bytes": path.stat().st_size, "ours": spent, "plain": plain_python(path)}))
