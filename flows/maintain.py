"""The flow `maintain`, weekly: prunes and verifies artifacts, and removes old runs from MLflow."""

from typing import Annotated

import flows.tracking.environment  # noqa: F401 (sets the defaults that Prefect and MLflow read when imported)

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.states import Completed, Failed, State
from pydantic import Field

from flows.models.pruning import prune
from flows.progress import log_line
from flows.server import dead_runs
from flows.store.artifacts import Store
from flows.store.locks import in_use
from flows.tracking import outbox


@flow(name="maintain", flow_run_name="maintain", persist_result=False, on_running=[dead_runs.hold_lock])
def maintain(
    keep: Annotated[int, Field(ge=0, le=1000)] = 3,
    days: Annotated[int, Field(ge=0, le=3650)] = 30,
    dry_run: bool = False,
) -> State:
    """Prune artifacts, verify the others, remove old failed and deleted runs. Fails if an artifact is damaged.

    Args:
        keep: trained models to keep of each corpus, newest first, with all they were made from, and reproductions
        days: days that a run is kept in MLflow which failed, was killed or was deleted
        dry_run: only list what would be done
    """
    if not dry_run:
        outbox.sync()  # it also ends the runs whose process is gone
    rows = prune(keep, days, dry_run)
    with in_use():
        found = Store().verify()
        damaged = [{"what": "damaged", "which": m["path"], "done": "; ".join(lines)} for m, lines in found if lines]
    rows += damaged
    summary = f"{len(rows)} things {'to do' if dry_run else 'done'}"
    for row in rows:
        log_line(f"{row['what']}: {row['which']}: {row['done']}")
    create_table_artifact(table=rows or [{"what": "nothing to do", "which": "", "done": ""}], key="maintenance",
                          description="A dry run: nothing was done" if dry_run else "Maintenance")  # fmt: skip
    if damaged:
        message = f"{len(damaged)} artifacts are damaged; the next run builds them again. {summary}"
        return Failed(name="Damaged", message=message)
    return Completed(message=summary, data=rows)
