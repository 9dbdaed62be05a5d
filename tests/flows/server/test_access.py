"""Whom the servers of `gpt up` answer. The servers themselves, as a foreign page asks them: test_supervisor.py."""

import asyncio
import base64
import json
import os
import socket

import psutil
import pytest

from flows.server.access import HOSTS_VARIABLE, LOGIN_VARIABLE, Access
from flows.server.apps import guard
from flows.server.supervisor import use_running


def variables(host: str, monkeypatch, **given: str) -> dict[str, list[str]]:
    for name in ("PREFECT_SERVER_UI_API_URL", "PREFECT_SERVER_CORS_ALLOWED_ORIGINS", "MLFLOW_SERVER_ALLOWED_HOSTS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    access = Access(host, 4200, 5000)
    return {name: value.split(",") for name, value in access.server_environment().items()}


def test_on_this_machine_only_its_own_names_are_answered(monkeypatch):
    found = variables("127.0.0.1", monkeypatch)
    assert set(found[HOSTS_VARIABLE]) == {"localhost", "127.0.0.1", "[::1]", "127.0.0.1:4200"}
    assert "http://localhost:4200" in found["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"]
    assert "*" not in found["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"]
    assert set(found["MLFLOW_SERVER_ALLOWED_HOSTS"]) == {
        name for own in ("localhost", "127.0.0.1", "[::1]") for name in (own, f"{own}:5000")
    }
    assert found[LOGIN_VARIABLE] == [""]


@pytest.mark.parametrize("host", ["0.0.0.0", "gpu.example.org", "203.0.113.7", "2001:db8::7"])
def test_an_address_that_is_bound_is_answered_by_both_servers(host, monkeypatch):
    name = {"0.0.0.0": socket.gethostname().lower(), "2001:db8::7": "[2001:db8::7]"}.get(host, host)
    found = variables(host, monkeypatch)
    assert name in found[HOSTS_VARIABLE]
    assert {name, f"{name}:5000"} <= set(found["MLFLOW_SERVER_ALLOWED_HOSTS"])
    assert f"http://{name}:5000" in found["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"]


def test_the_address_of_a_proxy_is_answered(monkeypatch):
    proxy = {"PREFECT_SERVER_UI_API_URL": "https://Prefect.example.org/api", "MLFLOW_SERVER_ALLOWED_HOSTS": "mine"}
    found = variables("0.0.0.0", monkeypatch, **proxy)
    assert "prefect.example.org" in found[HOSTS_VARIABLE]
    assert "https://prefect.example.org" in found["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"]
    assert found["MLFLOW_SERVER_ALLOWED_HOSTS"] == ["mine"]


def answer(kind: str, headers: dict[str, str], origins: list[str] = (), login: str = "", path: str = "/") -> int | None:
    """The status that the middleware answers to a request; None where it lets it through."""
    reached, sent = [], []

    async def app(scope, receive, send) -> None:
        reached.append(scope)

    async def send(message: dict) -> None:
        sent.append(message)

    pairs = {"host": "localhost:4200"} | {name.lower(): value for name, value in headers.items()}
    scope = {"type": kind, "path": path, "headers": [(name.encode(), value.encode()) for name, value in pairs.items()]}
    guarded = guard(app, login=login) if login else guard(app, ["localhost", "[::1]", "proxy:8443"], origins)
    asyncio.run(guarded(scope, None, send))
    assert bool(reached) != bool(sent)
    return None if reached else sent[0]["status"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "LOCALHOST"}, 200),
        ({"Host": "[::1]:4200"}, 200),
        ({"Host": "proxy:8443"}, 200),
        ({"Host": "proxy:80"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost.evil.example:4200"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://localhost:4200"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost:8080"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_other_hosts_and_other_origins_are_refused(headers, status):
    for kind in ("http", "websocket"):
        assert answer(kind, headers, ["http://localhost:4200"]) == (None if status == 200 else status)


def test_a_user_may_allow_every_origin():
    assert answer("http", {"Origin": "http://evil.example"}, ["*"]) is None


def test_mlflow_asks_for_the_password_but_not_whether_it_is_up():
    given = {"Authorization": "Basic " + base64.b64encode(b"me:a long password").decode()}
    for kind in ("http", "websocket"):
        assert answer(kind, given, login="me:a long password") is None
        assert answer(kind, given, login="me:another password") == 401
        assert answer(kind, {}, login="me:a long password") == 401
    assert answer("http", {}, login="me:a long password", path="/health") is None
    assert answer("http", {}, login="me:a long password", path="/health/x") == 401


def test_a_server_that_is_up_in_this_home_is_used(home, monkeypatch):
    home.mkdir()
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"):
        monkeypatch.setenv(name, "")  # so that it is set back
        monkeypatch.delenv(name)

    def up(**more: object) -> None:
        own = {"pid": os.getpid(), "created": psutil.Process().create_time(), "api": "http://127.0.0.1:4200/api"}
        (home / "up.json").write_text(json.dumps(own | {"ready": True, "password": False} | more))

    assert use_running() == ""
    for other in ({"ready": False}, {"created": 1.0}, {"password": True}):  # starting, dead, with a password
        up(**other)
        assert use_running() == ""
        assert "PREFECT_API_URL" not in os.environ
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "me:a long password")
    assert use_running() == os.environ["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert os.environ["PREFECT_API_AUTH_STRING"] == "me:a long password"
    up()
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere:4200/api")
    assert use_running() == "http://elsewhere:4200/api"
