"""What a person sees while it works: lines and bars on the terminal, the log and a progress artifact in Prefect.

The artifact is updated every few seconds at most, since each update is a request. A server that does not answer stops nothing.
Prefect is imported where a flow runs, since lines are shown before it is loaded.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from typing import Any

from rich.console import Console
from rich.progress import Progress, TextColumn

SECONDS = 5.0  # between two updates in Prefect, or two lines where there is no terminal
console = Console(stderr=True, highlight=False)
to_terminal = False  # the command line sets it; a worker only logs

Report = Callable[..., None]


def log_line(text: str, level: int = logging.INFO) -> None:
    """Log a line in Prefect, and print it on the terminal."""
    if in_flow():
        from prefect.logging import get_run_logger

        with suppress(Exception):
            get_run_logger().log(level, text)
    if to_terminal:
        console.print(text, markup=False, soft_wrap=True)


@contextmanager
def left_out_if_it_fails(what: str) -> Iterator[None]:
    """Around what is no reason to lose the rest: an error of it is logged, whatever it is."""
    try:
        yield
    except Exception as error:
        log_line(f"{what} is left out: {type(error).__name__}: {str(error)[:200]}", logging.WARNING)


def show_page(markdown: str, key: str) -> None:
    """Show a page in Prefect, where this runs within a flow."""
    if in_flow():
        from prefect.artifacts import create_markdown_artifact

        with left_out_if_it_fails(f"the page {key} in Prefect"):
            create_markdown_artifact(markdown, key=key)


def in_flow() -> bool:
    """Whether this runs within a flow or a task of Prefect's."""
    loaded: Any = sys.modules.get("prefect.context")
    return bool(loaded and (loaded.FlowRunContext.get() or loaded.TaskRunContext.get()))


class _DecoderLog(logging.Handler):
    """Logs the lines of the decoder's library here: a loss that jumped, how many steps fit, that nothing is compiled."""

    def emit(self, record: logging.LogRecord) -> None:
        log_line(record.getMessage(), record.levelno)


logging.getLogger("gpt").addHandler(_DecoderLog())
logging.getLogger("gpt").setLevel(logging.INFO)


@contextmanager
def progress_bar(stage: str) -> Iterator[Report]:
    """A function `report(fraction, text="")` to call as often as one likes with the share done, 0 to 1."""
    columns, hidden = Progress.get_default_columns(), not (to_terminal and sys.stderr.isatty())
    bar = Progress(*columns, TextColumn("{task.fields[text]}"), console=console, transient=True, disable=hidden)
    row = bar.add_task(f"{stage:<9}", total=1.0, text="")
    artifact_id: Any = None
    last = -SECONDS
    request = threading.Thread()  # a server that is away delays a request for minutes, which must not delay the work

    def report(fraction: float, text: str = "") -> None:
        nonlocal request, last
        bar.update(row, completed=fraction, text=text)
        now = time.monotonic()
        if now - last < SECONDS:
            return
        last = now
        if to_terminal and bar.disable and fraction < 1:
            console.print(f"{stage:<9} {fraction:4.0%}  {text}", markup=False)
        if in_flow() and not request.is_alive():
            request = threading.Thread(target=copy_context().run, args=(update_artifact, fraction, text), daemon=True)
            request.start()

    def update_artifact(fraction: float, text: str) -> None:
        nonlocal artifact_id
        from prefect.artifacts import create_progress_artifact, update_progress_artifact

        percent, text = 100 * fraction, text or stage
        with suppress(Exception):
            if artifact_id is None:
                artifact_id = create_progress_artifact(percent, key=f"progress-{stage}", description=text)
            else:
                update_progress_artifact(artifact_id, progress=percent, description=text)

    with bar:
        yield report
    if request.ident:
        request.join(SECONDS)
    if artifact_id is not None:
        update_artifact(1.0, "")
