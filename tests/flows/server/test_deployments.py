"""`prefect deployment run` against a real server, work pool and worker, from prefect.yaml, as the README tells it."""

import json
from pathlib import Path

import pytest

from flows.recipe import CORPUS_PATTERN, corpus_names
from tests.flows.workshop import Workshop

pytestmark = pytest.mark.slow
SMALL = {"tokenizer.vocab_size": 512, "pack.block_size": 32, "model.n_layer": 1, "model.n_embd": 32, "model.n_head": 2,
         "train.eval_every": 5, "sample.max_tokens": 5, "runtime.threads": 1}  # fmt: skip
FIVE = ["download", "clean", "tokenize", "pack", "train"]
TRAIN = ("deployment", "run", "train/python-docs", "--watch", "-p", "steps=10", "-p", f"overrides={json.dumps(SMALL)}")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("worker") / "home"


@pytest.fixture(scope="module")
def shop(tmp_path_factory, home, empty_prefect):
    """With a worker that lives in this home."""
    shop = Workshop(tmp_path_factory.mktemp("server"), empty_prefect)
    try:
        shop.start_worker(home)
        yield shop
    finally:
        shop.close()


def newest(shop: Workshop, flow: str) -> dict:
    """The last that was not started by its schedule."""
    asked = {"flows": {"name": {"any_": [flow]}}, "sort": "EXPECTED_START_TIME_DESC"}
    return next(run for run in shop.ask("flow_runs/filter", asked) if not run["auto_scheduled"])


def test_every_recipe_has_its_deployment_and_each_its_queue(shop):
    queues = {row["name"]: row["work_queue_name"] for row in shop.ask("deployments/filter", {})}
    gpu = dict.fromkeys([*corpus_names(), "all", "run", "rules"], "gpu")
    assert queues == gpu | {"corpus": "cpu", "weekly": "cpu"}


def test_the_form_of_every_parameter_has_a_name_a_type_and_help(shop):
    for row in shop.ask("deployments/filter", {}):
        for name, shown in row["parameter_openapi_schema"]["properties"].items():
            assert shown["title"] == name, row["name"]
            assert len(shown.get("description", "")) > 10, (row["name"], name)
            assert shown.keys() & {"type", "anyOf", "enum", "allOf", "$ref"}, (row["name"], name)
            assert "default" in shown or name in row["parameter_openapi_schema"].get("required", []), (
                row["name"],
                name,
            )
    shown = shop.ask("deployments/name/train/wiki")["parameter_openapi_schema"]["properties"]
    assert {"type": "integer", "minimum": 1} in shown["steps"]["anyOf"]
    assert {"type": "number", "exclusiveMinimum": 0} in shown["minutes"]["anyOf"]
    assert shown["corpus"]["pattern"] == CORPUS_PATTERN
    assert any("nano" in one.get("enum", []) for one in shown["size"]["anyOf"])
    assert {"enum": FIVE, "type": "string"} in shown["force"]["anyOf"]


def test_every_corpus_has_a_schedule_of_its_own_hour(shop):
    schedules = {
        row["name"]: [
            (s["schedule"]["cron"], s["schedule"]["timezone"], s["active"], s["parameters"]) for s in row["schedules"]
        ]
        for row in shop.ask("deployments/filter", {})
    }
    assert {name: len(found) for name, found in schedules.items() if found} == dict.fromkeys(
        [*corpus_names(), "weekly"], 1
    )
    assert len({cron for ((cron, *_),) in filter(None, schedules.values())}) == len(corpus_names()) + 1
    assert [name for name, found in schedules.items() if found and not found[0][2]] == ["wiki"]
    assert all(schedules[name][0][3] == {"refresh": True} for name in corpus_names())


def test_a_deployment_runs_and_an_unchanged_one_does_nothing(shop):
    first = shop.prefect(*TRAIN)
    assert first.returncode == 0, first.stdout + first.stderr
    run = newest(shop, "train")
    assert shop.tasks(run["id"]) == dict.fromkeys(FIVE, "Completed")
    message = run["state"]["message"]
    assert "the best baseline, " in message
    assert message.endswith("; gpt-python-docs/1; version 1 is the first")
    shown = shop.artifacts(run["id"])
    assert "runs?workflowType=machine_learning" in shown["mlflow-python-docs"]["data"]
    assert "progress-train" in shown

    assert shop.prefect(*TRAIN).returncode == 0
    again = newest(shop, "train")
    assert again["id"] != run["id"]
    assert again["state"]["name"] == "Unchanged"
    assert (
        again["state"]["message"] == "all five stages of python-docs are up to date; gpt-python-docs/1 is their model"
    )
    assert shop.tasks(again["id"]) == {}


def test_what_was_trained_is_compared_and_made_again(shop, home):
    compared = shop.run("compare/all", max_bytes=2000)
    made = shop.run("reproduce/run", run_id="gpt-python-docs@champion")
    ablated = shop.run("ablate/rules", corpus="python-docs", rules=["spaces=true"], steps=5, overrides=SMALL)
    assert shop.wait(compared, "Completed")
    assert "gpt-python-docs" in shop.artifacts(compared)["comparison"]["data"]
    assert shop.wait(made, "Completed")
    assert set(shop.tasks(made).values()) == {"Completed"}
    (verdict,) = home.glob("reproductions/*/reproduction.json")
    assert json.loads(verdict.read_text())["verdict"] == "identical"
    assert shop.wait(ablated, "Completed")["work_queue_name"] == "gpu"
    assert "| spaces | False | True |" in shop.artifacts(ablated)["ablation-python-docs"]["data"]


def test_a_prepared_corpus_is_trained_by_another_deployment(shop):
    changed = SMALL | {"clean.min_chars": 40}
    prepared = shop.run("prepare/corpus", corpus="python-docs", steps=5, overrides=changed, then_train=True)
    assert shop.wait(prepared, "Completed")["work_queue_name"] == "cpu"
    assert shop.tasks(prepared).keys() == {*FIVE[:4]}
    trained = newest(shop, "train")
    assert trained["work_queue_name"] == "gpu"
    shop.wait(trained["id"], "Completed")
    assert shop.tasks(trained["id"]) == dict.fromkeys(FIVE[:4], "Reused") | {"train": "Completed"}


def test_a_failing_run_ends_with_an_exit_code(shop):
    failing = shop.prefect(*TRAIN[:4], "-p", 'overrides={"train.lrr": 0.1}')
    assert failing.returncode not in (0, None)
    run = newest(shop, "train")
    assert run["state"]["type"] == "FAILED"
    assert "did you mean 'train.lr'" in run["state"]["message"]


@pytest.mark.parametrize(
    "parameter",
    ["steps=0", "steps=many", "size=huge", "force=packing", "corpus=Not A Name", "overrides=[1]", "stepz=3"],
)
def test_a_bad_parameter_is_refused_before_a_run_exists(shop, parameter):
    before = shop.ask("flow_runs/count", {})
    refused = shop.prefect(*TRAIN[:3], "-p", parameter)
    assert refused.returncode != 0
    assert parameter.split("=")[0] in refused.stdout + refused.stderr
    assert shop.ask("flow_runs/count", {}) == before
