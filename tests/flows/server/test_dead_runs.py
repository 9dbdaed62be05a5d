"""Runs whose process died unseen are found, and runs that live are left alone, whatever the clock says; with a real server."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from prefect import flow_engine
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.server import dead_runs
from flows.server.processes import ask
from tests.flows.workshop import until

HOLD = (
    "import sys, time; from flows.store.locks import take; file = open(sys.argv[1], 'w+'); take(file); "
    "print(flush=True); time.sleep(600)"
)


@pytest.fixture
def own_server(prefect_server):
    with temporary_settings({PREFECT_API_URL: prefect_server}):
        yield prefect_server


@pytest.fixture
def run(home, prefect_server) -> str:
    """A flow run that is Running, by the server."""
    home.mkdir()
    flow = ask(prefect_server, "flows/", name="train")["id"]
    return ask(prefect_server, "flow_runs/", flow_id=flow, name="mine", state={"type": "RUNNING"})["id"]


def beat(api: str, run: str, ago: timedelta) -> None:
    event = {
        "id": str(uuid4()),
        "event": dead_runs.BEAT,
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
    }
    moment = (datetime.now(UTC) - ago).isoformat()
    about = {"event": {"name": [dead_runs.BEAT]}, "resource": {"id": [f"prefect.flow-run.{run}"]}}

    def known() -> int:
        return len(ask(api, "events/filter", filter=about)["events"])

    before = known()
    with get_client(sync_client=True) as client:
        assert client._client.post("/events", json=[event | {"occurred": moment}]).status_code == 204
    until(lambda: known() > before, "the heartbeat")


def state(api: str, run: str) -> tuple[str, str]:
    (found,) = ask(api, "flow_runs/filter", flow_runs={"id": {"any_": [run]}})
    return found["state"]["name"], found["state"]["message"] or ""


def look(api: str, run: str, times: int, seen: dict | None = None) -> dict:
    seen = seen or {}
    for _ in range(times):
        seen = dead_runs.look(api, seen)
    return seen


def test_a_run_elsewhere_may_beat_again_after_a_sleep(own_server, run):
    beat(own_server, run, timedelta(hours=9))
    seen = look(own_server, run, dead_runs.LOOKS)  # as many as there are in five minutes awake, less one
    assert state(own_server, run)[0] == "Running"
    beat(own_server, run, timedelta(0))
    seen = look(own_server, run, dead_runs.LOOKS, seen)
    assert state(own_server, run)[0] == "Running"
    look(own_server, run, 1, seen)
    assert state(own_server, run) == ("Crashed", "No heartbeat for 300 s.")


def test_a_run_goes_on_that_lost_the_slot_of_its_deployment_in_a_sleep(own_server):
    dead_runs.go_on_without_slot()
    with flow_engine.maintain_concurrency_lease(uuid4(), 300, raise_on_lease_renewal_failure=True):
        time.sleep(8)  # it asks three times for a lease that the server does not know


def test_a_run_that_never_beat_is_left_alone(own_server, run):
    """`gpt train` of another machine, which no worker has started."""
    look(own_server, run, 3 * dead_runs.LOOKS)
    assert state(own_server, run)[0] == "Running"


def test_a_stopped_process_lives_and_a_killed_one_does_not(own_server, run):
    path = dead_runs.lock_file(run)
    path.parent.mkdir()
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    try:
        process.stdout.readline()
        beat(own_server, run, timedelta(hours=9))
        os.kill(process.pid, signal.SIGSTOP)
        seen = look(own_server, run, 3 * dead_runs.LOOKS)
        assert state(own_server, run)[0] == "Running"
    finally:
        process.kill()
        process.wait()
    look(own_server, run, 1, seen)
    assert state(own_server, run) == ("Crashed", dead_runs.GONE)
    assert not path.exists()
