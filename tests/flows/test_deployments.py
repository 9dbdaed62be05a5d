"""`prefect deployment run` against a real server, work pool and worker, from prefect.yaml, as the README tells it."""

import json
import subprocess
import sys
import urllib.request

import pytest

from tests.conftest import ROOT, environment
from tests.flows.conftest import stop

pytestmark = pytest.mark.slow
SMALL = {"tokenizer.vocab_size": 512, "pack.block_size": 32, "model.n_layer": 1, "model.n_embd": 32, "model.n_head": 2,
         "train.eval_every": 5, "sample.max_tokens": 5, "runtime.threads": 1}  # fmt: skip


@pytest.fixture(scope="module")
def prefect(tmp_path_factory, prefect_server):
    """The `prefect` command, with everything deployed and a worker polling."""
    folder = tmp_path_factory.mktemp("worker")
    more = environment(
        folder / "home",
        PREFECT_API_URL=prefect_server,
        PREFECT_HOME=str(folder / "prefect"),
        PREFECT_WORKER_QUERY_SECONDS="2",
    )

    def prefect(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "prefect", *arguments]
        return subprocess.run(command, cwd=ROOT, env=more, capture_output=True, text=True, timeout=400)

    assert prefect("work-pool", "create", "gpt", "--type", "process").returncode == 0
    deployed = prefect("--no-prompt", "deploy", "--all")
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    command = [
        sys.executable,
        "-m",
        "prefect",
        "worker",
        "start",
        "--pool",
        "gpt",
        "--type",
        "process",
        "--install-policy",
        "never",
    ]
    with (folder / "worker.log").open("w") as log:
        worker = subprocess.Popen(command, cwd=ROOT, env=more, stdout=log, stderr=log)
        yield prefect
        stop(worker)


def ask(server: str, what: str, **body) -> list[dict]:
    request = urllib.request.Request(
        f"{server}/{what}/filter", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def newest_run(server: str, name: str) -> dict:
    runs = ask(
        server,
        "flow_runs",
        flow_runs={"name": {"any_": [name]}, "deployment_id": {"is_null_": False}},
        sort="START_TIME_DESC",
    )
    return runs[0]


def states(server: str, run: dict) -> dict[str, str]:
    tasks = ask(server, "task_runs", flow_runs={"id": {"any_": [run["id"]]}})
    return {task["name"]: task["state"]["name"] for task in tasks}


def test_every_recipe_has_its_deployment(prefect, prefect_server):
    from flows import recipes

    assert {row["name"] for row in ask(prefect_server, "deployments")} == {*recipes.names(), "corpus", "all", "run"}


def test_a_deployment_runs_and_an_unchanged_one_is_reused(prefect, prefect_server):
    command = (
        "deployment",
        "run",
        "train/python-docs",
        "--watch",
        "-p",
        "steps=10",
        "-p",
        f"overrides={json.dumps(SMALL)}",
    )
    first = prefect(*command)
    assert first.returncode == 0, first.stdout + first.stderr
    run = newest_run(prefect_server, "python-docs")
    assert states(prefect_server, run) == dict.fromkeys(["download", "clean", "tokenize", "pack", "train"], "Completed")
    artifacts = ask(prefect_server, "artifacts", artifacts={"flow_run_id": {"any_": [run["id"]]}})
    shown = {artifact["key"]: artifact for artifact in artifacts}
    assert "runs?workflowType=machine_learning" in shown["mlflow-python-docs"]["data"]
    table = json.loads(shown["stages-python-docs"]["data"])
    assert [row["stage"] for row in table] == ["download", "clean", "tokenize", "pack", "train"]
    assert "progress-train" in shown

    assert prefect(*command).returncode == 0
    again = newest_run(prefect_server, "python-docs")
    assert again["id"] != run["id"]
    assert set(states(prefect_server, again).values()) == {"Reused"}


def test_a_failing_run_ends_with_an_exit_code(prefect, prefect_server):
    failing = prefect(
        "deployment", "run", "train/python-docs", "--watch", "-p", 'overrides={"tokenizer.vocab_size": 900000}'
    )
    assert failing.returncode not in (0, None)
    run = newest_run(prefect_server, "python-docs")
    assert run["state"]["type"] == "FAILED"
    assert "largest possible" in run["state"]["message"]


@pytest.mark.parametrize(
    "parameter",
    ["steps=0", "steps=many", "size=huge", "force=packing", "corpus=Not A Name", "overrides=[1]", "stepz=3"],
)
def test_a_bad_parameter_is_refused_before_a_run_exists(prefect, prefect_server, parameter):
    before = len(ask(prefect_server, "flow_runs"))
    refused = prefect("deployment", "run", "train/python-docs", "-p", parameter)
    assert refused.returncode != 0
    assert parameter.split("=")[0] in refused.stdout + refused.stderr
    assert len(ask(prefect_server, "flow_runs")) == before
