"""Which flow runs of this home have a living process: each holds a lock of the kernel, so a killed one holds none.

A worker that lives tells the server at once of a flow run that died. Of its own death nobody tells, and then the run would be
Running for ever: `bury` finds it (`gpt up` and maintain/weekly call it), and on any machine the automation of `arrange`
does, a few minutes after the last heartbeat.
"""

import atexit
from contextlib import suppress
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from flows.home import home
from flows.store.locks import take

PREFIX = "flow-run-"
_held = []


def hold(flow, run, state) -> None:
    """A flow's on_running hook: from now on, and as long as this process lives, the run is alive."""
    folder = home() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    path, new = folder / f"{PREFIX}{run.id}", folder / f".{run.id}"
    handle = new.open("w+")
    take(handle)
    new.rename(path)  # found by others only now that it is held
    _held.append(handle)
    atexit.register(path.unlink, missing_ok=True)


def bury(dry_run: bool = False) -> list[str]:
    """Mark as Crashed the flow runs whose process is gone. Returns a line for each."""
    found = []
    with get_client(sync_client=True) as client:
        for path in sorted((home() / "locks").glob(f"{PREFIX}*")):
            with path.open("r+") as handle:
                if not take(handle):
                    continue
            with suppress(ObjectNotFound):  # it was deleted, or is of another server
                run = client.read_flow_run(UUID(path.name.removeprefix(PREFIX)))
                if run.state and not (run.state.is_final() or run.state.is_scheduled()):
                    found.append(f"flow run {run.name} ({run.id}) was {run.state.name}, and its process is gone")
                    if not dry_run:
                        client.set_flow_run_state(run.id, Crashed(message="Its process is gone."), force=True)
            if not dry_run:
                path.unlink(missing_ok=True)
    return found
