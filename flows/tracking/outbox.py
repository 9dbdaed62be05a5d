"""The outbox of a run: a file through which all that it logs reaches MLflow, so that training never waits for MLflow.

Folder: `<home>/spool/<run id>/` with `about.json` (the run, its server), `lines.jsonl`, `files/` (what lines refer to) and
`sent` (an offset in the lines). One process at a time holds the folder, by a kernel lock on `about.json`.

Lines: JSON objects, each of one kind.
    {"metrics": [[name, value, step, time]]} or {"params": {...}} or {"tags": {...}}: values
    {"file": path, "to": folder}: a file for the run's artifacts
    {"table": file, "columns": {name: values}}: more rows of a table
    {"input": dataset, "tags": {...}}: a dataset that the run uses
    {"checkpoint": {...}}: a LoggedModel with its metrics
    {"stage": {name: key}}: all of a stage is told; for a run that continues this one, not for MLflow
    {"end": status, "at": time}: the end of the run, unless another line follows, which continues it

A thread of the run's process sends them in order, the values of many lines in one request, at most a request a second. What is
left because MLflow was away, or the run was killed, is sent by `sync`: at the next run of this home, `gpt runs` or `gpt ui`.

A line counts as sent when MLflow has answered and the offset of the line's end is in `sent`. An answer may be lost, so every
kind can be sent again without effect: MLflow ignores a metric that it has, a checkpoint is looked up before it is created, and
a table is sent with all its rows. A line that MLflow refuses while it answers other requests is skipped with a message.
"""

import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from contextvars import copy_context
from itertools import islice
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

from flows import UserError
from flows.home import home
from flows.progress import log_line
from flows.store.locks import take
from flows.tracking.connection import database, without_password
from flows.tracking.sending import VALUES, LoggedRun, refused

INTERVAL = 1.0  # seconds between two requests with metrics
MOST_LINES = 500  # whose values are sent at once
LONGEST_WAIT = 30.0  # seconds between two tries while MLflow is away
PATIENCE = 60.0  # seconds that the end of a run waits until all is sent
AWAY = 10.0  # the same, if the last request failed
DAYS = 30  # for which a stopped run can be continued


