"""A home that looks after itself: schedules, limits, what follows a training, maintenance; with a real server and worker."""

import json
import re
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.conftest import ROOT, spelled
from tests.data_contracts.stub_server import Dataset, Stub
from tests.flows.workshop import Workshop, until

pytestmark = pytest.mark.slow
CORPUS, HANDLE = "rick-and-morty", "andradaolteanu/rickmorty-scripts"
HEADER = "index,season no.,episode no.,episode name,name,line\n"
SMALL = {"tokenizer.vocab_size": 300, "pack.block_size": 32, "model.n_layer": 1, "model.n_embd": 32, "model.n_head": 2,
         "train.steps": 10, "train.eval_every": 5, "sample.max_tokens": 5, "runtime.threads": 1}  # fmt: skip
CREATE_AUTOMATIONS = "from flows.server.bootstrap import create_automations; create_automations({!r})"
AUTOMATIONS = (ROOT / "automations.yaml").read_text()
# What docs/operate.md tells to do on Prefect's page.
(TRIGGER,) = re.findall(r"^    ({.*?\]})$", (ROOT / "docs" / "operate.md").read_text(), re.DOTALL | re.MULTILINE)
NOTIFY = """
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import get_client
from prefect.events import AutomationCore

data = {{"text": "{{{{subject}}}}: {{{{body}}}}"}}
block = CustomWebhookNotificationBlock(name="failures", url="{address}", json_data=data).save("failures")
body = "{{{{ flow.name }}}} {{{{ flow_run.state.name }}}}: {{{{ flow_run.state.message }}}}"
action = {{"type": "send-notification", "block_document_id": block, "subject": "gpt", "body": body}}
with get_client(sync_client=True) as client:
    wanted = {{"name": "notify", "trigger": {trigger}, "actions": [action]}}
    client.create_automation(AutomationCore.model_validate(wanted))
"""


CHAMPION = (
    "select value from model_version_tags tag join registered_model_aliases alias "
    "on tag.name = alias.name and tag.version = alias.version where alias.alias = 'champion' and tag.key = 'digest'"
)


