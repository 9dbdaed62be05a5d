"""Find flow runs whose process died with its worker, so that nobody has reported it. `gpt up` looks for them every half minute.

A run of this home holds a kernel lock on a file as long as its process lives. One of another machine has a heart that beats.
Notable: silence is counted in looks. After a sleep of this machine every heart has been silent for hours, and a rule that
compares times of day, such as an automation of Prefect's, would crash runs that live before they can beat again.
"""

import atexit
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from flows import UserError
from flows.home import home
from flows.server.processes import ask
from flows.store.locks import take

EVERY = 30  # seconds, as between two heartbeats (prefect.yaml)
LOOKS = 10  # without a heartbeat, until a run is dead
GONE, SILENT = "Its process is gone.", "No heartbeat for"  # automations.yaml knows a dead run by these words
BEAT = "prefect.flow-run.heartbeat"
Signs = dict[str, tuple[str, int]]  # of a run by its id: the newest sign of life, and the number of looks since then


def hold_lock(flow, flow_run, state) -> None:
    """A flow's on_running hook: lock the run's file for as long as this process lives."""
    go_on_without_slot()
    path = lock_file(flow_run.id)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{flow_run.id}")
    handle = new.open("w+")
    take(handle)
    new.rename(path)  # others find it only once it is locked
    atexit.register(handle.close)  # and not before
    atexit.register(path.unlink, missing_ok=True)


def go_on_without_slot() -> None:
    """From now on a run that lost the slot of its deployment while the machine slept goes on; Prefect would cancel it."""
    from prefect import flow_engine
    from prefect.concurrency._leases import maintain_concurrency_lease

    flow_engine.maintain_concurrency_lease = lambda lease_id, seconds, **_: maintain_concurrency_lease(
        lease_id, seconds, raise_on_lease_renewal_failure=False
    )


def watch(api: str, ending: Callable[[], bool]) -> None:
    """Crash dead runs until the end, also after a time without the server. api: Prefect's address."""
    signs: Signs = {}
    while not ending():
        time.sleep(EVERY)
        with suppress(UserError, OSError, ValueError):
            signs = look(api, signs)


def look(api: str, before: Signs) -> Signs:
    """Crash what is dead. Returns the signs of the others, for the next look."""
    signs: Signs = {}
    states = {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
    for run in ask(api, "flow_runs/filter", flow_runs=states):
        name, pending = run["id"], run["state_type"] == "PENDING"
        about = {"event": {"name": [BEAT]}, "resource": {"id": [f"prefect.flow-run.{name}"]}, "order": "DESC"}
        beats = [event["occurred"] for event in ask(api, "events/filter", filter=about, limit=1)["events"]]
        sign = f"{run['state']['id']} {beats}"
        known, looks = before.get(name, (sign, -1))
        signs[name] = sign, looks = sign, looks + 1 if known == sign else 0
        here = None if pending else lives(name)  # one that is started again has the lock of before until it begins
        # A run that has begun and never beat was not started by a worker.
        if (looks >= LOOKS and (beats or pending)) if here is None else (looks and not here):
            message = f"{SILENT} {looks * EVERY} s." if here is None else GONE
            ask(api, f"flow_runs/{name}/set_state", state={"type": "CRASHED", "message": message})
            del signs[name]
            lock_file(name).unlink(missing_ok=True)
    return signs


def lock_file(run: str) -> Path:
    return home() / "locks" / f"flow-run-{run}"


def lives(run: str) -> bool | None:
    """Whether the process of a flow run lives; None if it is not of this home, or has not begun."""
    try:
        with lock_file(run).open("r+") as file:
            return not take(file)
    except FileNotFoundError:
        return None