class Outbox:
    """The outbox of one run, held by this process until `release`."""

    def __init__(self, folder: Path, about: str = "about.json"):
        """Hold an existing folder. Raises BlockingIOError when another process holds it, OSError when there is none, UserError
        when its disk has no locks."""
        self.folder = folder
        self._about_file = (folder / about).open("r+")
        if not take(self._about_file):
            raise BlockingIOError(f"another process has {folder}")
        self.about: dict[str, str] = json.load(self._about_file)
        self._lock, self._failed = threading.Lock(), False
        self._closing, self._given_up = threading.Event(), threading.Event()
        # Once started, it sends what other runs left, then this run's lines. By the run's context it reaches Prefect's log.
        self.thread = threading.Thread(target=copy_context().run, args=(self._work,), name="mlflow", daemon=True)
        self._file = (folder / "lines.jsonl").open("a+b")
        lines = list(self._lines())
        self._file.truncate(sum(map(len, lines)))  # the last line of a killed run may be incomplete
        sent = folder / "sent"
        self.sent = int(sent.read_text()) if sent.exists() else 0
        self.run_id, self.logged = self.about["run_id"], LoggedRun(folder, self.about)
        for line in lines:
            self.logged.add(json.loads(line))

    @classmethod
    def new(cls, run_id: str, **about: str) -> "Outbox":
        folder = spool() / run_id
        (folder / "files").mkdir(parents=True)
        (folder / "about.new").write_text(json.dumps({"run_id": run_id, "server": database(), **about}))
        box = cls(folder, "about.new")
        (folder / "about.new").rename(folder / "about.json")  # other processes find it only once it is held
        return box

    def put(self, **line: object) -> None:
        """Append a line; it survives a kill of this process once this returns."""
        with self._lock:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()
            self.logged.add(line)

    def place(self, name: str) -> Path:
        """Where a new file, or folder, of this name may be made in the outbox."""
        return Path(tempfile.mkdtemp(dir=self.folder / "files")) / name

    def attach(self, path: Path) -> str:
        """Link a file or folder into the outbox (copy it, from another disk); returns the name for a line."""
        place = self.place(path.name)
        shutil.copytree(path, place, copy_function=_link) if path.is_dir() else _link(path, place)
        return str(place.relative_to(self.folder))

    def close(self) -> str:
        """Wait, for a limited time, until all is sent. Returns what is in the way if it is not, else nothing."""
        self._closing.set()
        self.thread.join(AWAY if self._failed else PATIENCE)
        self._given_up.set()  # the request in progress, if there is one, is the last
        if not self.thread.is_alive():
            return ""
        return "MLflow does not answer" if self._failed else f"MLflow is still taking it in after {PATIENCE:.0f} s"

    def flush(self) -> None:
        """Send all lines that are there now. Raises what MLflow raises, except for a line that it refuses for good."""
        end = (self.folder / "lines.jsonl").stat().st_size
        while self.sent < end and (found := self.next_request()):
            request, position = found
            try:
                self.logged.send(request)
            except Exception as error:
                first, self._failed = not self._failed, True
                if not refused(error):
                    raise
                self.logged.client.get_run(self.run_id)  # raises where MLflow is away, or has no such run
                if first:
                    continue
                log_line(f"MLflow did not take {', '.join(request)} of run {self.run_id}: {problem(error)}")
            self._failed, self.sent = False, position
            partial = self.folder / "sent.new"
            partial.write_text(str(position))
            partial.replace(self.folder / "sent")

    def next_request(self) -> tuple[dict, int] | None:
        """What to send next, one line or the values of several, and the offset at which its last line ends."""
        position, request = self.sent, dict[str, Any]()
        for raw in islice(self._lines(position), MOST_LINES):
            line = json.loads(raw)
            # After a failure each line is sent alone, so that a refused one takes no other with it.
            if request and (self._failed or not line.keys() | request.keys() <= VALUES):
                break
            for kind in line.keys() & request.keys():
                line[kind] = request[kind] + line[kind] if kind == "metrics" else request[kind] | line[kind]
            request |= line
            position += len(raw)
        return (request, position) if request else None

    def release(self) -> None:
        """Let other processes hold the folder; remove it if all is sent and the run cannot be continued."""
        with suppress(OSError):  # it is removed already
            old = time.time() - (self.folder / "lines.jsonl").stat().st_mtime > DAYS * 86400
            if self.next_request() is None and (self.logged.status == "FINISHED" or old):
                shutil.rmtree(self.folder)
        self._file.close()
        self._about_file.close()

    def _work(self) -> None:
        try:
            with suppress(Exception):
                sync()
            wait = INTERVAL
            while not self._given_up.is_set():
                closing = self._closing.is_set()  # asked first: all lines that were put before `close` are sent
                try:
                    self.flush()
                    if closing:
                        return
                    wait = INTERVAL
                except Exception:
                    wait = min(2 * wait, LONGEST_WAIT)
                if closing:
                    self._given_up.wait(INTERVAL)
                else:
                    self._closing.wait(wait)
        finally:
            self.release()

    def _lines(self, start: int = 0) -> Iterator[bytes]:
        """The complete lines from an offset on."""
        with (self.folder / "lines.jsonl").open("rb") as file:
            file.seek(start)
            for raw in file:
                if not raw.endswith(b"\n"):
                    return  # it is being written
                yield raw


def spool() -> Path:
    """The folder of all outboxes of this home."""
    return home() / "spool"


def stopped(work: str) -> Outbox | None:
    """The outbox, now held, of the newest run of this home that did the same work and did not finish."""
    for box in _unheld():
        if box.about.get("work") == work and box.logged.status != "FINISHED":
            with suppress(MlflowException):
                if not _is_deleted(box):
                    return box
        box.release()
    return None


def problem(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(without_password(str(error)).split())[:200]}"


def sync() -> None:
    """Send what the runs of this home left, and end as KILLED those whose process died. A run that cannot send something keeps
    it, with a message, and the next one follows. Stops when MLflow does not answer."""
    for box in _unheld():
        try:
            if _is_deleted(box):
                shutil.rmtree(box.folder)
                continue
            if not box.logged.status:
                box.put(end="KILLED", at=int((box.folder / "lines.jsonl").stat().st_mtime * 1000))
            box.flush()
        except Exception as error:
            try:
                mlflow.MlflowClient().search_experiments(max_results=1)
            except Exception:
                return
            log_line(f"run {box.run_id} could not send all that it logged, and keeps it: {problem(error)}")
        finally:
            box.release()


def _unheld() -> Iterator[Outbox]:
    """The outboxes of this home and of this MLflow that no process holds, newest first; each is held when it comes."""
    if not (abouts := sorted(spool().glob("*/about.json"), key=os.path.getmtime, reverse=True)):
        return
    server = database()
    for about in abouts:
        with suppress(OSError, ValueError, UserError):  # one that cannot be held is skipped
            if json.loads(about.read_text())["server"] == server:
                yield Outbox(about.parent)


def _is_deleted(box: Outbox) -> bool:
    """Whether MLflow has no such run, or its user deleted it."""
    try:
        return box.logged.client.get_run(box.run_id).info.lifecycle_stage != "active"
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return True
        raise


def _link(source: Path | str, target: Path | str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
