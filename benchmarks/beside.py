"""How fast each kind of work is beside 0, 1 and 2 busy processes, by the way in which torch's threads wait for one another.

    make bench BENCHES=beside                             # some fifteen minutes, on a machine that does nothing else
    make bench BENCHES=beside BENCH="--only training --rounds 5"

The environment sets how the threads wait, before torch is loaded. So each figure comes from a process of its own. The ways take
turns, so that a change of the machine's speed meets them all. Cleaning and encoding have no such threads, and only one way.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.measure import ROOT, empty, parse
from benchmarks.tables import Results, open_console, spread, table

WAYS: dict[str, dict[str, str]] = {
    "torch's own": {"GOMP_SPINCOUNT": "300000"},
    "ours": {},  # as gpt/__init__.py has it
    "asleep at once": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"},
    "one thread": {"BENCH_THREADS": "1"},
}
BUSY = (0, 1, 2)
WORKS = ("training", "evaluation", "generation", "encoding", "cleaning")
WITHOUT_WAYS = ("encoding", "cleaning")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="figures of each kind")
    parser.add_argument("--seconds", type=float, default=6, help="of work behind a figure")
    parser.add_argument("--cache", type=Path, default=ROOT / ".bench", help="where the figures go")
    parser.set_defaults(memory="")
    given = parse(parser, WORKS)
    home = given.cache / "beside"
    if not list(home.glob("artifacts/python-docs/train/*/manifest.json")):
        train = [sys.executable, "-m", "flows.cli", "train", "python-docs", "--steps", "20"]
        subprocess.run(train, cwd=ROOT, env=os.environ | {"GPT_HOME": str(empty(home))}, check=True, stdout=sys.stderr)
    found = Results(given.cache / "beside.json", "rates")
    for _ in range(given.rounds):
        for busy in BUSY:
            for work in given.only:
                for way in ways(work):
                    with beside(busy):
                        rate = measure(work, home, given.seconds, WAYS[way])
                    found.add("rates", {"work": work, "busy": busy, "way": way, "rate": rate})
                    print(f"{work:>10}, {busy} busy, {way}: {rate:,.0f}", flush=True)
    (given.cache / "beside.md").write_text(show(found, given.only), encoding="utf-8")


def ways(work: str) -> tuple[str, ...]:
    return ("ours",) if work in WITHOUT_WAYS else tuple(WAYS)


@contextmanager
def beside(busy: int) -> Iterator[None]:
    """Within the block, so many processes of one thread compute without a pause."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measure(work: str, home: Path, seconds: float, way: dict[str, str]) -> float:
    command = [sys.executable, "-m", "benchmarks.beside", "--work", work, str(home), str(seconds)]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    return float(subprocess.run(command, cwd=ROOT, env=env | way, check=True, stdout=subprocess.PIPE).stdout)


def show(found: Results, works: list[str]) -> str:
    console = open_console(found["machine"])
    units = dict.fromkeys(WORKS, "tokens/s") | {"cleaning": "kB/s"}
    for work in works:
        rows = []
        for way in ways(work):
            own = [run for run in found["rates"] if (run["work"], run["way"]) == (work, way)]
            rows.append([way, *(spread([run["rate"] for run in own if run["busy"] == busy]) for busy in BUSY)])
        table(
            console,
            f"{work}, {units[work]}, median [least-most]",
            ["threads wait", *(f"beside {n}" for n in BUSY)],
            rows,
        )
    return console.export_text()


def repeat(seconds: float, one: Callable[[int], int]) -> float:
    """Units a second of one(number), which returns how many it did. The first call is not counted."""
    one(0)
    started, n, done = time.perf_counter(), 0, 0
    while time.perf_counter() - started < seconds:
        n += 1
        done += one(n)
    return done / (time.perf_counter() - started)


def work(name: str, home: Path, seconds: float) -> float:
    """The rate of one kind of work in this process."""
    (packed,) = home.glob("artifacts/python-docs/pack/*/")
    (trained,) = home.glob("artifacts/python-docs/train/*/")
    (clean,) = home.glob("artifacts/python-docs/clean/*/")
    if name == "encoding":
        return encoding(packed, clean, seconds)
    if name == "cleaning":
        return cleaning(home, seconds)
    return with_torch(name, packed, trained, seconds)


def encoding(packed: Path, clean: Path, seconds: float) -> float:
    from flows.stages.documents import read_documents
    from tokenizers.tokenizer import Tokenizer

    tokenizer = Tokenizer(packed / "tokenizer.model")
    texts = [text for frame in read_documents(clean, "train") for text in frame["text"]]
    return repeat(seconds, lambda n: len(tokenizer.encode_flat(texts, os.cpu_count() or 1)[0]))


def cleaning(home: Path, seconds: float) -> float:
    """With one process for each core, as the clean stage does it, and their start."""
    from benchmarks.cleaning.systems import ours
    from benchmarks.dump import write
    from flows.stages.workers import SETTINGS

    os.environ.update(SETTINGS)  # what workers inherit
    files = write(home / "dump", 8_000_000)
    size = sum(path.stat().st_size for path in files) // 1000

    def one(_: int) -> int:
        ours(files, empty(home / "cleaned"), os.cpu_count() or 1)
        return size

    return repeat(seconds, one)


def with_torch(name: str, packed: Path, trained: Path, seconds: float) -> float:
    from gpt.checkpoint import load_model
    from gpt.config import Runtime, TrainConfig
    from gpt.data.dataset import Dataset
    from gpt.generation.batch import Batch
    from gpt.generation.sample import token_rows
    from gpt.machine.device import prepare
    from gpt.trainer.update import Learner

    runtime = Runtime(device="cpu", threads=int(os.environ.get("BENCH_THREADS", "0")))
    machine, dataset = prepare(runtime), Dataset.open(packed)
    model, _ = load_model(trained / "model")
    if name == "generation":
        starts = [[dataset.eos_id]] * 4
        return repeat(seconds, lambda n: len(list(Batch(model).run(token_rows(model, starts, max_tokens=64, seed=n)))))
    learner = Learner(dataset, model.config, TrainConfig(steps=10**6, batch_size=4, lr=0.001), runtime, machine)

    def update(number: int) -> int:
        learner.update(number)
        return 4 * dataset.block_size

    def evaluate(_: int) -> int:
        learner.evaluate(lambda *_: None)
        return dataset.splits["val"].n_tokens

    return repeat(seconds, update if name == "training" else evaluate)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        print(work(sys.argv[2], Path(sys.argv[3]), float(sys.argv[4])))
        sys.stdout.flush()
        os._exit(0)
    main()
