"""The flow `maintain`, weekly: crashes dead runs, prunes and verifies artifacts, and removes old runs from MLflow.

prefect deployment run maintain/weekly -p dry_run=true --watch
"""

import sys
from os.path import relpath
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a worker loads this file by its path

import flows.environment  # noqa: F401 (sets the defaults that Prefect and MLflow read when they are imported)

# isort: split

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.states import Completed, Failed, State
from pydantic import Field

from flows import UserError
from flows.home import shared_home
from flows.models import pruning
from flows.models.promotion import named_decoders
from flows.progress import log_line
from flows.server import dead_runs
from flows.store.artifacts import Store
from flows.store.locks import idle, in_use
from flows.tracking import outbox

Keep = Annotated[int, Field(ge=0, le=1000)]
Days = Annotated[int, Field(ge=1, le=3650)]
Row = dict[str, str]


@flow(name="maintain", flow_run_name="maintain", persist_result=False, on_running=[dead_runs.hold_lock])
def maintain(keep: Keep = 3, days: Days = 30, trash: bool = False, dry_run: bool = False) -> State:
    """Crash dead runs, prune artifacts, verify the others, remove old failed and deleted runs. Fails if an artifact is damaged.

    Args:
        keep: trained models to keep of each corpus, newest first, with all they were made from, and reproductions
        days: days that a run is kept in MLflow which failed, was killed or was deleted
        trash: remove also what was deleted since
        dry_run: only list what would be done
    """
    rows = [{"what": "dead run", "which": line, "done": "crashed"} for line in dead_runs.crash_dead_runs(dry_run)]
    pruned, freed = prune(keep, days, trash, dry_run)
    rows += pruned
    rows += (damaged := verify())
    summary = f"{len(rows)} things " + ("to do" if dry_run else f"done; {freed:,} bytes are free now that were not")
    for row in rows:
        log_line(f"{row['what']}: {row['which']}: {row['done']}")
    create_table_artifact(table=rows or [{"what": "nothing to do", "which": "", "done": ""}], key="maintenance",
                          description="A dry run: nothing was done" if dry_run else "Maintenance")  # fmt: skip
    if damaged:
        return Failed(
            name="Damaged", message=f"{len(damaged)} artifacts are damaged; the next run builds them again. {summary}"
        )
    return Completed(message=summary, data=rows)


def prune(keep: int, days: int, trash: bool, dry_run: bool) -> tuple[list[Row], int]:
    """As gpt prune; while a run is in progress, no folder is removed. Returns rows, and how many bytes this made free."""
    if not dry_run:
        outbox.sync()  # it also ends the runs whose process is gone
    runs, named = pruning.old_runs(days, trash), named_decoders()
    rows = [{"what": "MLflow run", "which": run, "done": f"removed: {why}"} for run, why in runs.items()]
    freed = 0 if dry_run else pruning.remove_runs(runs, days)
    try:
        with idle(shared_home()):
            folders = pruning.old_folders(keep, named)
            if not dry_run:
                pruning.remove_folders(folders)
                freed += sum(folders.values())
    except UserError as error:
        return [*rows, {"what": "folders", "which": "all", "done": f"not removed: {error}"}], freed
    return rows + [{"what": "folder", "which": relpath(f, shared_home()), "done": "removed"} for f in folders], freed


def verify() -> list[Row]:
    """The damaged artifacts. Reads every byte of all."""
    with in_use(shared_home(), log_line):
        found = Store(shared_home()).verify()
        return [{"what": "damaged", "which": m["path"], "done": "; ".join(lines)} for m, lines in found if lines]
