"""What was measured of a model, kept beside its artifact: a run that reuses the model logs it again, and measures nothing."""

import hashlib
import io
import json
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.recipe import Recipe
from flows.stages.code_identity import hash_sources
from flows.store.artifacts import Artifact
from flows.tracking.run import Tracker

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEASURES = ("continuations", "log_overlaps", "log_attention_map", "score_facts")
SOURCES = (
    *(f"flows/evaluation/assessment.py:{name}" for name in MEASURES),
    "flows/evaluation/record.py:Record", "flows/evaluation/summary.py:measure",
    "gpt/evaluation/attention_maps.py", "gpt/evaluation/facts.py", "gpt/evaluation/memorisation.py",
    "gpt/generation/sample.py",
)  # fmt: skip


class Record:
    """Takes what a Tracker takes of an assessment, to be logged by any number of runs."""

    def __init__(self, path: Path | None = None):
        """path: of a kept record. Raises OSError or ValueError if there is none."""
        self.lines: list[list] = []
        self.result: dict[str, Any] = {}
        if path:
            values = json.loads(path.read_text(encoding="utf-8"))
            self.lines, self.result = values["lines"], values["result"]

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        self.lines.append(["step", step, dict(metrics)])

    def tags(self, tags: Mapping[str, object]) -> None:
        self.lines.append(["tags", dict(tags)])

    def table(self, rows: Sequence[dict], file: str) -> None:
        self.lines.append(["table", list(rows), file])

    def text(self, text: str, file: str) -> None:
        self.lines.append(["text", text, file])

    def figure(self, figure: "Figure", file: str) -> None:
        image = io.BytesIO()
        figure.savefig(image)
        self.lines.append(["file", b64encode(image.getvalue()).decode(), file])

    def log(self, tracker: Tracker) -> None:
        for kind, *values in self.lines:
            if kind == "file":
                tracker.content(b64decode(values[0]), values[1])
            else:
                getattr(tracker, kind)(*values)

    def keep(self, path: Path) -> None:
        """A disk that is full or read-only costs the next run the seconds of measuring, and this one nothing."""
        with suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps({"lines": self.lines, "result": self.result}), encoding="utf-8")
            partial.replace(path)


def place(decoder: Artifact, documents: Artifact, recipe: Recipe) -> Path:
    """Where the record is kept: named by all that decides it, so another recipe or code measures again."""
    decides = [decoder.digest, documents.digest, asdict(recipe.sample), hash_sources(SOURCES), version("torch")]
    name = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]
    return decoder.folder / "assessed" / f"{name}.json"
