"""The processes behind `gpt up` and `gpt ui`: each in a session of its own, with a log in <home>/logs.

Notable: each has a mark in its environment, which its children inherit. So all of them are found and ended even if the process
that started them was killed, and no foreign process of the same name is ever touched.
"""

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

from flows import UserError
from flows.home import ROOT, home, shared_home
from flows.tracking.connection import without_password

MARK = "GPT_UP"
FLOW_RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"  # set by Prefect's worker for the processes of a flow run
LOG_HEADER = "--- started by gpt at "  # before what a service logs after each start
LOG_BYTES = 20_000_000  # a larger log is moved aside when its service starts
RUN_GRACE = 120.0  # seconds for a training to leave its checkpoint
GRACE = 20.0


@dataclass(frozen=True)
class Service:
    name: str
    command: list[str]
    environment: dict[str, str] = field(repr=False)
    health_url: str = ""
    """answers with status 200 when the service is ready"""
    port: int = 0
    hint: str = ""
    """what to check when it does not start"""

    @property
    def log(self) -> Path:
        return home() / "logs" / f"{self.name}.log"


def start(service: Service, mark: str) -> subprocess.Popen:
    service.log.parent.mkdir(exist_ok=True)
    if service.log.exists() and service.log.stat().st_size > LOG_BYTES:
        service.log.replace(service.log.with_suffix(".log.old"))
    with service.log.open("a") as log:
        print(f"{LOG_HEADER}{time.strftime('%Y-%m-%d %H:%M:%S')}", file=log, flush=True)
        return subprocess.Popen(
            service.command,
            cwd=ROOT,
            env=os.environ | service.environment | {MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in a terminal reaches `gpt` alone, which ends them in order
        )


def prefect_server(host: str, port: int, api: str, environment: dict[str, str]) -> Service:
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", str(port)]
    database = f"{os.environ['PREFECT_HOME']}/prefect.db"
    for name in ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL"):
        if os.environ.get(name):
            database = f"{without_password(os.environ[name])}, of {name}"
            break
    return Service("prefect", command, environment, f"{api}/health", port, f"its database is {database}")


def mlflow_server(
    store: str, host: str, port: int, url: str, environment: dict[str, str], auth: Path | None
) -> Service:
    """store: the database; it may hold a password, so it is passed by the environment. auth: the file of users, if there is a
    password."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--artifacts-destination", (shared_home() / "mlartifacts").as_uri()]
    more = {"MLFLOW_BACKEND_STORE_URI": store, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    if auth:
        command += ["--app-name", "basic-auth"]
        more["MLFLOW_AUTH_CONFIG_PATH"] = str(auth)
    hint = f"its database is {without_password(store)}"
    return Service("mlflow", command, environment | more, f"{url}/health", port, hint)


def check_port(service: Service, host: str, option: str) -> None:
    """Raise UserError if the port is in use, with the version of a Prefect server that has it.

    option: the command-line option that chooses another port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, service.port))
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise UserError(f"{host} port {service.port} cannot be listened on: {error.strerror}") from None
    who = f"port {service.port}, for {service.name}, is in use"
    if service.name == "prefect" and (version := _prefect_version(service.health_url.removesuffix("/health"))):
        from importlib.metadata import version as installed

        ours = installed("prefect")
        who += f" by another Prefect server, of version {version}"
        who += "" if version == ours else f", where this environment has {ours}: they may not understand each other"
    raise UserError(f"{who}\nend what listens there, or choose another port: {option} {service.port + 1}")


def is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (OSError, ValueError):
        return False


def read_log(service: Service) -> str:
    """The service's log since it was last started."""
    return service.log.read_text(errors="replace").rpartition(LOG_HEADER)[2]


def start_failure(service: Service, code: int) -> UserError:
    """An error of a line or two, from the service's log."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", read_log(service))
    if service.name == "set-up" and "error: " in text:
        return UserError(text.rpartition("error: ")[2].strip())
    lines = [line.strip(" │|") for line in text.splitlines() if line.strip(" │|")]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Refused)\b.*[:(]|error: ", line)]
    words = without_password((named or lines or ["its log is empty"])[-1])[:300]
    hint = f"{service.hint}; " if service.hint else ""
    return UserError(f"{service.name} ended with code {code}: {words}\n{hint}its log: {service.log}")


def find_processes(mark: str, run: bool | None = None) -> list[psutil.Process]:
    """The living processes with this mark. run: True for those of flow runs only, False for all others only."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            environment = process.environ()
            if (
                environment.get(MARK) == mark
                and process.pid != os.getpid()
                and run in (None, FLOW_RUN_VARIABLE in environment)
            ):
                found.append(process)
    return found


def end_all(mark: str, first: list[int], hurry: Callable[[], bool] = lambda: False) -> int:
    """End all processes with this mark and return their number: first the trainings, which save a checkpoint, then the servers.

    first: process ids of the services in the order in which they end, the worker before the servers that it reports to.
    hurry: returns whether to stop waiting and kill the rest.
    """
    count = len(find_processes(mark))
    ours = {process.pid: process for process in find_processes(mark, run=False)}
    worker = ours.get(first[0]) if first else None
    with suppress(psutil.Error):
        if worker:
            worker.suspend()  # so that it starts no run, and kills none that is saving its checkpoint
    runs = find_processes(mark, run=True)
    pids = {process.pid for process in runs}
    for process in runs:
        with suppress(psutil.Error):
            if process.ppid() not in pids:  # a run passes the signal on to its own children
                process.terminate()
    _wait_until_gone(lambda: find_processes(mark, run=True), RUN_GRACE, hurry)
    for process in find_processes(mark, run=True):
        with suppress(psutil.Error):
            process.kill()
    for pid in first:
        with suppress(psutil.Error, KeyError):
            ours[pid].terminate()
            ours[pid].resume()
            _wait_until_gone(partial(_session, mark, pid), GRACE, hurry)
    for process in find_processes(mark):
        with suppress(psutil.Error):
            process.kill()
    _wait_until_gone(lambda: find_processes(mark), GRACE, lambda: False)
    return count


def kill_session(pid: int) -> None:
    """Kill what a dead service left in its session, such as a server's children, which hold its port."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _prefect_version(api: str) -> str:
    try:
        with urllib.request.urlopen(f"{api}/admin/version", timeout=5) as answer:
            text = answer.read(100).decode(errors="replace").strip().strip('"')
    except (OSError, ValueError):
        return ""
    return text if re.fullmatch(r"\d[\w.+]*", text) else ""


def _session(mark: str, pid: int) -> list[psutil.Process]:
    return [process for process in find_processes(mark) if pid in (process.pid, os.getsid(process.pid))]


def _wait_until_gone(there: Callable[[], list], seconds: float, hurry: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not hurry() and there():
        time.sleep(0.2)
