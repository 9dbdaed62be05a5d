"""Find flow runs whose process has died: each running one holds a kernel lock on a file, which a killed process loses.

A living worker reports the death of a flow run at once. If the worker died too, nobody reports, and the run would stay Running:
`crash_dead_runs` finds it, which `gpt up` calls at its start, and maintain/weekly. Meanwhile `heartbeats` watches.
"""

import atexit
from contextlib import suppress
from typing import IO
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from flows.home import home
from flows.server.heartbeats import GONE, LOCK
from flows.store.locks import take

_held: list[IO[str]] = []  # open as long as this process lives


def hold_lock(flow, flow_run, state) -> None:
    """A flow's on_running hook: lock the run's file for as long as this process lives."""
    folder = home() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    path, new = folder / f"{LOCK}{flow_run.id}", folder / f".{flow_run.id}"
    handle = new.open("w+")
    take(handle)
    new.rename(path)  # others find it only once it is locked
    _held.append(handle)
    atexit.register(path.unlink, missing_ok=True)


def crash_dead_runs(dry_run: bool = False) -> list[str]:
    """Mark as Crashed the flow runs of this home whose process is gone. Returns a line for each."""
    found = []
    with get_client(sync_client=True) as client:
        for path in sorted((home() / "locks").glob(f"{LOCK}*")):
            with path.open("r+") as handle:
                if not take(handle):
                    continue
            with suppress(ObjectNotFound):  # it was deleted, or belongs to another server
                run = client.read_flow_run(UUID(path.name.removeprefix(LOCK)))
                if run.state and not (run.state.is_final() or run.state.is_scheduled()):
                    found.append(f"flow run {run.name} ({run.id}) was {run.state.name}, and its process is gone")
                    if not dry_run:
                        client.set_flow_run_state(run.id, Crashed(message=GONE), force=True)
            if not dry_run:
                path.unlink(missing_ok=True)
    return found
