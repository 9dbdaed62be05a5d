"""What the commands share: tables, and calling a flow as a person at a terminal would have it."""

import json
import os
import signal
import sys
from functools import partial
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table

from flows import UserError
from flows.cli.preflight import check_addresses
from flows.home import home
from flows.tracking.connection import without_password

Json = Annotated[bool, typer.Option("--json", help="machine-readable")]


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
