"""SIGINT and SIGTERM, held back until the work at hand is safe, and then passed on to the previous handler."""

import signal
import threading
from typing import Any


class Interrupted(Exception):
    """Raised inside long work (an evaluation) to leave it early."""


class Interruption:
    """A context that notes the first SIGINT or SIGTERM instead of acting on it; the handlers are restored when it ends.

    A second signal of the same kind acts at once: whoever presses Ctrl-C twice means it. Nothing is held back outside the main
    thread, where Python cannot set handlers; a signal that is ignored (nohup) stays ignored.
    """

    signal = 0  # none has arrived

    def __enter__(self) -> "Interruption":
        self._previous: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # None: set from C, could not be restored.
                if (handler := signal.getsignal(number)) not in (None, signal.SIG_IGN):
                    self._previous[number] = handler
                    signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: object) -> None:
        self.signal = self.signal or number
        signal.signal(number, self._previous[number])
