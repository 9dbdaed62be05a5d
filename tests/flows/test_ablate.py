"""The ablation of rules: what is trained, on what it is compared, and where it is shown."""

import json
import random
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import polars as pl
import pytest

from data_contracts.rules import Rules
from flows import UserError
from flows.evaluation import scoring
from flows.store.artifacts import Store, to_artifact
from flows.variants import RECIPE, SEED, compare, other_values, untouched
from tests.conftest import ROOT
from tests.flows.conftest import TINY, WORDS, gpt_here, own_home, settings

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
    rows = {row["rule"]: row for row in result["rows"]}
    assert rows.keys() == {"mentions", "max_repeated_lines"}
    lines = rows["max_repeated_lines"]
    assert lines["better"] == "recipe"
    assert lines["difference_low"] > 0
    assert (lines["recipe"], lines["instead"], lines["documents"]) == (0.3, 0.0, 150)
    assert rows["mentions"]["documents"] == 50
    assert 0 < result["texts"] < result["of_texts"]
    assert result["unchanged"] == ["min_words"]
    assert result["steps"] == 60


def test_only_the_rule_differs_and_no_artifact_is_one_of_the_corpus(folder, result):
    store = Store(folder / "home")
    assert {manifest["stage"] for manifest in store.manifests("mine")} == {"download", "clean"}
    assert len(store.manifests("mine", "clean")) == 1
    trained = store.manifests("mine-ablation", "train")
    assert len(trained) == 4
    assert len({json.dumps(m["parameters"] | {"train": m["parameters"]["train"] | {"seed": 1}}) for m in trained}) == 1
    assert sorted(m["parameters"]["train"]["seed"] for m in trained) == [1, 1, 1, 2]
    (tokenizer,) = store.manifests("mine-ablation", "tokenize")
    assert {m["inputs"]["tokenize"] for m in trained} == {tokenizer["digest"]}
    (by_recipe,) = store.manifests("mine", "clean")
    assert tokenizer["inputs"]["clean"] == by_recipe["digest"]


def test_models_are_scored_on_held_out_texts_that_no_rule_touches(folder, result):
    store = Store(folder / "home")
    (by_recipe,) = store.manifests("mine", "clean")
    variants = store.manifests("mine-ablation", "clean")
    assert len(variants) == 3  # one of them changes nothing
    text = scoring.held_out(to_artifact(by_recipe))
    fair = untouched(text, [Path(manifest["path"]) for manifest in variants]).documents
    assert len(fair) == result["texts"]
    assert 0 < sum("<user>" in one for one in text.documents["text"]) == len(text.documents) - len(fair)
    for manifest in (by_recipe, *variants):
        sides = pl.read_parquet(Path(manifest["path"]) / "documents" / "*.parquet", columns=["text", "split"])
        found = sides.filter(pl.col("text").is_in(fair["text"].implode()))
        assert (found.height, set(found["split"])) == (len(fair), {"test"})


def test_the_same_again_reuses_every_model(folder, result):
    again = ablate(folder, "--steps", "60", "--rules", "mentions,max_repeated_lines,min_words")
    assert again.returncode == 0, again.stderr
    lines = [line.split()[:2] for line in again.stderr.splitlines() if line.split()[:1] in (["train"], ["clean"])]
    assert lines == [["clean", "reused"]] * 4 + [["train", "reused"]] * 4
    for words in ("max_repeated_lines", "recipe", "+0.", "they change no document: min_words", "MLflow: "):
        assert words in again.stdout


