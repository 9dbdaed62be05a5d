"""The processes behind `gpt up` and `gpt ui`: each in a session of its own, with a log in <home>/logs.

Notable: each has a mark in its environment, which its children inherit: the home. So all of them are found and ended even if
the process that started them was killed, and no foreign process of the same name is ever touched.
"""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from flows import UserError
from flows.home import ROOT, home, shared_home
from flows.server.access import AUTH_VARIABLE, Access
from flows.tracking.connection import without_password

MARK = "GPT_UP"
UVICORN = [sys.executable, "-m", "uvicorn", "--log-level", "warning", "--factory"]
WORKER = ["-m", "prefect", "worker"]  # how its command begins
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

    @property
    def log(self) -> Path:
        return home() / "logs" / f"{self.name}.log"


def start(service: Service) -> psutil.Popen:
    service.log.parent.mkdir(exist_ok=True)
    if service.log.exists() and service.log.stat().st_size > LOG_BYTES:
        service.log.replace(service.log.with_suffix(".log.old"))
    with service.log.open("a") as log:
        print(f"{LOG_HEADER}{time.strftime('%Y-%m-%d %H:%M:%S')}", file=log, flush=True)
        return psutil.Popen(
            service.command,
            cwd=ROOT,
            env=os.environ | {MARK: str(home())} | service.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in a terminal reaches `gpt` alone, which ends them in order
        )


def prefect_server(access: Access) -> Service:
    command = [*UVICORN, "flows.server.apps:create_prefect", "--host", access.host, "--port", str(access.port)]
    return Service("prefect", command, access.server_environment(), f"{access.api}/health", access.port)


def mlflow_server(store: str, access: Access) -> Service:
    """store: the database; it may hold a password, so it is passed by the environment."""
    command = [*UVICORN, "flows.server.apps:create_mlflow", "--host", access.host, "--port", str(access.mlflow_port)]
    environment = {
        "_MLFLOW_SERVER_FILE_STORE": store,
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",  # of experiments that others create
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": (shared_home() / "mlartifacts").as_uri(),
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SGI_NAME": "uvicorn",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    health = f"{access.local_url(access.mlflow_port)}/health"
    return Service("mlflow", command, environment | access.server_environment(), health, access.mlflow_port)


def completions_server(access: Access) -> Service:
    command = [sys.executable, "-m", "flows.cli", "serve", "--host", access.host, "--port", str(access.serve_port)]
    health = f"{access.local_url(access.serve_port)}/health"
    return Service("playground", command, {}, health, access.serve_port)


def check_port(service: Service, host: str, option: str) -> None:
    """Raise UserError if the port is in use, or not to be had. option: the command-line option that chooses another port."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, service.port), family=family).close()
    except OSError as error:
        mend = f"end what listens there, or choose another port: {option} {service.port + 1}"
        why = str(error.strerror).partition(" (while")[0]
        what = f"{service.name} cannot listen on {host} port {service.port}: {why}"
        raise UserError(f"{what}\n{mend}") from None


def is_healthy(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def ask(api: str, what: str, **body: object) -> Any:
    """Post to Prefect's API, with the password of the environment. Returns its answer; raises UserError if there is none."""
    given = os.environ.get("PREFECT_API_AUTH_STRING") or os.environ.get(AUTH_VARIABLE)
    login = httpx.BasicAuth(*given.split(":", 1)) if given else None
    try:
        answer = httpx.post(f"{api}/{what}", json=body, auth=login, timeout=10, trust_env=False)
        return answer.raise_for_status().json()
    except httpx.HTTPError as error:
        raise UserError(f"Prefect at {api} does not answer: {error}; its log: {home()}/logs/prefect.log") from None


def read_log(service: Service) -> str:
    """The service's log since it was last started."""
    return service.log.read_text(errors="replace").rpartition(LOG_HEADER)[2].partition("\n")[2]


def start_failure(service: Service, code: int) -> UserError:
    """An error of a line or two, from the service's log."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", read_log(service))
    if service.name in ("up", "set-up") and "error: " in text:  # our own
        return UserError(text.rpartition("error: ")[2].strip())
    lines = [line.strip(" │|") for line in text.splitlines() if line.strip(" │|")]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Refused)\b.*[:(]|error: ", line)]
    words = without_password((named or lines or ["its log is empty"])[-1])[:300]
    return UserError(f"{service.name} ended with code {code}: {words}\nits log: {service.log}")


def find(kind: str = "all") -> list[psutil.Process]:
    """The living processes of this home's `gpt up`: "run", those of flow runs, "worker", or "all"."""
    found, mark = [], str(home())
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            environment = process.environ()
            kinds = {"all": True, "run": FLOW_RUN_VARIABLE in environment, "worker": process.cmdline()[1:4] == WORKER}
            if environment.get(MARK) == mark and kinds[kind]:
                found.append(process)
    return found


def end_all(hurry: Callable[[], bool] = lambda: False) -> int:
    """End all processes of this home's `gpt up` and return their number: first the trainings, which save a checkpoint, then the
    worker, then the servers, to which both report. hurry: returns whether to stop waiting and kill the rest."""
    count = len(find())
    for process in find("worker"):
        process.suspend()  # so that it starts no run, and kills none that is saving its checkpoint
    for kind, grace in (("run", RUN_GRACE), ("worker", GRACE), ("all", GRACE)):
        found = {process.pid: process for process in find(kind)}
        for process in found.values():
            with suppress(psutil.Error):
                if kind != "run" or process.ppid() not in found:  # a run passes the signal on to its own children
                    process.terminate()
                    process.resume()
        until = time.monotonic() + grace
        while (left := find(kind)) and time.monotonic() < until + GRACE:
            for process in left if hurry() or time.monotonic() > until else ():
                with suppress(psutil.Error):
                    process.kill()
            time.sleep(0.2)
    return count
