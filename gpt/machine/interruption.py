"""SIGINT and SIGTERM, held back until the work at hand is safe, and then passed on to the previous handler."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


class Interrupted(Exception):
    """Raised inside long work (an evaluation) to leave it early."""


@dataclass
class Interruption:
    """The signal that has arrived."""

    signal: int = 0  # none


@contextmanager
def held_back() -> Iterator[Interruption]:
    """Note the first SIGINT or SIGTERM instead of acting on it; the handlers are restored when the block ends.

    A second signal of the same kind acts at once: whoever presses Ctrl-C twice means it. Nothing is held back outside the main
    thread, where Python cannot set handlers; a signal that is ignored (nohup) stays ignored.
    """
    interruption = Interruption()
    previous: dict[int, Any] = {}

    def note(number: int, _frame: object) -> None:
        interruption.signal = interruption.signal or number
        signal.signal(number, previous[number])

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            handler = signal.getsignal(number)
            if handler is not None and handler is not signal.SIG_IGN:  # None: set from C, could not be restored
                previous[number] = handler
                signal.signal(number, note)
    try:
        yield interruption
    finally:
        for caught, handler in previous.items():
            signal.signal(caught, handler)
