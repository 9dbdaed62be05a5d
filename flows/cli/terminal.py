"""What the commands share: tables, and calling a flow as a person at a terminal would have it. What can be known in a second is
told before Prefect and MLflow are loaded, or a server is started."""

import json
import os
import re
import signal
import socket
import sys
import urllib.request
from functools import partial
from importlib import import_module
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table

from flows import UserError
from flows.home import home
from flows.tracking.connection import without_password

Json = Annotated[bool, typer.Option("--json", help="machine-readable")]
SECONDS = 3.0  # in which a server takes a connection
# What httpx, requests and OpenSSL read, and refuse with a traceback of theirs.
NETWORK = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


def call_flow(module: str, name: str, says: str, goes_on: bool = True, **arguments: Any) -> Any:
    """Call a flow of flows/<module>.py here, for a person who watches it, with a temporary Prefect server if there is no other.
    says: its first line. goes_on: whether a second call goes on where one that was stopped ended. Raises UserError where
    Prefect does not answer."""
    from flows import progress
    from flows.server import supervisor, temporary

    server = without_password(supervisor.use_running())
    check_addresses()
    # Under the command line the flow's own lines are enough; Prefect's log goes to its page all the same.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_LOGGING_LOGGERS_PREFECT_LEVEL", "INFO")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, partial(_stop, goes_on))
    progress.to_terminal = True
    where = f"home {home()}, Prefect at {server}" if server else f"home {home()}"
    progress.console.print(f"{says} ({where})", markup=False, soft_wrap=True)
    temporary.start()
    flow = getattr(import_module(f"flows.{module}"), name)  # while the server starts
    temporary.wait()
    try:
        return flow(**arguments)
    except Exception as error:  # Prefect's, when its server does not answer, or no longer does
        if type(error).__name__ != "ConnectError" and not (isinstance(error, RuntimeError) and "API" in str(error)):
            raise
        where = server or "the address of its profile, or its temporary server"
        raise UserError(f"Prefect does not answer at {where}: start the server, or unset PREFECT_API_URL") from None


def check_addresses() -> None:
    """Raise UserError for an address of Prefect or MLflow that cannot work, or where nobody listens. Shows no secret."""
    if names := [name for name in NETWORK if os.environ.get(name) or os.environ.get(name.lower())]:
        import httpx

        try:
            httpx.Client().close()
        except Exception as error:
            raise UserError(f"{', '.join(names)} cannot be used: {error}\nmend or unset what is wrong") from None
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if not re.match(r"(https?|sqlite|postgresql|mysql|mssql)(\+\w+)?://", uri):
        known = "sqlite:///FILE, postgresql://, mysql://, mssql://, http:// and https://"
        problem = f"MLFLOW_TRACKING_URI {without_password(uri)!r} cannot be used; what can is {known}"
        raise UserError(f"{problem}\nunset it to use the home's own")
    proxied = urllib.request.getproxies()
    for name, service in (("PREFECT_API_URL", "Prefect"), ("MLFLOW_TRACKING_URI", "MLflow")):
        address = os.environ.get(name, "")
        try:
            place = urlsplit(address)
            host, port = place.hostname, place.port or {"http": 80, "https": 443}.get(place.scheme)
            if address and service == "Prefect" and not (host and port):
                raise ValueError("it is no address such as http://127.0.0.1:4200/api")
            if host and port and (place.scheme not in proxied or host == "localhost" or host.startswith("127.")):
                socket.create_connection((host, port), SECONDS).close()
        except (OSError, ValueError) as error:
            what = f"{service} does not answer at {without_password(address)}: {error}"
            raise UserError(f"{what}\nstart it, or unset {name}") from None


def table(rows: list[dict], as_json: bool = False) -> None:
    """A row a dict; their keys are the columns."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    if not rows:
        print("nothing yet")
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in rows[0]:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*(escape(_cell(value)) for value in row.values()))
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(shown)


def show(result: dict, as_json: bool, template: str) -> None:
    """A result, and where MLflow has it: as JSON, or as its page in Markdown, without figures."""
    if as_json:
        print(json.dumps(result, indent=1))
        return
    from flows.pages.render import render_text

    text = render_text(template, facts=result)
    Console(highlight=False, width=None if sys.stdout.isatty() else 200).print(Markdown(text))
    if "mlflow_run" in result:
        print(f"MLflow: {result['mlflow_url']}  (run {result['mlflow_run']})")


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}"
    return "" if value is None else str(value)


def _stop(goes_on: bool, number: int, _) -> None:
    later = "; the same command goes on from here" if goes_on else ""
    print(f"\nstopped by {signal.Signals(number).name}{later}", file=sys.stderr)
    sys.exit(128 + number)
