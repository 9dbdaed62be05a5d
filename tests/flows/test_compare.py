"""Models beside one another: on each other's held-out text, in MLflow's list, and for the title of champion."""

import json
import math
import random
import shutil
import urllib.request
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import polars as pl
import pytest
import torch

from flows import UserError
from tests.conftest import ROOT
from tests.flows.conftest import TINY, free_port, gpt_here, own_home

SMALL = dict(option.split("=") for option in TINY[1::2]) | {
    "clean.test_fraction": "0.25",
    "train.eval_every": "20",
    "train.lr": 0.02,
}
OTHER = {
    "tokenizer.model_type": "char",
    "tokenizer.vocab_size": "auto",
    "pack.block_size": 16,
    "pack.document_mask": "true",
}
BAD = {"train.lr": 1e-9, "train.matrix_lr": 1e-9}


def write(path: Path, words: str, n: int = 120) -> Path:
    draw, known = random.Random(0), words.split()
    texts = [" ".join(draw.choices(known, k=draw.randint(5, 25))) + f" {number}." for number in range(n)]
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_mlflow):
    """A home in which two corpora were trained, by the stages of the flow."""
    folder = tmp_path_factory.mktemp("compared")
    home = folder / "home"
    write(
        folder / "mill.jsonl", "the river bends and old bridges wait for rain while a miller counts his sacks of barley"
    )
    write(folder / "sums.jsonl", "12 + 7 = 19 ; 30 - 4 / 2 * (5 + 11) été naïve 漢字", 100)
    with own_home(home, prefect_server, empty_mlflow):
        train(home, "mill")
        train(home, "sums", **OTHER)
        yield home


def train(home: Path, corpus: str, **settings: object) -> dict:
    """One run of the pipeline; the tags that MLflow has of it."""
    from flows.evaluation import summary
    from flows.recipe import load_recipe, parse_override
    from flows.stages.definitions import work_id
    from flows.stages.run_stage import run_stage
    from flows.tracking.run import tracked_run

    overrides = dict(parse_override(f"{name}={value}") for name, value in (SMALL | settings).items())
    recipe = load_recipe(corpus, source=str(home.parent / f"{corpus}.jsonl"), overrides=overrides)
    made = {}
    with tracked_run(recipe, work_id(recipe)) as tracker:
        for stage, inputs in {
            "download": (), "clean": ("download",), "tokenize": ("clean",), "pack": ("clean", "tokenize"),
            "train": ("tokenize", "pack"),
        }.items():  # fmt: skip
            found = run_stage(stage, recipe, {name: made[name] for name in inputs}, False)
            made[stage] = getattr(found, "data", found)
        summary.finish(recipe, tracker)
    return mlflow.get_run(tracker.run_id).data.tags | {"run": tracker.run_id}


def compare(*models: str, **asked) -> dict:
    from flows import compare

    return compare.compare.fn(list(models), **asked)


@pytest.fixture(scope="module")
def result(home) -> dict:
    """Of `gpt compare`, without a name."""
    return compare(prompts=["the river", "12 +"])


def cell(result: dict, model: str, corpus: str) -> dict:
    return next(c for c in result["matrix"] if c["model"] == model and c["corpus"] == corpus)


def manifest(corpus: str, stage: str) -> dict:
    from flows.home import home
    from flows.store.artifacts import Store

    return Store(home()).manifests(corpus, stage)[-1]


def test_on_its_own_corpus_a_model_has_its_own_test_bpb(home, result):
    """Encoded anew from the raw text: with and without a document mask."""
    for corpus in ("mill", "sums"):
        own = cell(result, f"gpt-{corpus}/1", corpus)
        assert own["bits_per_byte"] == pytest.approx(manifest(corpus, "train")["counts"]["test_bpb"], rel=1e-6)
        assert own["own"]
        assert own["relative"] == own["difference"] == own["difference_low"] == 0
        assert own["bits_per_byte_low"] < own["bits_per_byte"] < own["bits_per_byte_high"]
        foreign = cell(result, f"gpt-{corpus}/1", {"mill": "sums", "sums": "mill"}[corpus])
        assert foreign["difference_low"] > 0
        assert foreign["relative"] > 0
        assert not foreign["own"]


