"""What the benchmarks share on the way to their tables: results that are written as they come, medians with their spread."""

import json
from pathlib import Path
from statistics import median

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.measure import machine


class Results(dict):
    """The figures of a benchmark by part. Its file is written anew after each figure, so a later failure loses none."""

    def __init__(self, path: Path, *parts: str):
        super().__init__({"machine": machine(), **{part: [] for part in parts}})
        self.path = path

    def add(self, part: str, run: dict) -> dict:
        self[part].append(run)
        self.write()
        return run

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self, indent=1) + "\n", encoding="utf-8")
        new.replace(self.path)


def open_console(machine: dict[str, str]) -> Console:
    """A console that prints and records; the machine first."""
    console = Console(record=True, width=132, markup=False, highlight=False)
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), soft_wrap=True)
    return console


def table(console: Console, title: str, head: list[str], rows: list[list]) -> None:
    if not rows:
        return
    drawn = Table(box=box.MARKDOWN)
    for i, name in enumerate(head):
        drawn.add_column(name, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        drawn.add_row(*map(str, row))
    console.print(f"\n## {title}", drawn, sep="\n")


def spread(values: list[float], digits: int = 1) -> str:
    digits = 0 if max(values) >= 100 else digits
    least, most = (f"{value:,.{digits}f}" for value in (min(values), max(values)))
    return f"{median(values):,.{digits}f}" + (f" [{least}-{most}]" if len(values) > 1 else "")
