"""The Prefect server of `gpt up`: Prefect's own, which answers requests to its own addresses, and from its own pages, only.

Prefect itself answers every Host and every Origin, so that any page which somebody visits could create a deployment, whose
steps the worker runs: directly, or by a name that is made to mean this machine (DNS rebinding).
"""

import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from fastapi.responses import PlainTextResponse
from prefect.server.api import server
from prefect.settings import PREFECT_SERVER_CORS_ALLOWED_ORIGINS

from flows.server.access import HOSTS_VARIABLE

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Callable, Callable], Awaitable[None]]


def create_app() -> "OwnAddresses":
    """For uvicorn. The environment names the allowed hosts and origins (`Access.prefect_environment`). Within this process
    automations ask Prefect's app itself, by the name of no host."""
    hosts, origins = os.environ[HOSTS_VARIABLE].split(","), PREFECT_SERVER_CORS_ALLOWED_ORIGINS.value().split(",")
    return OwnAddresses(server.create_app(final=True), hosts, origins)


class OwnAddresses:
    """ASGI middleware that refuses requests with another Host (403), or with an Origin that is not allowed."""

    def __init__(self, app: App, hosts: list[str], origins: list[str]):
        """hosts: with or without port; origins: whole, or * for all."""
        self.app, self.hosts, self.origins = app, hosts, origins

    async def __call__(self, scope: Scope, receive: Callable, send: Callable) -> None:
        headers = {name: value.decode("latin-1").lower() for name, value in scope.get("headers", ())}
        host, origin = headers.get(b"host", ""), headers.get(b"origin", "")
        known_host = host in self.hosts or re.sub(r":\d+$", "", host) in self.hosts
        known_origin = not origin or origin in self.origins or "*" in self.origins
        if scope["type"] == "lifespan" or (known_host and known_origin):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            problem = f"origin {origin}" if known_host else f"host {host}"
            await PlainTextResponse(f"this server does not answer to {problem}\n", 403)(scope, receive, send)