def test_on_another_corpus_every_token_of_its_raw_text_is_scored_once(home, result):
    """The matrix against a plain loop: the model's own tokenizer, one sequence after another, ends of documents unscored."""
    from flows.evaluation import scoring
    from flows.store.artifacts import Store, to_artifact
    from gpt.config import Runtime

    loaded = scoring.load(scoring.find(Store(home), "mill"), Runtime(device="cpu", threads=1))
    text = scoring.held_out(to_artifact(manifest("sums", "clean")))
    found = scoring.score(loaded, text)
    T, eos = loaded.model.config.block_size, loaded.tokenizer.eos_id
    stream = [eos]
    for one in text.documents["text"]:
        stream += [*loaded.tokenizer.encode([one])[0].tolist(), eos]
    nats, n_tokens = 0.0, 0
    for first in range(0, len(stream) - 1, T):
        ids, targets = stream[first : first + T], stream[first + 1 : first + T + 1]
        with torch.no_grad():
            log_p = loaded.model(torch.tensor([ids[: len(targets)]]))[0].double().log_softmax(-1)
        scored = [place for place, target in enumerate(targets) if target != eos]
        nats -= sum(float(log_p[place, targets[place]]) for place in scored)
        n_tokens += len(scored)
    n_bytes = sum(len(one.encode()) for one in text.documents["text"])
    assert (found.n_tokens, found.n_bytes) == (n_tokens, n_bytes)
    assert found.nats == pytest.approx(nats, rel=1e-5)
    expected = nats / math.log(2) / n_bytes
    assert cell(result, "gpt-mill/1", "sums")["bits_per_byte"] == pytest.approx(expected, rel=1e-5)


def test_beside_it_stand_baselines_size_cost_speed_and_answers(home, result):
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    for column in result["corpora"]:
        packed = manifest(column["corpus"], "pack")["counts"]
        assert column["baselines"] == packed["baselines"]
        assert (column["documents"], column["bytes"]) == (packed["test_documents"], packed["test_bytes"])
    for model in result["models"]:
        counts = manifest(model["corpus"], "train")["counts"]
        assert (model["parameters"], model["tokens_seen"]) == (counts["parameters"], counts["tokens_seen"])
        assert model["training_seconds"] > 0
        assert model["tokens_scored_per_second"] > 0
    answered = [list(answers) for answers in result["answers"]]
    assert answered == [["prompt", *(model["model"] for model in result["models"])]] * 2
    assert [answers["prompt"] for answers in result["answers"]] == ["the river", "12 +"]


def test_mlflow_has_the_figures_and_the_tables(result):
    run = mlflow.get_run(result["mlflow_run"])
    assert (run.info.status, run.data.tags["kind"]) == ("FINISHED", "compare")
    for found in result["matrix"]:
        corpus = found["model"].removeprefix("gpt-").removesuffix("/1")
        assert run.data.metrics[f"bpb/{corpus}/{found['corpus']}"] == pytest.approx(found["bits_per_byte"])
    files = {item.path for item in mlflow.artifacts.list_artifacts(run_id=run.info.run_id, artifact_path="comparison")}
    names = (
        "card.html",
        "card.md",
        "card.json",
        "matrix.json",
        "models.json",
        "corpora.json",
        "answers.json",
    )
    assert {f"comparison/{name}" for name in names} <= files
    answers = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/comparison/answers.json")
    assert answers["columns"] == ["prompt", "gpt-mill/1", "gpt-sums/1"]
    assert [row[0] for row in answers["data"]] == ["the river", "12 +"]
    assert "sums" in run.data.tags["mlflow.note.content"]


