"""One thread that loads the models and generates for all requests together."""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from sentencepiece import SentencePieceProcessor

from flows import UserError
from gpt import GPTError
from gpt.generation import batch as batches
from gpt.generation.batch import Batch, Row
from gpt.generation.sample import load

Work = Callable[[Batch, SentencePieceProcessor], Iterator[Any]]
BACKLOG = 1000  # events that a slow reader may leave; its rows wait meanwhile, so that memory is bounded
FULL = 90  # percent of the machine's memory, from which on idle models are let go


class Job:
    """A request. `events` receives what its work yields, what is drawn for its rows, and last None or an exception.

    work: what comes before the rows, a pass of the model at a time; a list of rows that it yields is generated.
    """

    def __init__(self, folder: Path, work: Work):
        self.folder, self.work, self.cancelled = folder, work, False
        self.loop, self.events = asyncio.get_running_loop(), asyncio.Queue[Any]()
        self.steps: Iterator[Any] | None = None
        self.rows: list[Row] = []

    def is_ready(self) -> bool:
        return self.events.qsize() < BACKLOG

    def tell(self, event: Any) -> None:
        with suppress(RuntimeError):  # the server has ended
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)


class Engine:
    def __init__(self, max_models: int):
        self.max_models, self.new, self.jobs = max_models, queue.SimpleQueue[Job](), list[Job]()
        self.models: dict[Path, tuple[Batch, SentencePieceProcessor]] = {}  # the one used last is the last
        threading.Thread(target=self._run, name="engine", daemon=True).start()

    def _run(self) -> None:
        while True:
            while not self.jobs or not self.new.empty():
                self.jobs.append(self.new.get())
            for job in list(self.jobs):
                try:
                    if job.cancelled:
                        self._end(job)
                    elif not job.rows and job.is_ready():
                        job.steps = job.steps or job.work(*self._model(job.folder))
                        job.tell(found := next(job.steps, None))
                        job.rows = [row for row in found if isinstance(row, Row)] if isinstance(found, list) else []
                        if found is None:
                            self._end(job)
                except Exception as error:  # of this request; the others go on
                    self._end(job, error)
            for folder in {job.folder for job in self.jobs if job.rows}:
                self._step(folder, [job for job in self.jobs if job.folder == folder])
            if self.jobs and not any(map(Job.is_ready, self.jobs)):
                time.sleep(0.01)

    def _step(self, folder: Path, jobs: list[Job]) -> None:
        batch, owner = self.models[folder][0], {row: job for job in jobs if job.is_ready() for row in job.rows}
        for row in [row for row in batch.rows if row not in owner]:
            batch.remove(row)
            row.begin = -1
        batch.rows += [row for row in owner if row not in batch.rows][: batches.ROWS - len(batch.rows)]
        try:
            for drawn in batch.step() if batch.rows else ():
                owner[drawn.row].tell(drawn)
                if drawn.row.finish:
                    owner[drawn.row].rows.remove(drawn.row)
        except Exception as error:
            for job in jobs:
                self._end(job, error)
            del self.models[folder]
        for job in set(owner.values()) & set(self.jobs):
            if not job.rows:
                self._end(job)

    def _end(self, job: Job, error: Exception | None = None) -> None:
        for row in job.rows:
            if row in self.models[job.folder][0].rows:
                self.models[job.folder][0].remove(row)
        self.jobs.remove(job)
        if error and not isinstance(error, GPTError | UserError):
            logging.getLogger("uvicorn.error").error("a request met a defect", exc_info=error)
        job.tell(error)

    def _model(self, folder: Path) -> tuple[Batch, SentencePieceProcessor]:
        """Raises UserError for one whose files are damaged."""
        busy = {job.folder for job in self.jobs}
        idle = [known for known in self.models if known not in busy]
        over = len(self.models | {folder: 0}) - self.max_models
        for known in idle[: len(idle) if psutil.virtual_memory().percent > FULL else max(0, over)]:
            del self.models[known]
        if folder in self.models:
            loaded = self.models.pop(folder)
        else:
            try:
                model, tokenizer = load(folder)
            except GPTError as error:
                mend = "put that file back (gpt verify says which artifacts are whole), or ask for another version"
                raise UserError(f"{error}; {mend}") from None
            loaded = Batch(model), tokenizer
        self.models[folder] = loaded
        return loaded
