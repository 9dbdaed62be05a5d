"""What `gpt status` shows, by asking the server that `gpt up` started; neither Prefect nor MLflow is loaded for it."""

from datetime import UTC, datetime

from flows.home import shared_home
from flows.server.processes import ask
from flows.server.supervisor import is_process, state
from flows.store.artifacts import Store

LIMIT = 200  # Prefect returns no more runs at once
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
EMPTY = {"corpus": "", "run": "", "ended": "", "model": "", "test_bpb": ""}


def status() -> dict:
    """`up` says whether everything is up, `api` is Prefect's address. The rest are rows: services, running, queued, next, last
    (by corpus)."""
    found = state()
    services = [
        _service(name, "up" if is_process(entry) else "down", entry["created"], found.get(name, ""))
        for name, entry in found.get("services", {}).items()
    ]
    down = [row["service"] for row in services if row["state"] == "down"]
    up = bool(services) and found["ready"] and found["alive"] and not down
    if services and not found["alive"]:
        services.append(_service("gpt up", "down: gpt down ends what is left"))
    if services and not found["ready"]:
        services.append(_service("gpt up", "starting", found["created"]))
    result: dict = {"up": up, "api": found.get("api", ""), "services": services}
    result |= {"running": [], "queued": [], "next": []}
    answers = bool(services) and found["ready"] and "prefect" not in down
    return result | {"last": _last(_add_runs(result, found["api"]) if answers else [])}


def _service(name: str, state: str, since: float = 0.0, address: str = "") -> dict:
    return {"service": name, "state": state, "since": _time(since), "address": address}


def _add_runs(result: dict, api: str) -> list[tuple[str, dict]]:
    """Fill in what runs, is queued and is due. Returns the trainings that ended, each with its corpus, newest first."""
    deployments, flows = (
        {row["id"]: row["name"] for row in ask(api, f"{what}/filter")} for what in ("deployments", "flows")
    )

    def runs(sort: str, *states: str) -> list[tuple[str, dict]]:
        which = {"state": {"type": {"any_": states}}}
        found = ask(api, "flow_runs/filter", flow_runs=which, sort=sort, limit=LIMIT)
        return [(deployments.get(run["deployment_id"], run["name"]), run) for run in found]

    def title(name: str, run: dict) -> str:
        return f"{flows.get(run['flow_id'], '?')}/{name}"

    for name, run in runs("START_TIME_ASC", "RUNNING", "CANCELLING"):
        state = run["state"]["name"] + (", started again after a crash" if run["run_count"] > 1 else "")
        row = {"run": title(name, run), "name": run["name"], "state": state}
        result["running"].append(row | {"since": _time(run["start_time"])})
    now, known = datetime.now(UTC).isoformat(), set()
    for name, run in runs("EXPECTED_START_TIME_ASC", "SCHEDULED", "PENDING", "PAUSED"):
        row, state = {"run": title(name, run)}, run["state"]["name"]
        # The start time of a run that waits for a slot is that of its next attempt.
        late = state == "AwaitingConcurrencySlot" or run["state_type"] != "SCHEDULED"
        if late or run["next_scheduled_start_time"] <= now:
            row |= {"state": state, "since": _time(run["expected_start_time"]), "pool": _pool(run["work_pool_name"])}
            result["queued"].append(row)
        elif row["run"] not in known:
            known.add(row["run"])
            result["next"].append(row | {"at": _time(run["next_scheduled_start_time"])})
    trainings = [(name, run) for name, run in runs("END_TIME_DESC", *ENDED) if flows.get(run["flow_id"]) == "train"]
    return [(run["parameters"].get("corpus") or name, run) for name, run in trainings]


def _last(ended: list[tuple[str, dict]]) -> list[dict]:
    """For each corpus the newest finished run of the server, and the newest model."""
    rows: dict[str, dict] = {}
    for corpus, run in reversed(ended):
        rows[corpus] = EMPTY | {"corpus": corpus, "run": run["state"]["name"], "ended": _time(run["end_time"])}
    for manifest in Store(shared_home()).manifests(stage="train"):  # oldest first
        bits = manifest["counts"].get("test_bpb")  # none of a model before there was a test split
        model = {"model": _time(manifest["created"]), "test_bpb": round(bits, 4) if bits else ""}
        rows[manifest["corpus"]] = EMPTY | {"corpus": manifest["corpus"]} | rows.get(manifest["corpus"], {}) | model
    return [rows[corpus] for corpus in sorted(rows)]


def _pool(name: str | None) -> str:
    """The work pool, and what is missing if a run cannot start because of it."""
    if not name:
        return "none: its work pool is gone; gpt up makes it and deploys again"
    return name if name == "gpt" else f"{name}, which takes a worker of its own: prefect worker start --pool {name}"


def _time(when: float | str | None) -> str:
    """In the local time zone, to the second."""
    if not when:
        return ""
    moment = datetime.fromtimestamp(when, UTC) if isinstance(when, float) else datetime.fromisoformat(when)
    return moment.astimezone().isoformat(" ", "seconds")[:19]
