"""What a person sees while it runs: lines and bars on the terminal, the log and a progress artifact in Prefect.

Prefect is told at most every few seconds, since each update is a request, and its absence never stops the work.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging import get_run_logger
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS = 5.0  # between two updates of the Prefect page, or two lines where there is no terminal
console = Console(stderr=True, highlight=False)
to_terminal = False  # the command line sets it; under a worker the log alone is told

Report = Callable[..., None]


def say(text: str, level: int = logging.INFO) -> None:
    """One line for whoever watches."""
    if FlowRunContext.get() or TaskRunContext.get():
        with suppress(Exception):
            get_run_logger().log(level, text)
    if to_terminal:
        console.print(text, markup=False, soft_wrap=True)


class _Heard(logging.Handler):
    """What the decoder's library logs (a loss that jumped, how many steps fit, that nothing is compiled), said."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage(), record.levelno)


logging.getLogger("gpt").addHandler(_Heard())
logging.getLogger("gpt").setLevel(logging.INFO)


@contextmanager
def bar(stage: str) -> Iterator[Report]:
    """A function `report(fraction, text="")` to call as often as one likes with the share done, 0 to 1."""
    shown = Progress(
        TextColumn("{task.description:<9}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[text]}"),
        console=console,
        transient=True,
        disable=not (to_terminal and sys.stderr.isatty()),
    )
    row = shown.add_task(stage, total=1.0, text="")
    artifact_id, last = None, -SECONDS
    telling = threading.Thread()  # a server that is away holds up a request for minutes, and is not to hold up the work

    def report(fraction: float, text: str = "") -> None:
        nonlocal telling, last
        shown.update(row, completed=fraction, text=text)
        now = time.monotonic()
        if now - last < SECONDS:
            return
        last = now
        if to_terminal and shown.disable and fraction < 1:
            console.print(f"{stage:<9} {fraction:4.0%}  {text}", markup=False)
        if FlowRunContext.get() and not telling.is_alive():
            telling = threading.Thread(target=copy_context().run, args=(tell, fraction, text), daemon=True)
            telling.start()

    def tell(fraction: float, text: str) -> None:
        nonlocal artifact_id
        with suppress(Exception):
            if artifact_id is None:
                artifact_id = create_progress_artifact(
                    progress=100 * fraction, key=f"progress-{stage}", description=text or stage
                )
            else:
                update_progress_artifact(artifact_id, progress=100 * fraction, description=text or stage)

    with shown:
        yield report
    if telling.ident:
        telling.join(SECONDS)
    if artifact_id is not None:
        with suppress(Exception):
            update_progress_artifact(artifact_id, progress=100.0)
