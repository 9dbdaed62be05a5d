"""Where the outboxes of runs lie, and what waits in them for MLflow, told without loading MLflow."""

import json
from contextlib import suppress
from pathlib import Path

from flows import UserError
from flows.home import home
from flows.store.locks import take


def spool() -> Path:
    """The folder of all outboxes of this home."""
    return home() / "spool"


def read_sent(folder: Path) -> int:
    """Of an outbox: the offset up to which its lines are sent."""
    with suppress(OSError, ValueError):
        return int((folder / "sent").read_text())
    return 0


def waiting() -> list[dict]:
    """The runs that have not sent all to MLflow, though no process is at it: run, corpus and bytes of lines."""
    rows = []
    for file in sorted(spool().glob("*/about.json")):
        folder = file.parent
        with suppress(OSError, ValueError, UserError), file.open("r+") as about:
            left = (folder / "lines.jsonl").stat().st_size - read_sent(folder)
            if take(about) and left > 0:
                rows.append({"run": folder.name, "corpus": json.load(about)["corpus"], "bytes": left})
    return rows
