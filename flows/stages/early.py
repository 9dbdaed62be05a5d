"""The first stages of a run, made by a process of their own while `gpt` loads Prefect and MLflow and their server starts.

Notable: the process is a fork of `gpt` from before that, so it begins at once; it ends when `gpt` ends, or is killed. It makes
the stages before the training in order, and stops with the one that it is at when the flow begins. The flow takes each artifact
as it was made, with what was logged meanwhile, so states, tags and figures are those of any other run. What could not be made
here the flow makes itself.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from flows import progress
from flows.home import shared_home
from flows.progress import Report, log_in_prefect, log_line, progress_bar
from flows.recipe import Recipe, Workers
from flows.stages.definitions import STAGES, Job, Map, build, outcome
from flows.store.artifacts import Artifact
from flows.store.locks import in_use

REPORT_SECONDS = 0.2  # between two reports of progress to the flow
_begun: list["_Early"] = []


def begin(recipe: Recipe, force: str, stages: tuple[str, ...]) -> None:
    """Begin with these stages, if a fork of this process is safe and gains time."""
    if sys.platform == "linux" and threading.active_count() == 1 and "prefect" not in sys.modules:
        _begun[:] = [_Early(recipe, force, stages)]


def take(name: str, recipe: Recipe, report: Report) -> Artifact | None:
    """A stage's artifact, once it is finished, if this recipe's was begun; else None. Raises what making it has raised."""
    return _begun[0].take(name, report) if _begun and _begun[0].recipe == recipe else None


class _Early:
    """The process, as the flow sees it."""

    def __init__(self, recipe: Recipe, force: str, stages: tuple[str, ...]):
        self.recipe, self.made = recipe, dict[str, Artifact]()
        self.pipe, theirs = Pipe()
        self.pid = os.fork()
        if not self.pid:
            self.pipe.close()
            _Maker(theirs).run(recipe, force, stages)
        theirs.close()

    def take(self, name: str, report: Report) -> Artifact | None:
        with suppress(OSError):
            self.pipe.send("the flow has begun")
        while name not in self.made and not self.pipe.closed:
            try:
                kind, content = self.pipe.recv()
            except (EOFError, OSError):
                self.pipe.close()
                os.waitpid(self.pid, 0)
                break
            if kind == "made":
                self.made[content.stage] = content
            elif kind == "report":
                report(*content)
            elif kind == "log":
                log_in_prefect(*content)
            else:
                raise content
        return self.made.get(name)


class _TakenOver(Exception):
    """The flow goes on with this stage."""


class _Maker:
    """The process, as it sees itself."""

    def __init__(self, pipe: Connection):
        self.pipe, self.sending, self.flow_has_begun = pipe, threading.Lock(), threading.Event()
        self.bar = ExitStack()

    def run(self, recipe: Recipe, force: str, stages: tuple[str, ...]) -> None:
        """Make the stages, and end the process."""
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # `gpt` gets it too, and its end is ours
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            threading.Thread(target=self._listen, daemon=True).start()
            progress.relay = lambda text, level: self._send("log", (text, level))
            made: dict[str, Artifact] = {}
            with in_use(shared_home(), log_line):
                for name in stages:
                    if self.flow_has_begun.is_set():
                        break
                    inputs = {wanted: made[wanted] for wanted in STAGES[name].inputs}
                    made[name] = artifact = self._make(name, recipe, inputs, force == name)
                    log_line(outcome(artifact))
                    self._send("made", artifact)
        except _TakenOver:
            pass
        except Exception as error:
            self._send("failed", error)
        finally:
            os._exit(0)

    def _make(self, name: str, recipe: Recipe, inputs: dict[str, Artifact], force: bool) -> Artifact:
        last = 0.0
        self.bar = ExitStack()
        show = self.bar.enter_context(progress_bar(name))

        def report(fraction: float, text: str = "") -> None:
            nonlocal last
            if not self.flow_has_begun.is_set():
                show(fraction, text)
            elif time.monotonic() - last > REPORT_SECONDS:
                last = time.monotonic()
                self._send("report", (fraction, text))

        def nothing(*_: object) -> None: ...

        def make(parameters: dict, folder: Path) -> dict:
            job = Job(recipe, parameters, inputs, folder, report, nothing, nothing, self._spread)
            return STAGES[name].make(job)

        with self.bar:
            return build(name, recipe, inputs, force, make)

    @contextmanager
    def _spread(self, workers: Workers) -> Iterator[Map]:
        """Shards one after another until the flow spreads the others over workers."""

        def over(function: Callable, shards: list) -> Iterator:
            for shard in shards:
                if self.flow_has_begun.is_set() and len(shards) > 1:
                    raise _TakenOver
                yield function(shard)

        yield over

    def _listen(self) -> None:
        with suppress(EOFError, OSError):
            self.pipe.recv()
            self.flow_has_begun.set()
            self.bar.close()  # the flow shows its own
            while True:
                self.pipe.recv()
        os._exit(1)

    def _send(self, kind: str, content: Any) -> None:
        with self.sending:
            self.pipe.send((kind, content))
