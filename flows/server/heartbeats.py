"""Crash the runs whose process died with its worker, so that nobody has reported it. `gpt up` looks every half minute.

A run of this home holds a lock as long as its process lives (`dead_runs`). One of another machine has a heart that beats.
Notable: silence is counted in looks. After a sleep of this machine every heart has been silent for hours, and a rule that
compares times of day, such as an automation of Prefect's, would crash runs that live before they can beat again.
"""

import time
from collections.abc import Callable
from contextlib import suppress

from flows import UserError
from flows.home import home
from flows.server.processes import ask
from flows.store.locks import take

EVERY = 30  # seconds, as between two heartbeats (prefect.yaml)
LOOKS = 10  # without a heartbeat, until a run is dead
LOCK = "flow-run-"
GONE, SILENT = "Its process is gone.", "No heartbeat for"
BEAT = "prefect.flow-run.heartbeat"


def watch(api: str, ending: Callable[[], bool]) -> None:
    """Look again and again, also while the server is away. api: Prefect's address."""
    silent: dict[str, tuple[str, int]] = {}
    while not ending():
        time.sleep(EVERY)
        with suppress(UserError, OSError, ValueError):
            silent = look(api, silent)


def look(api: str, before: dict[str, tuple[str, int]]) -> dict[str, tuple[str, int]]:
    """Crash what is dead. Returns, by the id of each run, its newest sign of life and the number of looks since then.

    before: what the last look returned.
    """
    silent = {}
    states = {"state": {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}}
    for run in ask(api, "flow_runs/filter", flow_runs=states):
        name = run["id"]
        about = {"event": {"name": [BEAT]}, "resource": {"id": [f"prefect.flow-run.{name}"]}, "order": "DESC"}
        beats = [event["occurred"] for event in ask(api, "events/filter", filter=about, limit=1)["events"]]
        sign = f"{run['state']['id']} {beats}"
        known, looks = before.get(name, (sign, -1))
        silent[name] = sign, looks = sign, looks + 1 if known == sign else 0
        pending = run["state_type"] == "PENDING"
        here = None if pending else lives(name)  # one that is started again has the lock of before until it begins
        # A run that has begun and never beat was not started by a worker.
        dead = looks >= LOOKS and (beats or pending) if here is None else looks and not here
        if dead:
            message = f"{SILENT} {looks * EVERY} s." if here is None else GONE
            ask(api, f"flow_runs/{name}/set_state", state={"type": "CRASHED", "message": message})
    return silent


def lives(run: str) -> bool | None:
    """Whether the process of a flow run lives; None if it is not of this home, or has not begun."""
    try:
        with (home() / "locks" / f"{LOCK}{run}").open("r+") as file:
            return not take(file)
    except FileNotFoundError:
        return None
