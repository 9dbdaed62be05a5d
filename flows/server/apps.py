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
from collections.abc import Awaitable, Callable, MutableMapping
from secrets import compare_digest
from signal import SIGTERM
from typing import Any

from fastapi.responses import PlainTextResponse

from flows.server.access import HOSTS_VARIABLE, LOGIN_VARIABLE

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable, Callable], Awaitable[None]]
Refuse = Callable[..., App]


def create_prefect() -> App:
    """The environment names the allowed hosts and origins (`Access.prefect_environment`). Within this process automations ask
    Prefect's app itself, by the name of no host."""
    from prefect.server.api import server
    from prefect.settings import PREFECT_SERVER_CORS_ALLOWED_ORIGINS

    hosts, origins = os.environ[HOSTS_VARIABLE].split(","), PREFECT_SERVER_CORS_ALLOWED_ORIGINS.value().split(",")
    return OwnAddresses(server.create_app(final=True), hosts, origins)


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

    login = os.environ.get(LOGIN_VARIABLE)
    return AsksForPassword(fastapi_app.app, login) if login else fastapi_app.app


class OwnAddresses:
    """ASGI middleware that refuses requests with another Host, or with an Origin that is not allowed (403)."""

    def __init__(self, app: App, hosts: list[str], origins: list[str], refuse: Refuse = PlainTextResponse):
        """hosts: with or without port; origins: whole, or * for all. refuse: makes the answer, of text and status."""
        self.app, self.hosts, self.origins, self.refuse = app, hosts, origins, refuse

    async def __call__(self, scope: Scope, receive: Callable, send: Callable) -> None:
        headers = {name: value.decode("latin-1").lower() for name, value in scope.get("headers", ())}
        host, origin = headers.get(b"host", ""), headers.get(b"origin", "")
        known_host = host in self.hosts or re.sub(r":\d+$", "", host) in self.hosts
        known_origin = not origin or origin in self.origins or "*" in self.origins
        answer = self.app
        if scope["type"] != "lifespan" and not (known_host and known_origin):
            problem = f"origin {origin}" if known_host else f"host {host}"
            answer = self.refuse(f"this server does not answer to {problem}\n", 403)
        await answer(scope, receive, send)


class AsksForPassword:
    """ASGI middleware that refuses requests without this user:password (401), but for the question whether the server is up."""

    def __init__(self, app: App, login: str, refuse: Refuse = PlainTextResponse):
        # Programs that speak OpenAI's API send the password alone.
        key, self.refuse = login.partition(":")[2], refuse
        self.app, self.expected = app, (b"Basic " + b64encode(login.encode()), f"Bearer {key}".encode())

    async def __call__(self, scope: Scope, receive: Callable, send: Callable) -> None:
        answer, given = self.app, dict(scope.get("headers", ())).get(b"authorization", b"")
        known = any(compare_digest(given, expected) for expected in self.expected)
        if scope["type"] != "lifespan" and scope["path"] != "/health" and not known:
            answer = self.refuse("user and password?\n", 401, {"WWW-Authenticate": 'Basic realm="MLflow"'})
        await answer(scope, receive, send)
