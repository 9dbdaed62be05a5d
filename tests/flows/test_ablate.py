"""The ablation of rules: what is trained, on what it is compared, and where it is shown."""

import json
import random
import urllib.request

import mlflow
import pytest

from flows.store.artifacts import Store
from tests.conftest import ROOT
from tests.flows.conftest import TINY, gpt_here, own_home, settings

WORDS = (
    "the",
    "river",
    "bends",
    "old",
    "bridges",
    "wait",
    "for",
    "rain",
    "while",
    "a",
    "miller",
    "counts",
    "his",
    "sacks",
)
RULES = settings(
    {"clean.mentions": "mask", "clean.max_repeated_lines": 0.3, "clean.min_words": 2, "clean.near_duplicates": "keep"}
)
FAST = settings({"train.eval_every": 100})


@pytest.fixture(scope="module")
def folder(tmp_path_factory, prefect_server, empty_mlflow):
    """With a home in which a corpus was cleaned: plain texts, a few mentions, and as many texts of lines over and over."""
    folder, draw = tmp_path_factory.mktemp("ablated"), random.Random(0)
    plain = [" ".join(draw.choices(WORDS, k=14)) for _ in range(300)]
    texts = [f"@miller{number} {text}" if number % 6 == 0 else text for number, text in enumerate(plain)]
    texts += [f"{''.join(draw.choices('#%&=+|', k=40))}\n" * 8 for _ in range(150)]
    (folder / "mine.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    with own_home(folder / "home", prefect_server, empty_mlflow):
        made = gpt_here("clean", "--from", str(folder / "mine.jsonl"), "--name", "mine", *RULES)
        assert made.returncode == 0, made.stderr
        yield folder


def ablate(folder, *asked: str):
    source = ("--from", str(folder / "mine.jsonl"))
    return gpt_here("ablate", "mine", *source, *TINY, *RULES, *FAST, *asked)


@pytest.fixture(scope="module")
def result(folder) -> dict:
    found = ablate(folder, "--steps", "60", "--rules", "mentions,max_repeated_lines,min_words", "--json")
    assert found.returncode == 0, found.stderr
    assert "model 4 of 4: max_repeated_lines" in found.stderr
    return json.loads(found.stdout)


def test_a_rule_that_drops_what_is_no_text_helps(result):
    rows = {row["rule"]: row for row in result["rules"]}
    assert rows.keys() == {"mentions", "max_repeated_lines"}
    lines = rows["max_repeated_lines"]
    assert lines["verdict"] == "helps"
    assert lines["difference_low"] > 0
    assert lines["on_all"] < 0  # where the model without the rule knows what the other has never seen
    assert (lines["recipe"], lines["instead"], lines["documents"]) == (0.3, 0.0, 150)
    assert rows["mentions"]["documents"] == 50
    assert 0 < result["fair_texts"] < result["texts"]
    assert result["notes"] == ["min_words is left out: it changes no document"]
    assert result["steps"] == 60


def test_only_the_rule_differs_and_no_artifact_is_one_of_the_corpus(folder, result):
    store = Store(folder / "home")
    assert {manifest["stage"] for manifest in store.manifests("mine")} == {"download", "clean"}
    assert len(store.manifests("mine", "clean")) == 1
    trained = store.manifests("mine-ablation", "train")
    assert len(trained) == 4
    assert len({json.dumps(m["parameters"] | {"train": m["parameters"]["train"] | {"seed": 1}}) for m in trained}) == 1
    assert sorted(m["parameters"]["train"]["seed"] for m in trained) == [1, 1, 1, 2]
    assert len({m["inputs"]["tokenize"] for m in trained}) == 1
    (tokenizer,) = store.manifests("mine-ablation", "tokenize")
    unruled = store.made_from(tokenizer, "clean")["parameters"]["clean"]
    assert (unruled["mentions"], unruled["max_repeated_lines"], unruled["min_words"]) == ("keep", 0.0, 2)


def test_the_same_again_reuses_every_model(folder, result):
    again = ablate(folder, "--steps", "60", "--rules", "mentions,max_repeated_lines,min_words")
    assert again.returncode == 0, again.stderr
    lines = [line.split()[:2] for line in again.stderr.splitlines() if line.split()[:1] in (["train"], ["clean"])]
    assert lines == [["clean", "reused"]] * 5 + [["train", "reused"]] * 4
    for words in ("max_repeated_lines", "helps", "+0.", "min_words is left out", "MLflow: "):
        assert words in again.stdout


def test_mlflow_has_a_parent_with_children_and_prefect_a_page(result, prefect_server):
    parent = mlflow.get_run(result["mlflow_run"])
    assert (parent.info.status, parent.data.tags["kind"], parent.data.tags["corpus"]) == ("FINISHED", "ablate", "mine")
    row = result["rules"][0]
    assert parent.data.metrics[f"difference/{row['rule']}"] == pytest.approx(row["difference"])
    asked = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    children = mlflow.search_runs([parent.info.experiment_id], asked, output_format="list")
    assert {run.info.run_name.partition(": ")[2] for run in children} == {
        "recipe", "another seed", "mentions", "max_repeated_lines"
    }  # fmt: skip
    assert {run.info.status for run in children} == {"FINISHED"}
    assert all(run.data.tags["kind"] == "ablate" and "train/loss" in run.data.metrics for run in children)
    files = {f.path for f in mlflow.artifacts.list_artifacts(run_id=parent.info.run_id, artifact_path="ablation")}
    assert {"ablation/rules.png", "ablation/card.html", "ablation/card.md", "ablation/card.json"} <= files
    assert "| max_repeated_lines | 0.3 | 0.0 | 150 |" in parent.data.tags["mlflow.note.content"]
    wanted = {"key": {"any_": ["ablation-mine"]}, "flow_run_id": {"any_": [parent.data.tags["prefect.flow_run_id"]]}}
    body = json.dumps({"artifacts": wanted}).encode()
    request = urllib.request.Request(f"{prefect_server}/artifacts/filter", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        (page,) = json.load(answer)
    assert "(data:image/png;base64," in page["data"]


@pytest.mark.slow
def test_with_minutes_all_models_take_as_many_steps_as_the_first(folder):
    found = ablate(folder, "--minutes", "0.15", "--rules", "mentions=drop", "--seed", "7", "--json")
    assert found.returncode == 0, found.stderr
    trained = Store(folder / "home").manifests("mine-ablation", "train")[-3:]
    assert {m["counts"]["steps"] for m in trained} == {json.loads(found.stdout)["steps"]}
    assert sorted(m["parameters"]["train"]["seed"] for m in trained) == [7, 7, 8]
    assert json.loads(found.stdout)["rules"][0]["instead"] == "drop"


@pytest.mark.parametrize(
    ("corpus", "asked", "words"),
    [
        ("mine", ("--rules", "mention"), "rule 'mention' is not known; known are entities"),
        ("mine", ("--rules", "spaces"), "does not use the rule spaces"),
        ("mine", ("--rules", "mentions=hide"), "clean.mentions = 'hide'"),
        ("mine", ("--rules", "min_words"), "min_words is left out: it changes no document"),
        ("mine", ("--rules", "min_words=500"), "min_words is left out: "),
        ("never", (), "corpus 'never' was never downloaded here; run: gpt clean never"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(folder, corpus, asked, words):
    refused = gpt_here("ablate", corpus, "--from", str(folder / "mine.jsonl"), *TINY, *RULES, *asked)
    assert refused.returncode == 2, refused.stderr
    message = refused.stderr[refused.stderr.index("error: ") :]
    assert words in message
    assert len(message.strip().splitlines()) == 1


def test_the_flow_can_be_deployed_by_its_path(monkeypatch):
    from prefect.flows import load_flow_from_entrypoint

    monkeypatch.chdir(ROOT)
    flow = load_flow_from_entrypoint("flows/ablate.py:ablate")
    assert flow.name == "ablate"
    assert flow.parameters.required == ["corpus"]
