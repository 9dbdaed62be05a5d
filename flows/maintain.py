"""The flow `maintain`, weekly: crashes dead runs, prunes and verifies artifacts, and deletes old failed runs of MLflow.

prefect deployment run maintain/weekly -p dry_run=true --watch
"""

import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a worker loads this file by its path

import flows.environment  # noqa: F401 (sets the defaults that Prefect and MLflow read when they are imported)

# isort: split

import mlflow
from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.states import Completed, Failed, State
from pydantic import Field

from flows import UserError
from flows.home import home, shared_home
from flows.models.promotion import named_decoders
from flows.progress import log_line
from flows.server import dead_runs
from flows.store.artifacts import Store
from flows.store.locks import idle, in_use
from flows.tracking import outbox
from flows.tracking.connection import answering, experiment_id

DAY = 86400.0
Keep = Annotated[int, Field(ge=0, le=1000)]
Days = Annotated[int, Field(ge=1, le=3650)]
Row = dict[str, str]


@flow(name="maintain", flow_run_name="maintain", persist_result=False, on_running=[dead_runs.hold_lock])
def maintain(keep: Keep = 3, days: Days = 30, dry_run: bool = False) -> State:
    """Crash dead runs, prune artifacts, verify the others, delete old failed runs. Fails if an artifact is damaged.

    Args:
        keep: trained models to keep of each corpus, newest first, with all they were made from
        days: days that MLflow keeps a run which failed or was killed
        dry_run: only list what would be done
    """
    rows = [{"what": "dead run", "which": line, "done": "crashed"} for line in dead_runs.crash_dead_runs(dry_run)]
    rows += spool(dry_run)
    rows += prune(keep, dry_run)
    rows += retire(days, dry_run)
    rows += (damaged := verify())
    for row in rows:
        log_line(f"{row['what']}: {row['which']}: {row['done']}")
    create_table_artifact(table=rows or [{"what": "nothing to do", "which": "", "done": ""}], key="maintenance",
                          description="A dry run: nothing was done" if dry_run else "Maintenance")  # fmt: skip
    if damaged:
        return Failed(name="Damaged", message=f"{len(damaged)} artifacts are damaged; the next run builds them again")
    return Completed(message=f"{len(rows)} things " + ("to do" if dry_run else "done"), data=rows)


def prune(keep: int, dry_run: bool) -> list[Row]:
    """As gpt prune. While a run is in progress, nothing is pruned."""
    try:
        with idle(shared_home()):
            folders = Store(shared_home()).prunable(keep, named_decoders())
            return _remove("artifact", folders, shared_home(), dry_run)
    except UserError as error:
        return [{"what": "artifacts", "which": "all", "done": f"not pruned: {error}"}]


def verify() -> list[Row]:
    """The damaged artifacts. Reads every byte of all."""
    with in_use(shared_home(), log_line):
        found = Store(shared_home()).verify()
        return [{"what": "damaged", "which": m["path"], "done": "; ".join(lines)} for m, lines in found if lines]


def retire(days: int, dry_run: bool) -> list[Row]:
    """Delete MLflow's old failed and killed runs, except those that registered models are from."""
    experiment, client = experiment_id(), mlflow.MlflowClient()
    before = int(1000 * (time.time() - days * DAY))
    rows = []
    with answering():
        named = {version.run_id for version in client.search_model_versions()}
        for status in ("FAILED", "KILLED"):
            old = f"attributes.status = '{status}' and attributes.start_time < {before}"
            for run in client.search_runs([experiment], old, max_results=1000):
                if run.info.run_id not in named:
                    rows.append({"what": "MLflow run", "which": run.info.run_id, "done": f"deleted: {status.lower()}"})
                    if not dry_run:
                        client.delete_run(run.info.run_id)
    return rows


def spool(dry_run: bool) -> list[Row]:
    """Send what waits for MLflow, end the runs whose process is gone, and remove what runs left that died at their start."""
    if not dry_run:
        outbox.sync()
    folders = [folder for folder in outbox.spool().glob("*") if not (folder / "about.json").exists()]
    old = [folder for folder in folders if folder.stat().st_mtime < time.time() - DAY]
    return _remove("spool", old, home(), dry_run)


def _remove(what: str, folders: list[Path], root: Path, dry_run: bool) -> list[Row]:
    for folder in folders if not dry_run else ():
        shutil.rmtree(folder)
    return [{"what": what, "which": str(folder.relative_to(root)), "done": "removed"} for folder in folders]
