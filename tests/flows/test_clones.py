"""The clones: a corpus trained from a base and from scratch, compared on the same texts, and shown."""

import json
import random

import mlflow
import pytest

from flows.store.artifacts import Store
from tests.conftest import ROOT
from tests.flows.cli.test_command import assert_refused
from tests.flows.conftest import TINY, WORDS, gpt_here, own_home
from tests.flows.docs.reading import table

HANDLE = "gpreda/reddit-wallstreetsbets-posts"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, prefect_server, empty_mlflow):
    """With a home in which `base` was trained, and the raw files of wsb as Kaggle lays them out."""
    folder, draw = tmp_path_factory.mktemp("clones"), random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=40)) for _ in range(200)]
    (folder / "base.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    posts = {"title": "A post of some words {}", "score": "1", "id": "x{}", "url": "u", "comms_num": "0"}
    posts |= {"created": "1611862661.0", "body": "", "timestamp": "2021-01-28 21:37:41"}
    (folder / HANDLE).mkdir(parents=True)
    (folder / HANDLE / "reddit_wsb.csv").write_text(table(posts, [text[::-1] for text in texts]))
    with own_home(folder / "home", prefect_server, empty_mlflow):
        made = gpt_here("train", "--from", str(folder / "base.jsonl"), "--name", "base", *TINY)
        assert made.returncode == 0, made.stderr
        yield folder


@pytest.mark.slow
def test_a_corpus_is_compared_from_the_base_and_from_scratch(folder):
    found = gpt_here("clones", "base", "--corpus", "wsb", "--minutes", "0.01", "--from", str(folder), "--json")
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)
    (row,) = result["rows"]
    assert row["difference"] == pytest.approx(row["tuned"] - row["scratch"])
    assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    assert row["tuned"] < row["base"]  # it has learned
    assert row["tuned_on_base"] != row["base_on_base"]
    assert all(row[f"{name}_writes"] for name in ("base", "scratch", "tuned"))
    assert all(row[f"{name}_repeats"] > 0 for name in ("base", "scratch", "tuned"))
    store = Store(folder / "home")
    assert {manifest["stage"] for manifest in store.manifests("wsb")} == {"download", "clean"}
    starts = [manifest["parameters"].get("start") for manifest in store.manifests("wsb-clone", "train")]
    (base,) = store.manifests("base", "train")
    assert sorted(map(str, starts)) == sorted(["None", base["files"]["model/model.safetensors"]["sha256"]])

    parent = mlflow.get_run(result["mlflow_run"])
    assert (parent.info.status, parent.data.tags["kind"]) == ("FINISHED", "clones")
    assert parent.data.metrics["difference/wsb"] == pytest.approx(row["difference"])
    asked = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    children = mlflow.search_runs([parent.info.experiment_id], asked, output_format="list")
    assert {run.info.run_name for run in children} == {"wsb-clone: scratch", "wsb-clone: tuned"}
    files = {f.path for f in mlflow.artifacts.list_artifacts(run_id=parent.info.run_id, artifact_path="clones")}
    assert {"clones/differences.png", "clones/card.html", "clones/card.md", "clones/card.json"} <= files
    assert "| wsb&emsp;| " in parent.data.tags["mlflow.note.content"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("bass",), "model 'bass' is not known"),
        (("base", "--corpus", "wbs"), "did you mean 'wsb'"),
        (("base", "--corpus", "qanon"), "jkingsman/qanondrops does not exist"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_work(folder, asked, words):
    assert_refused(gpt_here("clones", *asked, "--from", str(folder)), words)
    assert not Store(folder / "home").manifests("qanon")


def test_the_flow_can_be_deployed_by_its_path(monkeypatch):
    from prefect.flows import load_flow_from_entrypoint

    monkeypatch.chdir(ROOT)
    flow = load_flow_from_entrypoint("flows/variants.py:clones")
    assert flow.name == "clones"
    assert not flow.parameters.required
