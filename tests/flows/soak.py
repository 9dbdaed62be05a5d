"""Kills at random, over and over: what was begun is finished by a rerun, with the bytes of an undisturbed run.

    python -m tests.flows.soak --kills 60

Under a real `gpt up`, python-docs is trained again and again, from the command line or as a flow run of the worker. Before each
round its artifacts are removed from a random stage on. At a random moment a process is killed by SIGKILL: the training, the
worker with its flow run, Prefect's server or MLflow's. What does not finish by itself is started again. At the end a table is
printed, and what MLflow has of the runs is compared with what an undisturbed run logs. Exit code 1 if anything is lost.
"""

import argparse
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import psutil

from tests.conftest import ROOT, environment, gpt
from tests.flows.cli.test_command import STAGES, digests
from tests.flows.conftest import free_port
from tests.flows.workshop import SETTINGS, TRAIN

VICTIMS = ("training", "worker", "prefect", "mlflow")
PATIENCE = 600  # seconds that a round may take


class Soak:
    def __init__(self, folder: Path, seed: int):
        self.home, self.random = folder / "home", random.Random(seed)
        self.ports = [str(free_port()) for _ in range(3)]
        self.kills: Counter[str] = Counter()
        self.reruns: Counter[str] = Counter()
        self.rounds = self.ups = 0
        began = time.monotonic()
        undisturbed = folder / "undisturbed"
        done = gpt(undisturbed, *TRAIN)
        assert done.returncode == 0, done.stderr
        self.expected, self.seconds = digests(undisturbed), time.monotonic() - began
        self.logged = logged(undisturbed / "mlflow.db")

    def up(self) -> dict:
        """What `gpt up` says of its processes. It gives up after a few restarts in ten minutes; then it is started again."""
        with suppress(OSError, ValueError):
            state = json.loads((self.home / "up.json").read_text())
            if psutil.pid_exists(state["pid"]) and state["ready"]:
                return state
        self.ups += 1
        prefect, mlflow, serve = self.ports
        done = gpt(self.home, "up", "--detach", "--port", prefect, "--mlflow-port", mlflow, "--serve-port", serve)
        assert done.returncode == 0, done.stderr
        return json.loads((self.home / "up.json").read_text())

    def kill(self, victim: str, training: subprocess.Popen) -> bool:
        """Kill it with all its children; False if it is not there at the moment."""
        pid = training.pid if victim == "training" else self.up()["services"].get(victim, {"pid": 0})["pid"]
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE:
                for one in (process, *process.children(recursive=True)):
                    with suppress(psutil.NoSuchProcess):
                        one.kill()
                self.kills[victim] += 1
                return True
        return False

    def round(self, victim: str, most: int) -> None:
        """From a random stage on, with up to `most` kills; it ends when all five stages are there with the right digests."""
        self.rounds += 1
        self.up()
        for stage in STAGES[self.random.randrange(len(STAGES)) :]:
            shutil.rmtree(self.home / "artifacts" / "python-docs" / stage, ignore_errors=True)
        kills = self.random.randint(1, most)
        until = time.monotonic() + PATIENCE
        while True:
            assert time.monotonic() < until, f"a round with a killed {victim} did not end in {PATIENCE} s"
            training = self.flow_run() if victim == "worker" else self.command()
            if kills:
                kills -= 1
                with suppress(subprocess.TimeoutExpired):
                    training.wait(self.random.uniform(0, self.seconds))
                self.kill(victim, training)
            if self.wait(training) == 0:
                break
            self.reruns[victim] += 1
        assert digests(self.home) == self.expected, f"another digest after a killed {victim}"
        print(f"round {self.rounds}: {victim} killed, digests equal, {sum(self.kills.values())} kills", flush=True)

    def wait(self, training: "subprocess.Popen | FlowRun") -> int:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            self.up()  # it may have given up: too many of its processes died
            with suppress(subprocess.TimeoutExpired):
                return training.wait(5)
        raise AssertionError(f"what was killed did not end in {PATIENCE} s")

    def command(self) -> subprocess.Popen:
        command = [sys.executable, "-m", "flows.cli", *TRAIN]
        log = (self.home.parent / "train.log").open("ab")
        return subprocess.Popen(command, cwd=ROOT, env=environment(self.home), stdout=log, stderr=log)

    def flow_run(self) -> "FlowRun":
        return FlowRun(self.up()["api"])


class FlowRun:
    """A run of the deployment, with the two methods of a child process that a round needs."""

    pid = 0

    def __init__(self, api: str):
        self.api = api
        deployed = self.ask("deployments/name/train/python-docs")["id"]
        self.run = self.ask(f"deployments/{deployed}/create_flow_run", {"parameters": {"overrides": SETTINGS}})["id"]

    def ask(self, what: str, body: dict | None = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.api}/{what}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def wait(self, seconds: float) -> int:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with suppress(OSError):
                kind = self.ask(f"flow_runs/{self.run}")["state"]["type"]
                if kind in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                    return int(kind != "COMPLETED")
            time.sleep(0.5)
        raise subprocess.TimeoutExpired("flow run", seconds)


def logged(database: Path) -> dict[str, int]:
    """How many values a finished training has of each metric that is logged by step, in the newest run that has any."""
    query = "select key, count(*) from metrics where run_uuid = ? and step > 0 and key not like 'system/%' group by key"
    with closing(sqlite3.connect(database)) as db:
        runs = db.execute("select run_uuid from runs where status = 'FINISHED' order by start_time desc").fetchall()
        return next((counts for (run,) in runs if (counts := dict(db.execute(query, (run,))))), {})


def faults(database: Path, expected: dict[str, int]) -> list[str]:
    """What MLflow lacks, has twice, or still calls running."""
    found = []
    with closing(sqlite3.connect(database)) as db:
        for run, status in db.execute("select run_uuid, status from runs where status not in ('FINISHED', 'KILLED')"):
            found.append(f"run {run} is {status}")
        doubled = "select run_uuid, key, step, count(*) from metrics where key not like 'system/%' "
        doubled += "group by run_uuid, key, step having count(*) > 1"
        found += [f"{key} at step {step} is there {n} times in {run}" for run, key, step, n in db.execute(doubled)]
        counts = "select run_uuid, sum(key = 'train/loss') from metrics join runs using (run_uuid) "
        counts += "where status = 'FINISHED' and step > 0 group by run_uuid"
        for run, losses in db.execute(counts):
            if losses not in (0, expected["train/loss"]):
                found.append(f"run {run} has {losses} of {expected['train/loss']} values of train/loss")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--victims", nargs="+", choices=VICTIMS, default=VICTIMS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        soak = Soak(Path(folder), asked.seed)
        try:
            while (left := asked.kills - sum(soak.kills.values())) > 0:
                soak.round(soak.random.choice(asked.victims), min(3, left))
        finally:
            gpt(soak.home, "down")
        gpt(soak.home, "runs")  # sends what still waits
        wrong = faults(soak.home / "mlflow.db", soak.logged)
    print(f"\n{'killed':<10} {'times':>5} {'started again':>14}")
    for victim in VICTIMS:
        print(f"{victim:<10} {soak.kills[victim]:>5} {soak.reruns[victim]:>14}")
    print(f"{soak.rounds} rounds, digests equal in all; gpt up started {soak.ups} times")
    print(*(wrong or ["MLflow: no run left running, no metric missing or doubled"]), sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
