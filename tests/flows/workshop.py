"""A Prefect server, everything of prefect.yaml on it, and workers, all of which may be killed and started again."""

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError

import psutil

from tests.conftest import ROOT, environment
from tests.flows.conftest import free_port, settings, stop, wait_for

PATIENCE = 300  # seconds for anything to happen; a loaded machine of two cores takes its time
# python-docs takes long enough in every stage to be caught in it; the checkpoints lie close, so a resumed run has several.
SETTINGS = {
    "tokenizer.vocab_size": 1024,
    "pack.block_size": 64,
    "model.n_layer": 2,
    "model.n_embd": 64,
    "model.dropout": 0.1,
    "train.steps": 360,
    "train.eval_every": 180,
    "train.checkpoint_every": 20,
    "sample.max_tokens": 10,
    "runtime.threads": 1,
}
TRAIN = ("train", "python-docs", *settings(SETTINGS))


def until(done: Callable, what: str, every: float = 0.5):
    """The first true value that done() returns, asked so often. Raises AssertionError when none comes."""
    end = time.monotonic() + PATIENCE
    while not (found := done()):
        assert time.monotonic() < end, f"{what}: not within {PATIENCE} s"
        time.sleep(every)
    return found


def command_lines(processes: Iterable[psutil.Process]) -> dict[int, list[str]]:
    """The command of each process by its id, without those that have ended in the meantime."""
    found = {}
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # a zombie too
            found[process.pid] = process.cmdline()
    return found


class Workshop:
    def __init__(self, folder: Path, database: Path | None = None):
        """database: a migrated one of Prefect's to begin with; made when missing, which takes longer."""
        if database:
            (folder / "prefect").mkdir(parents=True)
            shutil.copy(database, folder / "prefect")
        self.folder, self.port = folder, free_port()
        self.api, self.workers = f"http://127.0.0.1:{self.port}/api", []
        self.start_server()
        assert self.prefect("work-pool", "create", "gpt", "--type", "process").returncode == 0
        deployed = self.prefect("--no-prompt", "deploy", "--all")
        assert deployed.returncode == 0, deployed.stdout + deployed.stderr

    def close(self) -> None:
        for worker in self.workers:
            self.kill(worker)
        stop(self.server)

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        known = {"PREFECT_API_URL": self.api, "PREFECT_HOME": str(self.folder / "prefect"), "DO_NOT_TRACK": "true",
                 "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_WORKER_QUERY_SECONDS": "2"}  # fmt: skip
        return environment(home, **known | more)

    def start_server(self) -> None:
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port)]
        self.server = self._start(command, "server.log", self.environment(self.folder / "home"))
        wait_for(f"{self.api}/health", self.server, PATIENCE)

    def start_worker(self, home: Path, *arguments: str, **more: str) -> psutil.Process:
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "gpt", "--type", "process"]
        process = self._start([*command, "--install-policy", "never", *arguments], "worker.log",
                              self.environment(home, **more))  # fmt: skip
        self.workers.append(psutil.Process(process.pid))
        return self.workers[-1]

    def kill(self, worker: psutil.Process) -> None:
        """The worker, and all that it started, by SIGKILL."""
        with suppress(psutil.NoSuchProcess):
            for process in (worker, *worker.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def prefect(self, *arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "prefect", *arguments]
        more = self.environment(self.folder / "home")
        return subprocess.run(command, cwd=ROOT, env=more, capture_output=True, text=True, timeout=400)

    def python(self, program: str, home: Path, **more: str) -> str:
        """What a program of the project prints in this home."""
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=self.environment(home, **more), timeout=400,
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ask(self, what: str, body: dict | None = None, method: str = ""):
        """JSON of Prefect's API."""
        data, kind = None if body is None else json.dumps(body).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.api}/{what}", data, kind, method=method or None)

        def answered() -> list | None:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return [json.loads(answer.read() or "null")]
            except HTTPError as error:
                if error.code not in (423, 503):  # no slot is free, or its database is locked at the moment
                    raise
                return None

        return until(answered, what)[0]

    def run(self, deployment: str, **parameters) -> str:
        """Start a deployment; returns the id of the flow run."""
        deployed = self.ask(f"deployments/name/{deployment}")["id"]
        return self.ask(f"deployments/{deployed}/create_flow_run", {"parameters": parameters})["id"]

    def wait(self, run: str, *names: str) -> dict:
        """The flow run, when it is in a state of one of these names (none: in its last state)."""

        def there() -> dict | None:
            with suppress(OSError):  # the server is being started again
                found = self.ask(f"flow_runs/{run}")
                last = found["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
                assert not (names and last) or found["state"]["name"] in names, found["state"]
                return found if found["state"]["name"] in names or (last and not names) else None

        return until(there, f"{run} {names}")

    def tasks(self, run: str) -> dict[str, str]:
        """The state of each task of a flow run."""
        tasks = self.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})
        return {task["name"]: task["state"]["name"] for task in tasks}

    def artifacts(self, run: str) -> dict[str, dict]:
        found = self.ask("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run]}}})
        return {artifact["key"]: artifact for artifact in found}

    def _start(self, command: list[str], log: str, env: dict[str, str]) -> subprocess.Popen:
        with (self.folder / log).open("a") as file:
            return subprocess.Popen(command, cwd=ROOT, env=env, stdout=file, stderr=file)
