"""`gpt up`: Prefect server, MLflow server, work pool, deployments and a worker from one command, watched until told to stop.

Notable: a lock of the kernel says whether it runs, and <home>/up.json what it started, with process ids, their start times and
the mark of `processes`. So a second `gpt up`, `gpt down` and `gpt status` find it, and what a killed one left behind.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from flows import UserError
from flows.home import ROOT, home, prepare
from flows.server.access import GIVEN_BY, Doors, mlflow_users
from flows.server.processes import (
    Service,
    answering,
    check_port,
    end,
    end_session,
    failure,
    mlflow_server,
    prefect_server,
    said,
    start,
)
from flows.store.locks import take

START_SECONDS = 900  # on a fresh home two databases are made, which a small, busy machine takes minutes for
RESTARTS, RESTARTS_WITHIN = 5, 600.0  # so many in so many seconds, and it gives up
STOP_SECONDS = 240.0
ORDER = ("worker", "set-up", "mlflow", "prefect")  # in which they end


def state_file() -> Path:
    return home() / "up.json"


def state() -> dict:
    """What the last `gpt up` of this home wrote, and whether it is still there; empty when there is nothing."""
    try:
        found = json.loads(state_file().read_text())
    except (OSError, ValueError):
        return {}
    return found | {"alive": is_process(found)}


def is_process(entry: dict) -> bool:
    """Whether the process of this id still is the one that was started at that time."""
    with suppress(psutil.Error):
        process = psutil.Process(entry["pid"])
        return abs(process.create_time() - entry["created"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    return False


def up(doors: Doors, file: Path, say: Callable[[str], None] = print) -> None:
    """Start everything and stay until SIGINT, SIGTERM or SIGHUP. Says that it is up if it is already.

    Raises UserError when something does not start, or dies again and again; nothing is left running then.
    """
    prepare()
    with (home() / "up.lock").open("w+") as lock:
        if not take(lock):
            say(f"gpt is up already\n{told(wait_for_ready())}")
            return
        if left := state():
            if count := end(left["mark"], _pids(left)):
                say(f"ended {count} processes that an earlier gpt up left behind")
            state_file().unlink()
        _Supervisor(doors, file, say).run()


def down(say: Callable[[str], None] = print) -> None:
    """End what `gpt up` started in this home, or left behind."""
    found = state()
    with (home() / "up.lock").open("w+") as lock:
        if not take(lock):
            while not (found := state()).get("alive"):  # it has the lock, and is about to write that it is there
                if take(lock):
                    break
                time.sleep(0.1)
            say("stopping; a running training leaves a checkpoint first")
            with suppress(ProcessLookupError):
                os.kill(found["pid"], signal.SIGTERM)
            until = time.monotonic() + STOP_SECONDS
            while not take(lock) or is_process(found):  # it lets go a moment before it is gone
                if time.monotonic() > until:
                    raise UserError(
                        f"gpt up (process {found['pid']}) does not end; kill it, and gpt down ends the rest"
                    )
                time.sleep(0.2)
        found = state()  # there is none after an end in order
        count = end(found["mark"], _pids(found)) if found else 0
        state_file().unlink(missing_ok=True)
        if count:
            say(f"ended {count} processes that an earlier gpt up left behind")
    say("everything is down")


def detach(arguments: list[str], say: Callable[[str], None] = print) -> None:
    """`gpt up` in the background; returns when it is ready. Raises UserError with what it said when it ended instead."""
    log = home() / "logs" / "up.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "up", *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        while process.poll() is None:
            found = state()
            if found.get("pid") == process.pid and found["ready"]:
                break
            time.sleep(0.2)
    except BaseException:  # Ctrl-C while it starts
        process.terminate()
        process.wait(STOP_SECONDS)
        raise
    said = log.read_text()
    if process.poll():
        raise UserError(said.rpartition("error: ")[2].strip())
    say(said.strip().replace("Ctrl-C, or gpt down, stops it", "gpt down stops it"))


def told(found: dict) -> str:
    """What a person needs of a state that is ready."""
    lines = [f"Prefect        {found['prefect']}", f"MLflow         {found['mlflow']}"]
    lines += [f"second terminal: export PREFECT_API_URL={found['api']}"]
    if found["password"]:
        lines += [f"                 export PREFECT_API_AUTH_STRING=user:password   # those of {GIVEN_BY}"]
    return "\n".join(lines)


def wait_for_ready() -> dict:
    """The state of a `gpt up` that holds the lock, once it is ready."""
    until = time.monotonic() + START_SECONDS
    while not ((found := state()).get("ready") and found["alive"]):
        if time.monotonic() > until:
            raise UserError("another gpt up of this home has been starting for minutes; gpt down ends it")
        time.sleep(0.3)
    return found


class _Supervisor:
    def __init__(self, doors: Doors, file: Path, say: Callable[[str], None]):
        self.doors, self.file, self.say = doors, file, say
        self.mark = secrets.token_hex(8)
        self.running: dict[str, tuple[Service, subprocess.Popen]] = {}
        self.restarts: list[float] = []
        self.signals, self.ending = 0, False
        own = psutil.Process()
        self.state = {
            "pid": own.pid,
            "created": own.create_time(),
            "mark": self.mark,
            "ready": False,
            "password": bool(doors.password),
            "prefect": doors.address(doors.port),
            "api": doors.api,
            "services": {},
        }

    def run(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, self._signal)
        self._write()
        try:
            self._start_all()
            while not self.signals:
                self._watch()
                time.sleep(0.5)
        except _Stopped:
            pass
        finally:
            self.ending = True
            if self.signals:
                self.say("\nstopping; a running training leaves a checkpoint first (once more: at once)")
            end(self.mark, _pids(self.state), hurry=lambda: self.signals > 1)
            for _, process in self.running.values():
                process.wait(STOP_SECONDS)
            state_file().unlink(missing_ok=True)
        self.say("everything is down")

    def _start_all(self) -> None:
        doors, store = self.doors, os.environ["MLFLOW_TRACKING_URI"]
        servers = [prefect_server(doors.host, doors.port, doors.api, doors.prefect_environment())]
        if not (elsewhere := store.startswith("http")):
            auth = mlflow_users(home(), doors.user, doors.password) if doors.password else None
            url = doors.url(doors.mlflow_port)
            servers.append(mlflow_server(store, doors.host, doors.mlflow_port, url, doors.mlflow_environment(), auth))
        for server in servers:
            check_port(server, doors.host, "--mlflow-port" if server.name == "mlflow" else "--port")
        self.say(f"starting Prefect and MLflow (logs in {home() / 'logs'})")
        for server in servers:
            self._start(server)
        clients = doors.client_environment() | {"PREFECT_API_URL": doors.api}
        answer = home() / "logs" / "set-up.json"
        addresses = [server.answers for server in servers]
        command = [sys.executable, "-m", "flows.server.bootstrap", str(answer), str(self.file), *addresses]
        self._start(Service("set-up", command, clients))
        self._until(lambda: self.running["set-up"][1].poll() == 0)
        del self.running["set-up"], self.state["services"]["set-up"]
        made = json.loads(answer.read_text())

        if not elsewhere:
            clients |= {"MLFLOW_TRACKING_URI": doors.url(doors.mlflow_port)}
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "gpt", "--type", "process"]
        clients |= {"PREFECT_WORKER_QUERY_SECONDS": os.environ.get("PREFECT_WORKER_QUERY_SECONDS", "2")}
        worker = Service("worker", [*command, "--install-policy", "never"], clients)
        self._start(worker)
        self._until(lambda: "started!" in said(worker))
        base = store.rstrip("/") if elsewhere else doors.address(doors.mlflow_port)
        page = f"{base}/#/experiments/{made['experiment']}/runs?workflowType=machine_learning"
        self.state |= {"ready": True, "mlflow": page}
        self._write()
        self.say("\n".join([*made["lines"], "", told(self.state), "Ctrl-C, or gpt down, stops it"]))

    def _until(self, done: Callable[[], bool]) -> None:
        """Wait, while whatever has been started keeps running. Raises UserError when something ended, or takes too long."""
        until = time.monotonic() + START_SECONDS
        while not done():
            for service, process in self.running.values():
                if process.poll() not in (None, 0) or (process.poll() == 0 and service.name != "set-up"):
                    raise failure(service, process.returncode)
            if time.monotonic() > until:
                silent = [s.name for s, _ in self.running.values() if s.answers and not answering(s)] or ["the set-up"]
                raise UserError(f"{silent[0]} is not ready after {START_SECONDS} s; its log is in {home() / 'logs'}")
            time.sleep(0.2)

    def _watch(self) -> None:
        """Start again what has died."""
        for name, (service, process) in list(self.running.items()):
            if process.poll() is None:
                continue
            end_session(process.pid)
            now = time.monotonic()
            self.restarts = [at for at in self.restarts if now - at < RESTARTS_WITHIN] + [now]
            if len(self.restarts) > RESTARTS:
                raise failure(service, process.returncode)
            self.say(f"{name} ended with code {process.returncode}; starting it again ({service.log} says why)")
            self._start(service)

    def _start(self, service: Service) -> None:
        process = start(service, self.mark)
        self.running[service.name] = service, process
        created = psutil.Process(process.pid).create_time()
        self.state["services"][service.name] = {"pid": process.pid, "created": created, "answers": service.answers}
        self._write()

    def _write(self) -> None:
        new = state_file().with_suffix(".new")
        new.write_text(json.dumps(self.state))
        new.replace(state_file())

    def _signal(self, number: int, _) -> None:
        self.signals += 1
        if not self.ending:
            raise _Stopped


class _Stopped(BaseException):
    """By a signal."""


def _pids(found: dict) -> list[int]:
    return [found["services"][name]["pid"] for name in ORDER if name in found["services"]]
