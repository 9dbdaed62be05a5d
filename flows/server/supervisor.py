"""`gpt up`: start Prefect, MLflow, the playground and a worker, set them up, and restart what dies until it is stopped.

Notable: a kernel lock says whether it runs. <home>/up.json has its addresses, and the ids and start times of its processes. By
these a second `gpt up`, `gpt down` and `gpt status` find it.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, Any

import psutil

from flows import UserError
from flows.home import home
from flows.pages.render import render_text
from flows.server import dead_runs, processes
from flows.server.access import AUTH_VARIABLE, Access
from flows.server.processes import Service
from flows.store.locks import take
from flows.tracking.connection import DATABASE, RUNS_PAGE

START_SECONDS = 900  # a small, busy machine takes minutes to create the two databases of a fresh home
RESTARTS, RESTARTS_WITHIN = 5, 600.0  # after more restarts than this in so many seconds it gives up
STOP_SECONDS = 240.0
_held: list[IO[str]] = []  # the lock, until this process is gone
say = partial(print, flush=True)


def state_file() -> Path:
    return home() / "up.json"


def state() -> dict:
    """What the last `gpt up` of this home wrote, and whether it is alive; empty if there is nothing."""
    try:
        found = json.loads(state_file().read_text())
    except (OSError, ValueError):
        return {}
    return found | {"alive": is_process(found)}


def status() -> dict:
    """`up` says whether everything is up, `api` is Prefect's address, and services has a row for each."""
    found, services = state(), []
    for name, entry in found.get("services", {}).items():
        since = datetime.fromtimestamp(entry["created"]).isoformat(" ", "seconds")
        is_up = "up" if is_process(entry) else "down"
        services.append({"service": name, "state": is_up, "since": since, "address": found.get(name, "")})
    if services and not (found["alive"] and found["ready"]):
        problem = "starting" if found["alive"] else "down: gpt down ends what is left"
        services.append({"service": "gpt up", "state": problem, "since": "", "address": ""})
    up = bool(services) and all(row["state"] == "up" for row in services)
    return {"up": up, "api": found.get("api", ""), "services": services}


def use_running() -> str:
    """Let Prefect use the server of a `gpt up` in this home, unless PREFECT_API_URL names another. Returns the address of its
    API; empty where Prefect will start a temporary server. One that asks for a password is used if the environment has it."""
    found, password = state(), os.environ.get("PREFECT_API_AUTH_STRING") or os.environ.get(AUTH_VARIABLE)
    if not found.get("ready") or not found["alive"] or (found.get("password") and not password):
        return os.environ.get("PREFECT_API_URL", "")
    if password:
        os.environ.setdefault("PREFECT_API_AUTH_STRING", password)
    return os.environ.setdefault("PREFECT_API_URL", found["api"])