def test_of_a_large_corpus_documents_are_drawn_by_their_ids_and_the_result_says_so(home):
    from flows.evaluation.scoring import held_out
    from flows.store.artifacts import to_artifact

    documents = to_artifact(manifest("mill", "clean"))
    whole, part, less = (held_out(documents, limit) for limit in (10**6, 1200, 600))
    assert len(whole.documents) == whole.of_documents > len(part.documents)
    assert 0 < less.n_bytes <= 600 < part.n_bytes <= 1200
    order = whole.documents["doc_id"].to_list()
    drawn = part.documents["doc_id"].to_list()
    assert drawn == [name for name in order if name in set(drawn)]  # in their order
    assert drawn != order[: len(drawn)]  # and not the first ones
    assert set(less.documents["doc_id"]) < set(drawn)
    assert part.of_documents == len(order)
    assert len(held_out(documents, 1).documents) == 1
    result = compare("mill", max_bytes=1200, prompts=[""])
    (column,) = result["corpora"]
    assert (column["documents"], column["of_documents"]) == (len(drawn), len(order))


def test_comparing_takes_a_slot_of_the_device(home, monkeypatch):
    held = []

    @contextmanager
    def turn(processes: int):
        held.append(processes)
        yield

    monkeypatch.setattr("flows.compare.turn", turn)
    compare("gpt-mill/1", corpora=["mill"], prompts=[""])
    assert held == [1]


def test_one_held_out_document_has_no_interval(home):
    from flows.evaluation import comparison, scoring
    from flows.store.artifacts import Store, to_artifact

    baselines = manifest("mill", "pack")["counts"]["baselines"]
    one = replace(scoring.held_out(to_artifact(manifest("mill", "clean")), 1), baselines=baselines)
    result = comparison.measure([scoring.find(Store(home), "mill")], [one], [""], lambda *_: None)
    assert result["matrix"][0]["bits_per_byte_low"] is None
    json.dumps(result, allow_nan=False)
    from flows.pages.render import render_text

    assert "no interval" in render_text("comparison.jinja", facts=result)


def test_a_champion_that_was_trained_on_all_that_is_held_out_now_is_not_compared(home, tmp_path):
    from flows.evaluation.comparison import challenge
    from flows.recipe import load_recipe
    from flows.store.artifacts import to_artifact

    made = to_artifact(manifest("mill", "clean"))
    documents = pl.read_parquet(made.folder / "documents" / "*.parquet").filter(pl.col("split") == "train")
    (tmp_path / "documents").mkdir()
    documents.with_columns(split=pl.lit("test")).write_parquet(tmp_path / "documents" / "00000.parquet")
    divided_otherwise = replace(made, folder=tmp_path, digest="another")
    stages = {"clean": divided_otherwise, "train": to_artifact(manifest("mill", "train"))}
    better, why = challenge(load_recipe("mill", source=str(home.parent / "mill.jsonl")), stages, "gpt-mill/1")
    assert not better
    assert why == "it was trained on all that is held out now, so the two do not compare"


def test_what_cannot_be_compared_is_refused_or_noted(home, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="'nothing-like-it' is not known"):
        compare("mill", "nothing-like-it")
    with pytest.raises(UserError, match="no held-out text of 'nothing'"):
        compare("mill", corpora=["nothing"])
    failed = mlflow.search_runs(search_all_experiments=True, output_format="list", max_results=1)[0]
    assert (failed.info.status, failed.data.tags["kind"]) == ("FAILED", "compare")
    # A model from elsewhere: no corpus of its own here, so it has a row but no column.
    foreign = tmp_path / "model"
    shutil.copytree(Path(manifest("sums", "train")["path"]) / "model", foreign)
    artifacts = home / "artifacts"
    (artifacts / "sums").rename(tmp_path / "sums")
    try:
        result = compare("mill", str(foreign), prompts=[""])
        assert [column["corpus"] for column in result["corpora"]] == ["mill"]
        assert "is not in this home" in result["notes"][0]
        with pytest.raises(UserError, match="nothing to compare on"):
            compare(str(foreign))
    finally:
        (tmp_path / "sums").rename(artifacts / "sums")
    # The held-out documents are gone, the model is not.
    clean = artifacts / "sums" / "clean"
    clean.rename(tmp_path / "clean")
    try:
        result = compare("mill", "sums", prompts=[""])
        assert [column["corpus"] for column in result["corpora"]] == ["mill"]
        assert "no held-out text of 'sums' is in this home, so it has no column" in " ".join(result["notes"])
    finally:
        (tmp_path / "clean").rename(clean)
    monkeypatch.setattr("flows.models.lookup._download", gone)
    with pytest.raises(UserError, match=r"gpt-mill/1 is left out: gone; gpt-sums/1 is left out: gone"):
        compare()