def script(lines: int) -> bytes:
    row = "{i},1,{e},Pilot {e},{who},Well number {n} of {e} is what {who} says about the portal and the other side"
    rows = (row.format(i=i, n=spelled(i), e=1 + i // 50, who="RM"[i % 2] * 3) for i in range(lines))
    return (HEADER + "".join(f"{row}\n" for row in rows)).encode()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("worker") / "home"


@pytest.fixture(scope="module")
def kaggle():
    with Stub() as stub:
        stub.datasets[HANDLE] = Dataset({"a.csv": script(2000)}, version=3)
        yield stub


@pytest.fixture(scope="module")
def shop(tmp_path_factory, home, kaggle, empty_prefect):
    """Arranged, with a comparison ten seconds after a training, and a worker for which the stub is Kaggle."""
    shop = Workshop(tmp_path_factory.mktemp("server"), empty_prefect)
    try:
        shop.python(CREATE_AUTOMATIONS.format(AUTOMATIONS.replace("600", "10")), home)
        proxy = kaggle.kaggle(home.parent) | {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
        shop.start_worker(home, **proxy)
        yield shop
    finally:
        shop.close()


def train(shop: Workshop, **more) -> dict:
    return shop.wait(shop.run(f"train/{CORPUS}", overrides=SMALL, **more))


def comparisons(shop: Workshop) -> list[dict]:
    return shop.ask("flow_runs/filter", {"flows": {"name": {"any_": ["compare"]}}})


def runs(home: Path) -> int:
    """Those that MLflow shows."""
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        return database.execute("select count(*) from runs where lifecycle_stage = 'active'").fetchone()[0]


def test_arranging_again_leaves_alone_what_is_there(shop, home):
    shop.ask("v2/concurrency_limits/gpu", {"limit": 5}, "PATCH")
    before = shop.ask("automations/filter", {})
    shop.python(CREATE_AUTOMATIONS.format(""), home)
    assert len(before) == 2
    assert shop.ask("automations/filter", {}) == before
    assert shop.ask("v2/concurrency_limits/gpu")["limit"] == 5
    shop.ask("v2/concurrency_limits/gpu", {"limit": 1}, "PATCH")


def test_a_schedule_fires_and_leaves_alone_what_was_never_trained(shop):
    deployment = shop.ask(f"deployments/name/train/{CORPUS}")["id"]
    soon = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
    schedule = {"schedule": {"interval": 30, "anchor_date": soon, "timezone": "UTC"}, "active": True}
    made = shop.ask(f"deployments/{deployment}/schedules", [schedule | {"parameters": {"refresh": True}}])

    def ended() -> list[dict]:
        asked = {"flow_runs": {"deployment_id": {"any_": [deployment]}, "state": {"type": {"any_": ["COMPLETED"]}}}}
        return shop.ask("flow_runs/filter", asked)

    run = until(ended, "the scheduled run")[0]
    shop.ask(f"deployments/{deployment}/schedules/{made[0]['id']}", method="DELETE")
    assert run["auto_scheduled"]
    assert run["state"]["name"] == "Untrained"
    assert run["state"]["message"] == f"{CORPUS} was never trained here, so there is nothing to refresh"


def test_new_data_is_trained_and_compared_and_old_data_is_not(shop, home, kaggle):
    first = train(shop)
    message = first["state"]["message"]
    assert "the best baseline, " in message
    assert message.endswith(f"; gpt-{CORPUS}/1; version 1 is the first")
    (compared,) = until(lambda: comparisons(shop), "a comparison after the training")
    assert shop.wait(compared["id"])["state"]["name"] == "Completed"

    before = runs(home)
    assert train(shop, refresh=True)["state"]["name"] == "Unchanged"
    # A schedule names no settings: those of the champion are meant, not those of the recipe.
    assert shop.wait(shop.run(f"train/{CORPUS}", refresh=True))["state"]["name"] == "Unchanged"
    assert runs(home) == before

    kaggle.datasets[HANDLE] = Dataset({"a.csv": script(2600)}, version=4)
    newer = train(shop, refresh=True)
    assert newer["state"]["name"] == "Completed"
    said = rf".*; gpt-{CORPUS}/2; version (2 replaces 1|1 stays): [\d.]+ bits per byte against [\d.]+ on .*"
    assert re.fullmatch(said, newer["state"]["message"])
    assert shop.tasks(newer["id"])["download"] == "Completed"
    assert runs(home) == before + 1
    assert train(shop, refresh=True)["state"]["name"] == "Unchanged"
    until(lambda: len(comparisons(shop)) == 2, "a second comparison: none after the two that changed nothing")


def test_one_training_at_a_time_and_overlapping_ones_wait_or_are_cancelled(shop):
    """The only slot is held by someone who is dead, so it comes back when the lease ends."""
    taken = {"names": ["gpu"], "slots": 1, "mode": "concurrency", "lease_duration": 60}
    # The comparison of the test before may still have it.
    until(lambda: shop.ask("v2/concurrency_limits/increment-with-lease", taken)["limits"], "the only slot")
    first = shop.run(f"train/{CORPUS}", overrides=SMALL | {"train.lr": 0.002})
    asked = {"logs": {"flow_run_id": {"any_": [first]}}}
    until(lambda: any("waiting for 1 of the slots of gpu" in row["message"] for row in shop.ask("logs/filter", asked)),
          "the waiting is logged")  # fmt: skip
    second = shop.run(f"train/{CORPUS}", overrides=SMALL | {"train.lr": 0.002})
    shop.wait(second, "AwaitingConcurrencySlot")
    deployment = shop.ask(f"deployments/name/train/{CORPUS}")["id"]
    shop.ask(f"deployments/{deployment}", {"concurrency_options": {"collision_strategy": "CANCEL_NEW"}}, "PATCH")
    third = shop.run(f"train/{CORPUS}", overrides=SMALL)
    assert shop.wait(third)["state"]["type"] == "CANCELLED"
    shop.ask(f"deployments/{deployment}", {"concurrency_options": {"collision_strategy": "ENQUEUE"}}, "PATCH")
    assert shop.wait(first)["state"]["name"] == "Completed"
    assert shop.wait(second)["state"]["name"] == "Unchanged"
    until(lambda: shop.ask("v2/concurrency_limits/gpu")["active_slots"] == 0, "the slots come back")


def test_failures_are_posted_and_what_maintenance_finds(shop, home):
    told = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/hook"
        shop.python(NOTIFY.format(address=address, trigger=json.loads(TRIGGER)), home)

        # Comparisons follow the trainings of the tests before: a home that is in use is not pruned.
        until(lambda: len(comparisons(shop)) >= 3, "the comparison after the last training")
        assert {shop.wait(run["id"])["state"]["name"] for run in comparisons(shop)} == {"Completed"}

        # A damaged artifact, and a run that failed long ago.
        manifests = home.glob(f"artifacts/{CORPUS}/pack/*/manifest.json")
        (max(manifests, key=lambda path: path.stat().st_mtime_ns).parent / "baselines.json").write_text("{}")
        with closing(sqlite3.connect(home / "mlflow.db")) as database, database:
            (old,) = database.execute("select run_uuid from runs order by start_time desc limit 1").fetchone()
            database.execute("update runs set status = 'FAILED', end_time = 1 where run_uuid = ?", (old,))
            database.execute("update model_versions set run_id = 'another' where run_id = ?", (old,))
            (named,) = database.execute("select run_id from model_versions where version = 1").fetchone()
            database.execute("update runs set status = 'KILLED', end_time = 1 where run_uuid = ?", (named,))
        before = runs(home)

        dry = shop.wait(shop.run("maintain/weekly", dry_run=True))
        assert dry["state"]["name"] == "Damaged"
        assert runs(home) == before

        run = shop.wait(shop.run("maintain/weekly", keep=1))
        said = r"1 artifacts are damaged; the next run builds them again. \d things done"
        assert re.fullmatch(said, run["state"]["message"])
        rows = json.loads(shop.artifacts(run["id"])["maintenance"]["data"])
        found = {row["what"]: row for row in rows}
        assert (
            found["damaged"]["done"] == "baselines.json has 2 bytes instead of " + found["damaged"]["done"].split()[-1]
        )
        assert found["MLflow run"]["which"] == old  # and not that of a registered model
        assert runs(home) == before - 1
        assert found["folder"]["done"].startswith("removed: ")
        with closing(sqlite3.connect(home / "mlflow.db")) as database:
            ((champion,),) = database.execute(CHAMPION).fetchall()
        left = [
            json.loads(path.read_text())["digest"] for path in home.glob(f"artifacts/{CORPUS}/train/*/manifest.json")
        ]
        assert champion in left
        assert len(left) <= 2  # and the newest
        until(lambda: any("maintain Damaged: 1 artifacts" in one["text"] for one in told), "the notification")
        server.shutdown()
