"""What the machinery costs: the command line, a run in which nothing changed, and a training beside the trainer alone.

    make bench BENCHES=overhead                          # some fifteen minutes on two idle cores
    make bench BENCHES=overhead BENCH="--only commands"

Seconds by the clock and, beside them, CPU seconds of the process and its children, which a busy machine changes less. README.md
says what the figures mean.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median

import psutil

from benchmarks.measure import ROOT, empty, parse
from benchmarks.tables import Results, open_console, spread, table
from flows.recipe import load_recipe, parse_override

OVERHEAD = {"gpt --help": 0.3, "gpt corpora": 0.5, "unchanged train/python-docs": 15}
PARTS = ("commands", "unchanged", "training")
PORT = 4299
API = f"http://127.0.0.1:{PORT}/api"
PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]
GPT = [sys.executable, "-m", "flows.cli"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="of each command; a training is run once for every two")
    parser.add_argument("--cache", type=Path, default=ROOT / ".bench", help="where the figures go")
    parser.add_argument(
        "--steps", default="200,1200", help="of trainings; the second is the recipe's own, one to two minutes"
    )
    parser.add_argument("--set", action="append", default=[], help="a setting of the trainings; may be given again")
    parser.set_defaults(memory="")
    given = parse(parser, PARTS)
    steps = tuple(map(int, given.steps.split(",")))
    home = empty(given.cache / "overhead")
    env = os.environ | {
        "GPT_HOME": str(home / "home"),
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_WORKER_QUERY_SECONDS": "2",  # as gpt up has it
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "true",
    }
    found = Results(given.cache / "overhead.json", "overhead")
    found["machine"]["load"] = f"{os.getloadavg()[0]:.1f}"
    note = partial(found.add, "overhead")
    if "commands" in given.only:
        for what in ("--help", "corpora"):
            for _ in range(given.runs):
                note({"what": f"gpt {what}", **timed([*GPT, what], env)})
    if {"unchanged", "training"} & set(given.only):
        with serving(home, env) as worker:
            env |= {"PREFECT_API_URL": API}
            if "unchanged" in given.only:
                for run in unchanged(env, home, worker, given.runs):
                    note(run)
            for _ in range(max(1, given.runs // 2) if "training" in given.only else 0):
                for run in training(env, home, steps, given.set):
                    note(run)
    (given.cache / "overhead.md").write_text(show(found, steps), encoding="utf-8")


def timed(command: list, env: dict[str, str], **printed: str) -> dict[str, float]:
    """Seconds of a command that must succeed, and figures that it prints. printed: a pattern by the figure's name."""
    began, before = time.perf_counter(), os.times()
    result = subprocess.run([*map(str, command)], cwd=ROOT, env=env, capture_output=True, text=True)
    seconds, after = time.perf_counter() - began, os.times()
    if result.returncode:
        raise SystemExit(
            f"{' '.join(map(str, command))} ended with {result.returncode}:\n{result.stdout}{result.stderr}"
        )
    figures = {name: float(re.search(pattern, result.stdout + result.stderr)[1]) for name, pattern in printed.items()}
    return {"seconds": seconds, "cpu_seconds": sum(after[2:4]) - sum(before[2:4])} | figures


@contextmanager
def serving(home: Path, env: dict[str, str]) -> Iterator[psutil.Process]:
    """A Prefect server, with train/python-docs deployed, and a worker, which is given."""
    server = [*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(PORT)]
    with (
        (home / "server.log").open("w") as log,
        subprocess.Popen(server, cwd=ROOT, env=env, stdout=log, stderr=log) as one,
    ):
        try:
            while not answers(f"{API}/health"):
                if one.poll() is not None:
                    raise SystemExit(f"the server did not start: see {log.name}")
                time.sleep(0.2)
            env = env | {"PREFECT_API_URL": API}
            timed([*PREFECT, "work-pool", "create", "gpt", "--type", "process"], env)
            timed([*PREFECT, "deploy", "-n", "train/python-docs"], env)
            work = [*PREFECT, "worker", "start", "--pool", "gpt", "--type", "process", "--install-policy", "never"]
            with subprocess.Popen(work, cwd=ROOT, env=env, stdout=log, stderr=log) as two:
                try:
                    yield psutil.Process(two.pid)
                finally:
                    two.terminate()
        finally:
            one.terminate()