def test_mlflow_has_a_parent_with_children_and_prefect_a_page(result, prefect_server):
    parent = mlflow.get_run(result["mlflow_run"])
    assert (parent.info.status, parent.data.tags["kind"], parent.data.tags["corpus"]) == ("FINISHED", "ablate", "mine")
    row = result["rows"][0]
    assert parent.data.metrics[f"difference/{row['rule']}"] == pytest.approx(row["difference"])
    asked = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    children = mlflow.search_runs([parent.info.experiment_id], asked, output_format="list")
    assert {run.info.run_name.partition(": ")[2] for run in children} == {
        "recipe", "another seed", "mentions", "max_repeated_lines"
    }  # fmt: skip
    assert {run.info.status for run in children} == {"FINISHED"}
    assert all(run.data.tags["kind"] == "ablate" and "train/loss" in run.data.metrics for run in children)
    files = {f.path for f in mlflow.artifacts.list_artifacts(run_id=parent.info.run_id, artifact_path="ablation")}
    assert {"ablation/differences.png", "ablation/card.html", "ablation/card.md", "ablation/card.json"} <= files
    assert "| max_repeated_lines | 0.3 | 0.0 | 150 |" in parent.data.tags["mlflow.note.content"].replace("&emsp;", " ")
    wanted = {"key": {"any_": ["ablation-mine"]}, "flow_run_id": {"any_": [parent.data.tags["prefect.flow_run_id"]]}}
    body = json.dumps({"artifacts": wanted}).encode()
    request = urllib.request.Request(f"{prefect_server}/artifacts/filter", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        (page,) = json.load(answer)
    assert "(data:image/png;base64," in page["data"]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ("mention", "rule 'mention' is not known; known are entities"),
        ("spaces", "the recipe has spaces = False; give a value to compare with it"),
        ("mentions=hide", "clean.mentions = 'hide'"),
        ("min_words", "no document of mine changes by min_words"),
        ("min_words=500", "no document is left"),
        ("near_duplicates=together", "near_duplicates = keep trains on near copies of held-out texts"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(folder, rule, words):
    refused = ablate(folder, "--rules", rule)
    assert refused.returncode == 2, refused.stderr
    message = refused.stderr[refused.stderr.index("error: ") :]
    assert words in message
    assert len(message.strip().splitlines()) == 1


def test_each_rule_that_the_recipe_sets_is_turned_off_or_gets_the_value_that_is_given():
    used = Rules(mentions="mask", min_words=3)
    assert other_values(used, []) == {"mentions": "keep", "min_words": 0}
    assert other_values(used, ["mentions=drop", "spaces=true", 'languages=["en"]']) == {
        "mentions": "drop",
        "spaces": True,
        "languages": ["en"],
    }
    split = Rules(seed=3, split_chars=500, val_fraction=0.2, test_fraction=0.2, max_malformed=0.1)
    with pytest.raises(UserError, match="sets no rule"):  # those decide how texts are cut and held out
        other_values(split, [])


def test_a_value_is_better_only_beyond_the_noise_of_documents_and_seeds():
    draw = np.random.default_rng(0)
    n_bytes, base = np.full(200, 100), draw.normal(100, 5, 200)
    nats = {RECIPE: base, SEED: base + 2, "good": base + 5 + draw.normal(0, 1, 200), "bad": base - 5, "same": base + 1}
    nats |= {"little": base + 0.5, "noisy": base + 4 + draw.normal(0, 300, 200)}
    found = compare(nats, n_bytes)
    rows = {row["rule"]: row for row in found["rows"]}
    assert {rule: row["better"] for rule, row in rows.items()} == {
        "good": "recipe",
        "bad": "instead",
        "same": "neither",  # less than another seed
        "little": "neither",
        "noisy": "not known",
    }
    assert found["noise"] == pytest.approx(2 / np.log(2) / 100)
    assert rows["good"]["difference_low"] > 0
    assert [row["rule"] for row in found["rows"]][-1] == "bad"
    assert found["bits_per_byte"] == pytest.approx(base.sum() / np.log(2) / 20000)
    one = compare({name: values[:1] for name, values in nats.items()}, n_bytes[:1])
    assert {row["better"] for row in one["rows"]} == {"not known"}
    assert {row["difference_low"] for row in one["rows"]} == {None}


def test_the_flow_can_be_deployed_by_its_path(monkeypatch):
    from prefect.flows import load_flow_from_entrypoint

    monkeypatch.chdir(ROOT)
    flow = load_flow_from_entrypoint("flows/variants.py:ablate")
    assert flow.name == "ablate"
    assert flow.parameters.required == ["corpus"]
