"""`gpt up`: start a Prefect server, an MLflow server and a worker, set them up, and restart what dies until it is stopped.

Notable: a kernel lock says whether it runs. <home>/up.json lists its children: process ids, their start times and the mark of
`processes`. By these a second `gpt up`, `gpt down` and `gpt status` find it, and what a killed one left behind.
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
from typing import Any

import psutil

from flows import UserError
from flows.home import ROOT, home, set_defaults
from flows.server.access import AUTH_VARIABLE, Access, mlflow_users
from flows.server.processes import (
    Service,
    check_port,
    end_all,
    is_healthy,
    kill_session,
    mlflow_server,
    prefect_server,
    read_log,
    start,
    start_failure,
)
from flows.store.locks import take

START_SECONDS = 900  # a small, busy machine takes minutes to create the two databases of a fresh home
RESTARTS, RESTARTS_WITHIN = 5, 600.0  # after more restarts than this in so many seconds it gives up
STOP_SECONDS = 240.0
STOP_ORDER = ("worker", "set-up", "mlflow", "prefect")


def state_file() -> Path:
    return home() / "up.json"


def state() -> dict:
    """What the last `gpt up` of this home wrote, and whether it is alive; empty if there is nothing."""
    try:
        found = json.loads(state_file().read_text())
    except (OSError, ValueError):
        return {}
    return found | {"alive": is_process(found)}


def is_process(entry: dict) -> bool:
    """Whether the process with this id is still the one that was started then."""
    with suppress(psutil.Error):
        process = psutil.Process(entry["pid"])
        return abs(process.create_time() - entry["created"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    return False


def up(access: Access, file: Path, say: Callable[[str], None] = print) -> None:
    """Start everything and stay until SIGINT, SIGTERM or SIGHUP. Says so if it is up already.

    Raises UserError when a service does not start or keeps dying; everything else is stopped then.
    """
    set_defaults()
    with (home() / "up.lock").open("w+") as lock:
        if not take(lock):
            say(f"gpt is up already\n{format_addresses(wait_for_ready())}")
            return
        if previous := state():
            if count := end_all(previous["mark"], _pids(previous)):
                say(f"ended {count} processes that an earlier gpt up left behind")
            state_file().unlink()
        _Supervisor(access, file, say).run()


def down(say: Callable[[str], None] = print) -> None:
    """End what `gpt up` started in this home, or left behind."""
    found = state()
    with (home() / "up.lock").open("w+") as lock:
        if not take(lock):
            while not (found := state()).get("alive"):  # it has the lock and is about to write its state
                if take(lock):
                    break
                time.sleep(0.1)
            say("stopping; a running training leaves a checkpoint first")
            with suppress(ProcessLookupError):
                os.kill(found["pid"], signal.SIGTERM)
            until = time.monotonic() + STOP_SECONDS
            while not take(lock) or is_process(found):  # the lock is free a moment before the process is gone
                if time.monotonic() > until:
                    raise UserError(
                        f"gpt up (process {found['pid']}) does not end; kill it, and gpt down ends the rest"
                    )
                time.sleep(0.2)
        found = state()  # empty after an orderly end
        count = end_all(found["mark"], _pids(found)) if found else 0
        state_file().unlink(missing_ok=True)
        if count:
            say(f"ended {count} processes that an earlier gpt up left behind")
    say("everything is down")


def detach(arguments: list[str], say: Callable[[str], None] = print) -> None:
    """Start `gpt up` in the background and return when it is ready. Raises UserError with its error if it ended instead."""
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
    output = log.read_text()
    if process.poll():
        raise UserError(output.rpartition("error: ")[2].strip())
    say(output.strip().replace("Ctrl-C, or gpt down, stops it", "gpt down stops it"))


def format_addresses(found: dict) -> str:
    """The addresses of a running `gpt up`, and what to set in a second terminal."""
    lines = [f"Prefect        {found['prefect']}", f"MLflow         {found['mlflow']}"]
    lines += [f"second terminal: export PREFECT_API_URL={found['api']}"]
    if found["password"]:
        lines += [f"                 export PREFECT_API_AUTH_STRING=user:password   # as in {AUTH_VARIABLE}"]
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
    def __init__(self, access: Access, file: Path, say: Callable[[str], None]):
        self.access, self.file, self.say = access, file, say
        self.mark = secrets.token_hex(8)
        self.running: dict[str, tuple[Service, subprocess.Popen]] = {}
        self.restarts: list[float] = []
        self.signals, self.ending = 0, False
        own = psutil.Process()
        self.state: dict[str, Any] = {
            "pid": own.pid,
            "created": own.create_time(),
            "mark": self.mark,
            "ready": False,
            "password": bool(access.password),
            "prefect": access.public_url(access.port),
            "api": access.api,
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
            end_all(self.mark, _pids(self.state), hurry=lambda: self.signals > 1)
            for _, process in self.running.values():
                process.wait(STOP_SECONDS)
            state_file().unlink(missing_ok=True)
        self.say("everything is down")

    def _start_all(self) -> None:
        access, store = self.access, os.environ["MLFLOW_TRACKING_URI"]
        servers = [prefect_server(access.host, access.port, access.api, access.prefect_environment())]
        if not (elsewhere := store.startswith("http")):
            auth = mlflow_users(home(), access.user, access.password) if access.password else None
            url = access.local_url(access.mlflow_port)
            servers.append(
                mlflow_server(store, access.host, access.mlflow_port, url, access.mlflow_environment(), auth)
            )
        for server in servers:
            check_port(server, access.host, "--mlflow-port" if server.name == "mlflow" else "--port")
        self.say(f"starting Prefect and MLflow (logs in {home() / 'logs'})")
        for server in servers:
            self._start(server)
        clients = access.client_environment() | {"PREFECT_API_URL": access.api}
        answer = home() / "logs" / "set-up.json"
        addresses = [server.health_url for server in servers]
        command = [sys.executable, "-m", "flows.server.bootstrap", str(answer), str(self.file), *addresses]
        self._start(Service("set-up", command, clients))
        self._until(lambda: self.running["set-up"][1].poll() == 0)
        del self.running["set-up"], self.state["services"]["set-up"]
        made = json.loads(answer.read_text())

        if not elsewhere:
            clients |= {"MLFLOW_TRACKING_URI": access.local_url(access.mlflow_port)}
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "gpt", "--type", "process"]
        clients |= {"PREFECT_WORKER_QUERY_SECONDS": os.environ.get("PREFECT_WORKER_QUERY_SECONDS", "2")}
        worker = Service("worker", [*command, "--install-policy", "never"], clients)
        self._start(worker)
        self._until(lambda: "started!" in read_log(worker))
        base = store.rstrip("/") if elsewhere else access.public_url(access.mlflow_port)
        page = f"{base}/#/experiments/{made['experiment']}/runs?workflowType=machine_learning"
        self.state |= {"ready": True, "mlflow": page}
        self._write()
        self.say("\n".join([*made["lines"], "", format_addresses(self.state), "Ctrl-C, or gpt down, stops it"]))

    def _until(self, done: Callable[[], bool]) -> None:
        """Wait for done(). Raises UserError if a service ends meanwhile, or after START_SECONDS."""
        until = time.monotonic() + START_SECONDS
        while not done():
            for service, process in self.running.values():
                if process.poll() not in (None, 0) or (process.poll() == 0 and service.name != "set-up"):
                    raise start_failure(service, process.returncode)
            if time.monotonic() > until:
                silent = [
                    s.name for s, _ in self.running.values() if s.health_url and not is_healthy(s.health_url)
                ] or ["the set-up"]
                raise UserError(f"{silent[0]} is not ready after {START_SECONDS} s; its log is in {home() / 'logs'}")
            time.sleep(0.2)

    def _watch(self) -> None:
        """Restart what has died."""
        for name, (service, process) in list(self.running.items()):
            if process.poll() is None:
                continue
            kill_session(process.pid)
            now = time.monotonic()
            self.restarts = [at for at in self.restarts if now - at < RESTARTS_WITHIN] + [now]
            if len(self.restarts) > RESTARTS:
                raise start_failure(service, process.returncode)
            self.say(f"{name} ended with code {process.returncode}; restarting it ({service.log} says why)")
            self._start(service)

    def _start(self, service: Service) -> None:
        process = start(service, self.mark)
        self.running[service.name] = service, process
        created = psutil.Process(process.pid).create_time()
        self.state["services"][service.name] = {
            "pid": process.pid,
            "created": created,
            "health_url": service.health_url,
        }
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
    """A signal ends the start-up or the watching."""


def _pids(found: dict) -> list[int]:
    return [found["services"][name]["pid"] for name in STOP_ORDER if name in found["services"]]
