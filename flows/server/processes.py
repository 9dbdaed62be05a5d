"""The processes behind `gpt up` and `gpt ui`: each in a session of its own, with a log in <home>/logs.

Notable: each carries a mark in its environment, which all that it starts inherits. So they are found and ended whatever they
have become, also when who started them was killed; never by a name, which others' processes may have too.
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
from pathlib import Path

import psutil

from flows import UserError
from flows.home import ROOT, home, shared_home

MARK = "GPT_UP"
OF_A_RUN = "PREFECT__FLOW_RUN_ID"  # Prefect's worker sets it for the processes of a flow run
HEAD = "--- started by gpt at "  # of what a log holds of one start
LOG_BYTES = 20_000_000  # a larger log is put aside when its service starts
RUN_GRACE = 120.0  # seconds for a training to leave its checkpoint
GRACE = 20.0


@dataclass(frozen=True)
class Service:
    name: str
    command: list[str]
    environment: dict[str, str] = field(repr=False)
    answers: str = ""
    """the address that answers when it is ready"""
    port: int = 0
    mend: str = ""
    """what to look at when it does not start"""

    @property
    def log(self) -> Path:
        return home() / "logs" / f"{self.name}.log"


def start(service: Service, mark: str) -> subprocess.Popen:
    service.log.parent.mkdir(exist_ok=True)
    if service.log.exists() and service.log.stat().st_size > LOG_BYTES:
        service.log.replace(service.log.with_suffix(".log.old"))
    with service.log.open("a") as log:
        print(f"{HEAD}{time.strftime('%Y-%m-%d %H:%M:%S')}", file=log, flush=True)
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
    """store: the database, which may hold a password, so it is no argument. auth: the users' file, if they need a password."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--artifacts-destination", (shared_home() / "mlartifacts").as_uri()]
    more = {"MLFLOW_BACKEND_STORE_URI": store, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    if auth:
        command += ["--app-name", "basic-auth"]
        more["MLFLOW_AUTH_CONFIG_PATH"] = str(auth)
    mend = f"its database is {without_password(store)}"
    return Service("mlflow", command, environment | more, f"{url}/health", port, mend)


def check_port(service: Service, host: str, option: str) -> None:
    """Raise UserError when the port is taken, and say by whom if that is a Prefect server, of which version.

    option: that chooses another.
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
    if service.name == "prefect" and (version := _prefect_version(service.answers.removesuffix("/health"))):
        from importlib.metadata import version as installed

        ours = installed("prefect")
        who += f" by another Prefect server, of version {version}"
        who += "" if version == ours else f", where this environment has {ours}: they may not understand each other"
    raise UserError(f"{who}\nend what listens there, or choose another port: {option} {service.port + 1}")


def answering(service: Service) -> bool:
    try:
        with urllib.request.urlopen(service.answers, timeout=5) as answer:
            return answer.status == 200
    except (OSError, ValueError):
        return False


def said(service: Service) -> str:
    """Its log since it was last started."""
    return service.log.read_text(errors="replace").rpartition(HEAD)[2]


def failure(service: Service, code: int) -> UserError:
    """What its log says, in a line or two."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", said(service))
    if service.name == "set-up" and "error: " in text:
        return UserError(text.rpartition("error: ")[2].strip())
    lines = [line.strip(" │|") for line in text.splitlines() if line.strip(" │|")]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Refused)\b.*[:(]|error: ", line)]
    words = without_password((named or lines or ["it said nothing"])[-1])[:300]
    mend = f"{service.mend}; " if service.mend else ""
    return UserError(f"{service.name} ended with code {code}: {words}\n{mend}its log: {service.log}")


def marked(mark: str, run: bool | None = None) -> list[psutil.Process]:
    """The processes of this mark; of those of flow runs only, or of the others only. A zombie is none."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            environment = process.environ()
            if environment.get(MARK) == mark and process.pid != os.getpid() and run in (None, OF_A_RUN in environment):
                found.append(process)
    return found


def end(mark: str, first: list[int], hurry: Callable[[], bool] = lambda: False) -> int:
    """End all of this mark, and return how many they were: trainings first, which leave a checkpoint, then the servers.

    first: process ids of the services, in the order of their end, the worker before the servers that it tells. hurry: whether
    to kill what is left without waiting on.
    """
    count = len(marked(mark))
    ours = {process.pid: process for process in marked(mark, run=False)}
    worker = ours.get(first[0]) if first else None
    with suppress(psutil.Error):
        if worker:
            worker.suspend()  # so that it starts nothing, and kills no run before the run has ended by itself
    runs = marked(mark, run=True)
    pids = {process.pid for process in runs}
    for process in runs:
        with suppress(psutil.Error):
            if process.ppid() not in pids:  # it passes the signal on to its own
                process.terminate()
    _wait(lambda: marked(mark, run=True), RUN_GRACE, hurry)
    for process in marked(mark, run=True):
        with suppress(psutil.Error):
            process.kill()
    for pid in first:
        with suppress(psutil.Error, KeyError):
            ours[pid].terminate()
            ours[pid].resume()
            _wait(lambda pid=pid: [p for p in marked(mark) if p.pid == pid or os.getsid(p.pid) == pid], GRACE, hurry)
    for process in marked(mark):
        with suppress(psutil.Error):
            process.kill()
    _wait(lambda: marked(mark), GRACE, lambda: False)
    return count


def end_session(pid: int) -> None:
    """What a service that died has left in its session, such as a server's own children, which hold its port."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def without_password(text: str) -> str:
    """Every address in a text without the user and password that it may hold."""
    return re.sub(r"(\w+://)[^/@\s]*@", r"\1", text)


def _prefect_version(api: str) -> str:
    try:
        with urllib.request.urlopen(f"{api}/admin/version", timeout=5) as answer:
            text = answer.read(100).decode(errors="replace").strip().strip('"')
    except (OSError, ValueError):
        return ""
    return text if re.fullmatch(r"\d[\w.+]*", text) else ""


def _wait(there: Callable[[], list], seconds: float, hurry: Callable[[], bool]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and not hurry() and there():
        time.sleep(0.2)