def is_process(entry: dict) -> bool:
    """Whether the process with this id is still the one that was started then."""
    with suppress(psutil.Error):
        process = psutil.Process(entry["pid"])
        return abs(process.create_time() - entry["created"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
    return False


def up(access: Access, file: Path) -> None:
    """Start everything and stay until SIGINT, SIGTERM or SIGHUP. Says so if it is up already. Raises UserError when a service
    does not start or keeps dying; everything else is stopped then."""
    lock = (home() / "up.lock").open("w+")
    if not take(lock):
        say("gpt is up already\n" + render_text("addresses.txt", **state()))
        return
    _held.append(lock)
    _end_what_is_left()
    _Supervisor(access, file).run()


def down() -> None:
    """End what `gpt up` started in this home, or left behind."""
    asked, until = 0, time.monotonic() + STOP_SECONDS
    with (home() / "up.lock").open("w+") as lock:
        while not take(lock):
            if not asked and (found := state()).get("alive"):  # the lock is taken a moment before the state is written
                asked = found["pid"]
                say("stopping; a running training leaves a checkpoint first")
                with suppress(ProcessLookupError):
                    os.kill(asked, signal.SIGTERM)
            if time.monotonic() > until:
                raise UserError(f"gpt up (process {asked}) does not end; kill it, then gpt down ends the rest")
            time.sleep(0.2)
        _end_what_is_left()
    say("everything is down")


def detach(arguments: list[str]) -> None:
    """Start `gpt up` in the background and return when it is ready. Raises UserError with its error if it ended instead."""
    service = Service("up", [sys.executable, "-m", "flows.cli", "up", *arguments], {processes.MARK: ""})
    process = processes.start(service)
    try:
        while process.poll() is None and not ((found := state()).get("pid") == process.pid and found["ready"]):
            time.sleep(0.2)
    except BaseException:  # Ctrl-C while it starts
        process.terminate()
        process.wait(STOP_SECONDS)
        raise
    if process.returncode:
        raise processes.start_failure(service, process.returncode)
    say(processes.read_log(service).strip())


class _Supervisor:
    def __init__(self, access: Access, file: Path):
        self.access, self.file = access, file
        self.running: dict[str, tuple[Service, psutil.Popen]] = {}
        self.restarts: list[float] = []
        self.signals, self.ending = 0, False
        own = {"pid": os.getpid(), "created": psutil.Process().create_time()}
        addresses = {"prefect": access.public_url(access.port), "api": access.api}
        addresses["playground"] = access.public_url(access.serve_port)
        self.state: dict[str, Any] = own | addresses | {"password": bool(access.login), "ready": False}

    def run(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                signal.signal(number, self._signal)
        try:
            self._write()
            self._start_all()
            arguments = self.access.api, lambda: self.ending
            threading.Thread(target=dead_runs.watch, args=arguments, name="dead runs", daemon=True).start()
            while True:
                self._watch()
                time.sleep(0.5)
        except KeyboardInterrupt:
            say("\nstopping; a running training leaves a checkpoint first (once more: at once)")
        finally:
            self.ending = True
            processes.end_all(hurry=lambda: self.signals > 1)
            for _, process in self.running.values():
                process.wait(STOP_SECONDS)
            state_file().unlink(missing_ok=True)
        say("everything is down")

    def _start_all(self) -> None:
        access, store = self.access, os.environ["MLFLOW_TRACKING_URI"]
        elsewhere = store.startswith("http")
        servers = [processes.prefect_server(access)]
        if not elsewhere:
            servers.append(processes.mlflow_server(store, access))
        playground = processes.completions_server(access)
        options = {"prefect": "--port", "mlflow": "--mlflow-port", "playground": "--serve-port"}
        for server in (*servers, playground):
            processes.check_port(server, access.host, options[server.name])
        say(f"starting Prefect and MLflow (logs in {home() / 'logs'})")
        for server in servers:
            self._start(server)
        clients = access.client_environment() | {"PREFECT_API_URL": access.api}
        answer = home() / "logs" / "set-up.json"
        addresses = [server.health_url for server in servers]
        command = [sys.executable, "-m", "flows.server.bootstrap", str(answer), str(self.file), *addresses]
        self._start(Service("set-up", command, clients))
        self._until(lambda: self.running["set-up"][1].poll() == 0)
        del self.running["set-up"]
        made = json.loads(answer.read_text())

        if not elsewhere:
            clients |= {"MLFLOW_TRACKING_URI": access.local_url(access.mlflow_port), DATABASE: store}
        command = [sys.executable, *processes.WORKER, "start", "--pool", "gpt", "--type", "process"]
        clients |= {"PREFECT_WORKER_QUERY_SECONDS": os.environ.get("PREFECT_WORKER_QUERY_SECONDS", "2")}
        worker = Service("worker", [*command, "--install-policy", "never"], clients)
        self._start(playground)
        self._start(worker)
        self._until(lambda: "started!" in processes.read_log(worker) and processes.is_healthy(playground.health_url))
        base = store.rstrip("/") if elsewhere else access.public_url(access.mlflow_port)
        page = f"{base}/#/experiments/{made['experiment']}/{RUNS_PAGE}"
        self._write(ready=True, mlflow=page, deployments=made["deployments"], file=self.file.name)
        say(render_text("addresses.txt", **self.state))

    def _until(self, done: Callable[[], bool]) -> None:
        """Wait for done(). Raises UserError if a service ends meanwhile, or after START_SECONDS."""
        until = time.monotonic() + START_SECONDS
        while not done():
            for service, process in self.running.values():
                if process.poll() is not None and (process.returncode or service.name != "set-up"):
                    raise processes.start_failure(service, process.returncode)
            if time.monotonic() > until:
                raise UserError(f"it is not up after {START_SECONDS} s; the logs in {home() / 'logs'} say why")
            time.sleep(0.2)

    def _watch(self) -> None:
        """Restart what has died."""
        for name, (service, process) in list(self.running.items()):
            if process.poll() is None:
                continue
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # what it left in its session: a server's children hold its port
            now = time.monotonic()
            self.restarts = [at for at in self.restarts if now - at < RESTARTS_WITHIN] + [now]
            if len(self.restarts) > RESTARTS:
                raise processes.start_failure(service, process.returncode)
            say(f"{name} ended with code {process.returncode}; restarting it ({service.log} says why)")
            self._start(service)

    def _start(self, service: Service) -> None:
        self.running[service.name] = service, processes.start(service)
        self._write()

    def _write(self, **more: object) -> None:
        running = {name: process for name, (_, process) in self.running.items()}
        services = {name: {"pid": found.pid, "created": found.create_time()} for name, found in running.items()}
        self.state |= more | {"services": services}
        new = state_file().with_suffix(".new")
        new.write_text(json.dumps(self.state))
        new.replace(state_file())

    def _signal(self, *_: object) -> None:
        self.signals += 1
        if not self.ending:
            self.ending = True
            raise KeyboardInterrupt


def _end_what_is_left() -> None:
    """End what a killed `gpt up` left behind."""
    if count := processes.end_all():
        say(f"ended {count} processes that an earlier gpt up left behind")
    state_file().unlink(missing_ok=True)