def gone(*_):
    raise UserError("gone")


def test_the_command_prints_it_and_prefect_has_a_page_of_it(home, prefect_server):
    found = gpt_here("compare", "mill", "gpt-sums@champion", "--corpus", "mill", "--prompt", "the mill", "--json")
    result = json.loads(found.stdout)
    assert [c["model"] for c in result["matrix"]] == ["mill", "gpt-sums@champion"]
    flow_run = mlflow.get_run(result["mlflow_run"]).data.tags["prefect.flow_run_id"]
    # Other tests have pages on this server.
    asked = {"key": {"any_": ["comparison"]}, "flow_run_id": {"any_": [flow_run]}}
    body = json.dumps({"artifacts": asked}).encode()
    request = urllib.request.Request(f"{prefect_server}/artifacts/filter", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        (page,) = json.load(answer)
    assert "gpt-sums@champion" in page["data"]


def test_the_flow_can_be_deployed_by_its_path(monkeypatch):
    from prefect.flows import load_flow_from_entrypoint

    monkeypatch.chdir(ROOT)
    flow = load_flow_from_entrypoint("flows/compare.py:compare")
    assert flow.name == "compare"
    assert set(flow.parameters.properties) == {"models", "corpora", "max_bytes", "prompts"}
    assert not flow.parameters.required  # so `compare/all` needs none


def test_the_terminal_shows_it(result, capsys):
    from flows.cli.terminal import show

    show(result, False, "comparison.jinja")
    shown = capsys.readouterr().out
    for words in ("gpt-mill/1", "own", "uniform", "8.000", "tokens scored", "the river", result["mlflow_run"]):
        assert words in shown


# --- the champion, and the list of runs: each of these adds a version, in this order


def champion(corpus: str) -> str:
    return str(mlflow.MlflowClient().get_model_version_by_alias(f"gpt-{corpus}", "champion").version)


def test_a_worse_model_does_not_become_champion(home):
    verdict = train(home, "mill", **BAD)["champion"]
    assert verdict.startswith("version 1 stays: ")
    assert "95 % interval +" in verdict
    assert "worse than the champion" in verdict
    assert champion("mill") == "1"
    assert train(home, "mill", **BAD)["champion"] == verdict  # a reused model is measured the same


def test_a_model_better_only_within_the_noise_does_not_become_champion(home, monkeypatch):
    """The same model, but for noise of either sign on every document."""
    from flows.evaluation import scoring

    score, turn = scoring.score, iter(range(9))

    def noisy(loaded, text):
        found = score(loaded, text)
        noise = np.random.default_rng(next(turn)).normal(0, 0.1, len(found.document_nats))
        return replace(found, document_nats=found.document_nats + noise, nats=found.nats + noise.sum())

    monkeypatch.setattr(scoring, "score", noisy)
    verdict = train(home, "mill", **{"train.lr": 0.02000001})["champion"]
    assert verdict.startswith("version 1 stays")
    assert verdict.endswith("within the noise")
    assert champion("mill") == "1"


def test_a_better_model_becomes_champion_also_on_other_held_out_documents(home):
    """The old one is measured on what is held out now, but for what it has learned from."""
    verdict = train(home, "mill", **{"clean.test_fraction": 0.5, "train.steps": 120, "train.eval_every": 120})[
        "champion"
    ]
    assert verdict.startswith("version 4 replaces 1: ")
    assert "that the champion was trained on); difference -" in verdict
    assert champion("mill") == "4"
    n = int(verdict.split(" held-out documents")[0].split()[-1])
    assert n == manifest_of("mill", "pack", "test_documents", 0.25)


def manifest_of(corpus: str, stage: str, count: str, test_fraction: float) -> int:
    """A count of the artifact that was made when so much was held out."""
    from flows.home import home
    from flows.store.artifacts import Store

    store = Store(home())
    cleans = {m["digest"]: m["parameters"]["clean"]["test_fraction"] for m in store.manifests(corpus, "clean")}
    return next(
        m["counts"][count] for m in store.manifests(corpus, stage) if cleans[m["inputs"]["clean"]] == test_fraction
    )


def test_two_models_of_one_corpus_are_scored_on_what_is_held_out_now_and_a_note_says_who_knows_some(home):
    result = compare("gpt-mill/1", "gpt-mill/4", prompts=[""])
    (column,) = result["corpora"]
    assert column["documents"] == manifest_of("mill", "pack", "test_documents", 0.5)
    assert [(cell["model"], cell["own"]) for cell in result["matrix"]] == [("gpt-mill/1", True), ("gpt-mill/4", False)]
    assert any("gpt-mill/1 was trained on" in note for note in result["notes"])
    assert not any("gpt-mill/4 was trained on" in note for note in result["notes"])


def test_runs_are_listed_and_found(home):
    from flows.tracking.run_list import listing

    rows = listing(limit=0)
    assert {row["kind"] for row in rows} == {"train", "compare"}
    assert [row["started"] for row in rows] == sorted((row["started"] for row in rows), reverse=True)
    assert listing(limit=3) == rows[:3]
    sums = listing("sums")
    assert [(row["corpus"], row["steps"], row["model"]) for row in sums] == [("sums", 20, "gpt-sums/1")]
    for name in ("test_bpb", "val_bpb"):
        assert sums[0][name] == pytest.approx(manifest("sums", "train")["counts"][name])
    best = listing(best=True)
    assert {row["corpus"]: row["model"] for row in best} == {"mill": "gpt-mill/4", "sums": "gpt-sums/1"}


@pytest.mark.parametrize("stage", ["download", "clean", "pack"])
def test_runs_that_learned_from_the_same_bytes_are_found_by_any_of_their_digests(home, stage):
    from flows.tracking.run_list import listing

    made = manifest("sums", stage)
    found = listing(dataset_digest=made["digest"][:10])
    assert [(row["corpus"], row["model"]) for row in found] == [("sums", "gpt-sums/1")]
    of_mill = listing(dataset_digest=manifest("mill", "download")["digest"])
    assert [row["model"] for row in of_mill] == ["gpt-mill/4", "gpt-mill/3", "gpt-mill/2", "gpt-mill/2", "gpt-mill/1"]


def test_runs_refuses_what_is_wrong(home, monkeypatch):
    from flows.tracking.run_list import listing

    assert listing("no-such-corpus") == []
    with pytest.raises(UserError, match="no beginning of a digest"):
        listing(dataset_digest="latest")
    nowhere = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    here = mlflow.get_tracking_uri()
    try:
        mlflow.set_tracking_uri(nowhere)
        for ask in (listing, compare):
            with pytest.raises(UserError, match=f"MLflow at {nowhere} does not answer"):
                ask()
    finally:
        mlflow.set_tracking_uri(here)


def test_what_cannot_be_assessed_loses_no_training(home, monkeypatch, capsys):
    """A champion whose tokenizer is damaged, and measures that fail."""
    from flows import progress
    from flows.models import lookup

    monkeypatch.setattr(progress, "to_terminal", True)
    tokenizer = lookup.find("gpt-sums/1") / "tokenizer.model"
    assert home in tokenizer.parents  # MLflow's own file
    whole = tokenizer.read_bytes()
    monkeypatch.setattr("flows.evaluation.summary.log_overlaps", gone)
    try:
        tokenizer.write_bytes(whole[: len(whole) // 2])
        tags = train(home, "sums", **OTHER, **{"train.lr": 0.03})
    finally:
        tokenizer.write_bytes(whole)
    assert tags["champion"].startswith("version 1 stays: it cannot be scored to compare (")
    assert "tokenizer.model" in tags["champion"]
    assert mlflow.get_run(tags["run"]).info.status == "FINISHED"
    shown = " ".join(capsys.readouterr().err.split())
    assert "the search for repeated text is left out: UserError: gone" in shown
