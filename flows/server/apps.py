"""The servers of `gpt up` and `gpt ui` for uvicorn: Prefect's and MLflow's own, with what these leave open closed.

Prefect itself answers every Host and every Origin, so that any page which somebody visits could create a deployment, whose
steps the worker runs: directly, or by a name that is made to mean this machine (DNS rebinding).

MLflow's database names the folder of artifacts, so that a program on this machine reads and writes them without a server. To
the server's clients the folder is `mlflow-artifacts:/`, MLflow's name for what goes through it: they would write to their own
disk.
"""

import atexit
import gc
import os
import re
import sys
import threading
from base64 import b64encode
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from secrets import compare_digest
from signal import SIGTERM
from typing import Any

from fastapi.responses import PlainTextResponse

from flows.server.access import HOSTS_VARIABLE, LOGIN_VARIABLE

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable, Callable], Awaitable[None]]
Refuse = Callable[..., App]
Names = Collection[str]


def create_prefect() -> App:
    """The environment names the allowed hosts and origins (`Access.server_environment`). Within this process automations ask
    Prefect's app itself, by the name of no host."""
    from prefect.server.api import server
    from prefect.settings import PREFECT_SERVER_CORS_ALLOWED_ORIGINS

    hosts, origins = os.environ[HOSTS_VARIABLE].split(","), PREFECT_SERVER_CORS_ALLOWED_ORIGINS.value().split(",")
    return guard(server.create_app(final=True), hosts, origins)


def create_temporary() -> App:
    """Prefect, until standard input is closed (see `temporary`)."""
    gc.set_threshold(100_000, 50, 100)  # as the command, see `flows.cli.app`
    atexit.register(gc.freeze)

    def watch() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    return create_prefect()


def create_mlflow() -> App:
    """With the environment of `processes.mlflow_server`. Creates the tables of a new database."""
    from mlflow.server import Response, app, constants, fastapi_app, handlers

    store = os.environ[constants.BACKEND_STORE_URI_ENV_VAR]
    handlers.initialize_backend_stores(store, store, os.environ[constants.ARTIFACT_ROOT_ENV_VAR])
    folder = re.escape(os.environ[constants.ARTIFACTS_DESTINATION_ENV_VAR].encode())

    @app.after_request
    def through_server(response: Response) -> Response:
        """The folder of artifacts as clients know it; the content of an artifact stays as it is."""
        if response.is_json and not response.is_streamed:
            response.set_data(re.sub(folder + b'(/|(?="))', b"mlflow-artifacts:/", response.get_data()))
        return response

    return guard(fastapi_app.app, login=os.environ[LOGIN_VARIABLE])


def guard(
    app: App, hosts: Names = "*", origins: Names = "*", login: str = "", refuse: Refuse = PlainTextResponse
) -> App:
    """The app, which refuses requests with another Host, or with an Origin that is not allowed (403), and without this
    user:password (401), but for the question whether the server is up.

    hosts: with or without port; origins: whole; * for all of either. refuse: makes the answer, of text, status and headers.
    """
    # Programs that speak OpenAI's API send the password alone.
    expected = b"Basic " + b64encode(login.encode()), f"Bearer {login.partition(':')[2]}".encode()

    async def guarded(scope: Scope, receive: Callable, send: Callable) -> None:
        headers, answer = dict(scope.get("headers", ())), app
        host, origin = (headers.get(name, b"").decode("latin-1").lower() for name in (b"host", b"origin"))
        known_host = "*" in hosts or host in hosts or re.sub(r":\d+$", "", host) in hosts
        known_origin = not origin or "*" in origins or origin in origins
        known = any(compare_digest(headers.get(b"authorization", b""), one) for one in expected)
        if scope["type"] != "lifespan" and not (known_host and known_origin):
            problem = f"origin {origin}" if known_host else f"host {host}"
            answer = refuse(f"this server does not answer to {problem}\n", 403)
        elif login and scope["type"] != "lifespan" and scope["path"] != "/health" and not known:
            answer = refuse("user and password?\n", 401, {"WWW-Authenticate": 'Basic realm="MLflow"'})
        await answer(scope, receive, send)

    return guarded
