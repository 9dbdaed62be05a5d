"""What `gpt status` shows, by asking the server that `gpt up` started; neither Prefect nor MLflow is loaded for it."""

from datetime import UTC, datetime

from flows.server.processes import ask
from flows.server.supervisor import is_process, state

LIMIT = 200  # Prefect returns no more runs at once
OPEN = ("RUNNING", "CANCELLING", "PENDING", "PAUSED", "SCHEDULED")


def status() -> dict:
    """`up` says whether everything is up, `api` is Prefect's address. The rest are rows: services, and open runs."""
    found = state()
    services = [
        _service(name, "up" if is_process(entry) else "down", entry["created"], found.get(name, ""))
        for name, entry in found.get("services", {}).items()
    ]
    if services and not found["alive"]:
        services.append(_service("gpt up", "down: gpt down ends what is left"))
    if services and not found["ready"]:
        services.append(_service("gpt up", "starting", found["created"]))
    up = bool(services) and all(row["state"] == "up" for row in services)
    return {"up": up, "api": found.get("api", ""), "services": services, "runs": _runs(found["api"]) if up else []}


def _runs(api: str) -> list[dict]:
    """What is in progress, waits or is due, in the order of time. Of the runs that are due, the next of each deployment."""
    flows, deployments = (
        {row["id"]: row["name"] for row in ask(api, f"{what}/filter")} for what in ("flows", "deployments")
    )
    which = {"state": {"type": {"any_": OPEN}}}
    rows: dict[tuple[str, str], dict] = {}
    for run in ask(api, "flow_runs/filter", flow_runs=which, sort="EXPECTED_START_TIME_ASC", limit=LIMIT):
        name = f"{flows.get(run['flow_id'], '?')}/{deployments.get(run['deployment_id'], run['name'])}"
        state, since = run["state"]["name"], _time(run["start_time"] or run["expected_start_time"])
        again = ", started again after a crash" if run["run_count"] > 1 else ""
        row = {"run": name, "name": run["name"], "state": state + again, "since": since}
        rows.setdefault((name, "" if state == "Scheduled" else run["id"]), row)
    return list(rows.values())


def _service(name: str, state: str, since: float = 0.0, address: str = "") -> dict:
    return {"service": name, "state": state, "since": _time(since), "address": address}


def _time(when: float | str) -> str:
    """In the local time zone, to the second."""
    if not when:
        return ""
    moment = datetime.fromtimestamp(when, UTC) if isinstance(when, float) else datetime.fromisoformat(when)
    return moment.astimezone().isoformat(" ", "seconds")[:19]
