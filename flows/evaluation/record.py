"""What was measured of a model, kept beside its artifact: a run that reuses the model logs it again, and measures nothing."""

import hashlib
import io
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.progress import left_out_if_it_fails
from flows.recipe import Recipe
from flows.stages.code_identity import hash_sources
from flows.store.artifacts import Artifact
from flows.tracking.run import Tracker

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURES = ("sampling", "log_overlaps", "log_attention_map", "score_facts")
SOURCES = (
    *(f"flows/evaluation/assessment.py:{name}" for name in MEASURES),
    "flows/evaluation/record.py:Record", "flows/evaluation/summary.py:measure", "gpt/evaluation/attention_maps.py",
    "gpt/evaluation/facts.py", "gpt/evaluation/memorisation.py", "gpt/generation/sample.py",
)  # fmt: skip


class Record:
    """Takes the calls that a Tracker takes (step, tags, table, text), for any number of runs to be told."""

    def __init__(self) -> None:
        self.calls: list[list] = []
        self.result: dict[str, Any] = {}
        self.complete = True

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *values: self.calls.append([name, *values])

    def figure(self, figure: "Figure", file: str) -> None:
        image = io.BytesIO()
        figure.savefig(image)
        self.calls.append(["content", b64encode(image.getvalue()).decode(), file])

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """What fails within is left out, with a line."""
        with left_out_if_it_fails(what):
            try:
                yield
            except Exception:
                self.complete = False
                raise

    def log(self, tracker: Tracker) -> None:
        for name, first, *values in self.calls:
            getattr(tracker, name)(b64decode(first) if name == "content" else first, *values)


def recall(path: Path, measure: Callable[[], Record]) -> Record:
    """The record that a file keeps, else that of `measure`, which is kept if it is complete. On a disk that is full or
    read-only it is not: the next run measures again."""
    with suppress(OSError, ValueError):
        record = Record()
        vars(record).update(json.loads(path.read_text(encoding="utf-8")))
        return record
    record, partial = measure(), path.with_suffix(f".{os.getpid()}")
    if record.complete:
        with suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            partial.write_text(json.dumps(vars(record)), encoding="utf-8")
            partial.replace(path)
    return record


def place(decoder: Artifact, documents: Artifact, recipe: Recipe) -> Path:
    """Where the record is kept, named by all that decides it."""
    decides = [decoder.digest, documents.digest, asdict(recipe.sample), hash_sources(SOURCES), version("torch")]
    name = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]
    return decoder.folder / "assessed" / f"{name}.json"