def answers(url: str, body: dict | None = None) -> object:
    """What the server says; None while it does not."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with suppress(OSError), urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def unchanged(env: dict[str, str], home: Path, worker: psutil.Process, runs: int) -> Iterator[dict]:
    """A training with nothing to do, from `deployment run` until the server has it as completed."""
    command = [*PREFECT, "deployment", "run", "train/python-docs", "-p", "steps=20"]
    for number in range(runs + 1):  # the first has all to do
        tag, began = f"overhead-{number}", time.time()
        before = sum(worker.cpu_times()[:4])  # with that of the processes that it started and that have ended
        asked = timed([*command, "--tag", tag], env)
        tagged = {"flow_runs": {"tags": {"all_": [tag]}}}
        while (run := answers(f"{API}/flow_runs/filter", tagged)[0])["state_type"] not in (
            "COMPLETED",
            "FAILED",
            "CRASHED",
        ):
            time.sleep(0.1)
        if run["state_type"] != "COMPLETED":
            raise SystemExit(f"the run {run['state_type'].lower()}: see {home}/server.log")
        seconds = time.time() - began
        while worker.children():
            time.sleep(0.1)
        spent = asked["cpu_seconds"] + sum(worker.cpu_times()[:4]) - before
        if number:
            yield {
                "what": "unchanged train/python-docs",
                "seconds": seconds,
                "cpu_seconds": spent,
                "state": run["state_name"],
            }


def training(env: dict[str, str], home: Path, numbers: tuple[int, ...], settings: list[str]) -> Iterator[dict]:
    """The flow with its data stages done, and the trainer alone on the same packed data, for few steps and for many."""
    train = [*GPT, "train", "python-docs", *(word for setting in settings for word in ("--set", setting))]
    timed([*train, "--steps", "1"], env)
    (pack,) = (home / "home" / "artifacts" / "python-docs" / "pack").glob("[!.]*")
    config = home / "config.json"
    for steps in numbers:
        overrides = dict(parse_override(setting) for setting in settings)
        recipe = load_recipe("python-docs", steps=steps, overrides=overrides)
        sections = {name: asdict(getattr(recipe, name)) for name in ("model", "train", "runtime")}
        config.write_text(json.dumps(sections))
        alone = [
            sys.executable,
            "-m",
            "gpt.trainer",
            "--data",
            pack,
            "--config",
            config,
            "--out",
            empty(home / "alone"),
        ]
        yield {"what": "trainer alone", "steps": steps, **timed(alone, env)}
        flow = [*train, "--steps", str(steps), "--force", "train"]
        yield {"what": "flow", "steps": steps, **timed(flow, env, assessing=r"assessing ([\d.]+)")}


def show(found: dict, steps: tuple[int, int]) -> str:
    """The tables: printed, and as text."""
    console = open_console(found["machine"])
    same: dict[tuple, list[dict]] = {}
    for run in found["overhead"]:
        same.setdefault((run["what"], run.get("steps", "")), []).append(run)
    rows = []
    for (what, n), runs in same.items():
        cells = [
            spread([run[name] for run in runs], 2) if name in runs[0] else ""
            for name in ("seconds", "cpu_seconds", "assessing")
        ]
        wanted = f"<= {OVERHEAD[what]}" if what in OVERHEAD else ""
        rows.append([what, n, len(runs), *cells, wanted])
    head = ["what", "steps", "runs", "seconds", "CPU seconds", "assessing, seconds", "wanted"]
    table(console, "What the machinery costs", head, rows)
    if same.keys() >= {("flow", steps[1]), ("trainer alone", steps[0])}:
        console.print(_share(same, steps))
    return console.export_text()


def _share(same: dict[tuple, list[dict]], steps: tuple[int, int]) -> str:
    """The flow's seconds without the trainer's and those of assessing the model, as a fixed cost and a cost a step, and what
    that is of ten minutes' training."""
    of = {key: median(run["seconds"] - run.get("assessing", 0) for run in runs) for key, runs in same.items()}
    few, many = (of["flow", n] - of["trainer alone", n] for n in steps)
    each = (many - few) / (steps[1] - steps[0])
    fixed = few - each * steps[0]
    pace = (of["trainer alone", steps[1]] - of["trainer alone", steps[0]]) / (steps[1] - steps[0])
    whole = fixed + each * 600 / pace
    return (
        f"orchestration and tracking: {fixed:.1f} s and {1e3 * each:.2f} ms a step of {1e3 * pace:.1f} ms\n"
        f"of {steps[1]} steps: {many:.1f} s, {many / of['trainer alone', steps[1]]:.1%}; "
        f"of ten minutes of training: {whole:.1f} s, {whole / 600:.1%} (wanted: 2 %)"
    )


if __name__ == "__main__":
    main()
