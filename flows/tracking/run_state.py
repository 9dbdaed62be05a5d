"""What a run has logged so far, whether or not MLflow has it yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class RunState:
    metrics: dict[tuple[str, int], float] = field(default_factory=dict)
    """values by name and step"""
    stage_keys: dict[str, str] = field(default_factory=dict)
    """the artifact's key of each logged stage"""
    tables: dict[str, dict[str, list]] = field(default_factory=dict)
    """columns of each table, by its file"""
    checkpoints: list[tuple[int, str]] = field(default_factory=list)
    """step and files of those that may still have to be sent"""
    best_step: int = 0
    status: str = ""
    """FINISHED, FAILED or KILLED; empty while the run goes on"""

    @classmethod
    def from_lines(cls, lines: Iterable[dict]) -> RunState:
        """The state of a run whose outbox has these lines (`outbox` lists their kinds)."""
        state = cls()
        for line in lines:
            state.add(line)
        return state

    def add(self, line: dict) -> None:
        """Take in the next line."""
        checkpoint = line.get("checkpoint", {})
        for name, value, step, _ in (*line.get("metrics", ()), *checkpoint.get("metrics", ())):
            self.metrics[name, step] = value
        for tag, value in line.get("tags", {}).items():
            if tag.endswith(".key"):
                self.stage_keys[tag.removesuffix(".key")] = value
        if checkpoint:
            self.best_step = checkpoint["best"]
            self.checkpoints.append((checkpoint["step"], checkpoint["files"]))
        if "table" in line:
            columns = self.tables.setdefault(line["table"], {name: [] for name in line["columns"]})
            for name, values in line["columns"].items():
                columns[name] += values
        self.status = line.get("end", "")  # a line after the end continues the run

    def forget_superseded(self, keep: int) -> list[str]:
        """Forget the checkpoints that are neither the best nor among the newest `keep`; returns their files."""
        superseded = [item for item in self.checkpoints[:-keep] if item[0] != self.best_step]
        self.checkpoints = [item for item in self.checkpoints if item not in superseded]
        return [files for _, files in superseded]
