"""A Prefect server for one command, where no other is: what the command has recorded stays in the database of the home.

Notable: Prefect would start one itself, but only once it is loaded, and would load the server's packages into the command, too.
This one starts beside the command, which loads Prefect and MLflow meanwhile, and ends with it, even if it is killed: it reads
from a pipe that nobody writes to, until the pipe is closed. Its socket is open before it listens, so early requests wait.
"""

import atexit
import os
import socket
import subprocess
import sys
import urllib.request
from contextlib import suppress

from flows import UserError
from flows.home import ROOT, TEMPORARY_PREFECT
from flows.server.access import HOSTS_VARIABLE

STOP_SECONDS = 20.0
_running: list[subprocess.Popen] = []


def start() -> None:
    """Start one, if Prefect is not set to use another and may have a temporary one; `wait` says when it answers."""
    from prefect.context import refresh_global_settings_context
    from prefect.settings import get_current_settings

    settings = get_current_settings()
    if settings.api.url or not settings.server.ephemeral.enabled:
        return
    with socket.create_server(("127.0.0.1", 0)) as place:
        api, number = f"http://127.0.0.1:{place.getsockname()[1]}/api", place.fileno()
        more = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", HOSTS_VARIABLE: "127.0.0.1",
                "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": api}  # fmt: skip
        command = [sys.executable, "-m", "uvicorn", "--factory", "flows.server.apps:create_temporary"]
        command += ["--fd", str(number), "--log-level", "error"]
        # In a session of its own, so that Ctrl-C stops the command, which tells the server how it ended.
        _running.append(subprocess.Popen(command, cwd=ROOT, env=os.environ | more, stdin=subprocess.PIPE,
                                         pass_fds=[number], start_new_session=True))  # fmt: skip
    os.environ |= {"PREFECT_API_URL": api, TEMPORARY_PREFECT: api}
    refresh_global_settings_context()
    atexit.register(stop)


def wait() -> None:
    """Until the server answers, if one was started. Raises UserError if it ends instead, or does not answer."""
    for _ in _running:
        try:
            seconds = float(os.environ["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"])
            urllib.request.urlopen(f"{os.environ[TEMPORARY_PREFECT]}/health", timeout=seconds).close()
        except OSError as error:
            raise UserError(f"Prefect's temporary server: {error}; gpt up starts one that stays, with a log") from None


def stop() -> None:
    """End it, when it has written what the command has told."""
    for process in _running:
        assert process.stdin
        process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
