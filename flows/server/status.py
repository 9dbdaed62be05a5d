"""What `gpt status` shows, by asking the server that `gpt up` started; neither Prefect nor MLflow is loaded for it."""

import json
import os
import urllib.error
import urllib.request
from base64 import b64encode
from datetime import UTC, datetime

from flows import UserError
from flows.home import home, shared_home
from flows.server.access import AUTH_VARIABLE
from flows.server.supervisor import is_process, state
from flows.store.artifacts import Store

LIMIT = 200  # Prefect returns no more runs at once
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def status() -> dict:
    """`up` says whether everything is up. The rest are rows: services, running, queued, next, last (by corpus)."""
    found = state()
    services = [
        {
            "service": name,
            "state": "up" if is_process(entry) else "down",
            "since": _time(entry["created"]),
            "address": {"prefect": found["prefect"], "mlflow": found.get("mlflow", "")}.get(name, ""),
        }
        for name, entry in found.get("services", {}).items()
    ]
    down = [row["service"] for row in services if row["state"] == "down"]
    if services and not found["alive"]:
        down.append("gpt up")
        services.append({"service": "gpt up", "state": "down: gpt down ends what is left", "since": "", "address": ""})
    if services and not found["ready"]:
        services.append({"service": "gpt up", "state": "starting", "since": _time(found["created"]), "address": ""})
    result = {"up": bool(services) and not down and found["ready"], "services": services}
    if not services or "prefect" in down or not found["ready"]:
        return result | {"running": [], "queued": [], "next": [], "last": _last([], {})}
    api, now = found["api"], datetime.now(UTC).isoformat()
    names = {row["id"]: row["name"] for row in _ask(api, "deployments")}
    flows = {row["id"]: row["name"] for row in _ask(api, "flows")}

    def runs(sort: str, *states: str, **more: dict) -> list[dict]:
        which = {"state": {"type": {"any_": list(states)}}} | more
        return _ask(api, "flow_runs", flow_runs=which, sort=sort, limit=LIMIT)

    def named(run: dict) -> str:
        return f"{flows.get(run['flow_id'], '?')}/{names.get(run['deployment_id'], run['name'])}"

    waiting = runs("EXPECTED_START_TIME_ASC", "SCHEDULED", "PENDING", "PAUSED")
    due = [
        run
        for run in waiting
        if run["state"]["name"] == "AwaitingConcurrencySlot"  # its start time is that of its next attempt
        or run["state_type"] != "SCHEDULED"
        or run["next_scheduled_start_time"] <= now
    ]
    later = {named(run): run for run in reversed(waiting) if run not in due}
    return result | {
        "running": [
            {"run": named(run), "name": run["name"], "state": run["state"]["name"], "since": _time(run["start_time"])}
            for run in runs("START_TIME_ASC", "RUNNING", "CANCELLING")
        ],
        "queued": [
            {
                "run": named(run),
                "state": run["state"]["name"],
                "since": _time(run["expected_start_time"]),
                "pool": _pool(run["work_pool_name"]),
            }
            for run in due
        ],
        "next": [
            {"run": name, "at": _time(run["next_scheduled_start_time"])}
            for name, run in sorted(later.items(), key=lambda item: item[1]["next_scheduled_start_time"])
        ],
        "last": _last(
            [run for run in runs("END_TIME_DESC", *ENDED) if flows.get(run["flow_id"]) == "train"],
            names,
        ),
    }


def _last(runs: list[dict], deployments: dict[str, str]) -> list[dict]:
    """For each corpus the newest finished run of the server, and the newest model. runs: newest first."""
    rows: dict[str, dict] = {}
    for run in runs:
        corpus = run["parameters"].get("corpus") or deployments.get(run["deployment_id"], run["name"])
        row = {"corpus": corpus, "run": run["state"]["name"], "ended": _time(run["end_time"])}
        rows.setdefault(corpus, row | {"model": "", "val_bpb": ""})
    for manifest in Store(shared_home()).manifests("*"):  # oldest first
        if manifest["stage"] == "train":
            row = rows.setdefault(
                manifest["corpus"], {"corpus": manifest["corpus"], "run": "", "ended": "", "model": "", "val_bpb": ""}
            )
            row |= {
                "model": manifest["created"][:16].replace("T", " "),
                "val_bpb": round(manifest["counts"]["val_bpb"], 4),
            }
    return [rows[corpus] for corpus in sorted(rows)]


def _pool(name: str | None) -> str:
    """The work pool, and what is missing if a run cannot start because of it."""
    if not name:
        return "none: its work pool is gone; gpt up makes it and deploys again"
    return name if name == "gpt" else f"{name}, which takes a worker of its own: prefect worker start --pool {name}"


def _ask(api: str, what: str, **body: object) -> list[dict]:
    headers = {"Content-Type": "application/json"}
    if given := os.environ.get("PREFECT_API_AUTH_STRING") or os.environ.get(AUTH_VARIABLE):
        headers["Authorization"] = f"Basic {b64encode(given.encode()).decode()}"
    request = urllib.request.Request(f"{api}/{what}/filter", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 401:
            raise UserError(
                "Prefect asks for its password: export PREFECT_API_AUTH_STRING=user:password, as gpt up had it"
            ) from None
        raise UserError(
            f"Prefect at {api} answers {error.code} {error.reason}; its log: {home()}/logs/prefect.log"
        ) from None
    except OSError as error:
        raise UserError(f"Prefect at {api} does not answer: {error}; its log: {home()}/logs/prefect.log") from None


def _time(when: float | str | None) -> str:
    """In the local time zone, to the second."""
    if not when:
        return ""
    moment = datetime.fromtimestamp(when, UTC) if isinstance(when, float) else datetime.fromisoformat(when)
    return moment.astimezone().isoformat(" ", "seconds")[:19]
