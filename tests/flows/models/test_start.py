"""A training that starts from a trained model: what it takes from it, who knows of it, and what is refused."""

import json
import shutil
from pathlib import Path

import mlflow
import pytest

from flows.models import lookup
from flows.store.artifacts import Store
from tests.conftest import spelled
from tests.flows.cli.test_command import assert_refused
from tests.flows.conftest import TINY, WORDS, gpt_here, own_home, settings
from tokenizers import training
from tokenizers.config import TokenizerConfig

# Of [start] the model decides the rest.
SHORT = settings(
    {"train.steps": 20, "train.batch_size": 4, "train.eval_every": 10, "sample.max_tokens": 20, "runtime.threads": 1}
)
WEIGHTS = "model/model.safetensors"


def notes(folder: Path, step: int) -> str:
    folder.mkdir()
    for i in range(60):
        lines = [
            " ".join(WORDS[(i * step + j * k) % len(WORDS)] for k in range(1, 9)) + f" {spelled(i)}" for j in range(11)
        ]
        (folder / f"{i:02}.txt").write_text("\n".join(lines) + f" {i}\n")
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, prefect_server, empty_mlflow):
    """With a home in which `base` was trained, and `tuned` from it; and the texts of both."""
    folder = tmp_path_factory.mktemp("started")
    with own_home(folder / "home", prefect_server, empty_mlflow):
        base = gpt_here("train", "--from", notes(folder / "base", 3), "--name", "base", *TINY)
        assert base.returncode == 0, base.stderr
        notes(folder / "tuned", 5)
        made = tune(folder)
        assert made.returncode == 0, made.stderr
        yield folder


def tune(folder: Path, *more: str, start: str = "base", command: str = "train"):
    asked = ("--from", str(folder / "tuned"), "--name", "tuned", "--start-from", start)
    return gpt_here(command, *asked, *SHORT, *more)


def manifest(folder: Path, corpus: str, stage: str) -> dict:
    return Store(folder / "home").manifests(corpus, stage)[-1]


def test_weights_tokenizer_and_shape_are_those_of_the_model(folder):
    base, tuned = (manifest(folder, corpus, "train") for corpus in ("base", "tuned"))
    for name in ("n_layer", "n_embd", "n_head", "block_size"):
        assert tuned["parameters"]["model"][name] == base["parameters"]["model"][name]
    tokenizer = "model/tokenizer.model"
    assert tuned["files"][tokenizer] == base["files"][tokenizer]
    assert tuned["parameters"]["start"] == base["files"][WEIGHTS]["sha256"] != tuned["files"][WEIGHTS]["sha256"]
    assert tuned["counts"]["val_bpb"] < base["counts"]["val_bpb"]  # at so few steps
    assert "start" not in base["parameters"]


def test_unchanged_it_is_reused_by_any_name_of_the_same_weights(folder):
    for start in ("base", "gpt-base/1", str(lookup.find("base"))):
        rows = json.loads(tune(folder, "--json", start=start, command="why").stdout)
        assert {row["would"] for row in rows} == {"be reused"}, rows
    without = gpt_here("why", "--from", str(folder / "tuned"), "--name", "tuned", *SHORT, "--json")
    rows = {row["stage"]: row["because"] for row in json.loads(without.stdout)}
    assert "is up to date" in rows["clean"]
    assert "start " in rows["tokenize"]


def test_run_card_and_registry_know_the_line_of_descent(folder):
    client = mlflow.MlflowClient()
    base, tuned = client.get_model_version("gpt-base", "1"), client.get_model_version("gpt-tuned", "1")
    assert tuned.tags["starts_from"] == mlflow.get_run(tuned.run_id).data.tags["starts_from"] == "gpt-base/1"
    assert base.tags["start_of.gpt-tuned.1"] == tuned.run_id
    digest = manifest(folder, "base", "train")["files"][WEIGHTS]["sha256"]
    assert f"starts from base, weights `{digest[:32]}`" in tuned.description
    assert "trained from scratch" in base.description


@pytest.mark.slow
def test_it_is_made_again_with_the_same_bits_wherever_the_name_leads_now(folder):
    client = mlflow.MlflowClient()
    client.delete_registered_model_alias("gpt-base", "champion")
    made = gpt_here("reproduce", "gpt-tuned@champion", "--json")
    client.set_registered_model_alias("gpt-base", "champion", "1")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["verdict"] == "identical"


def test_the_model_that_a_kept_one_starts_from_is_not_pruned(folder):
    store = Store(folder / "home")
    named = {manifest(folder, "tuned", "train")["digest"]}
    gone = {path.parent.parent.name for path in store.prunable(0, named) if path.parent.name == "train"}
    assert gone == set()
    kept = {manifest(folder, "base", "train")["digest"]}
    gone = {path.parent.parent.name for path in store.prunable(0, kept) if path.parent.name == "train"}
    assert gone == {"tuned"}


def test_what_cannot_be_started_from_is_refused_before_any_work(folder, tmp_path):
    model = lookup.find("base")
    for name, spoil in (
        ("cut", lambda here: (here / "model.safetensors").write_bytes((model / "model.safetensors").read_bytes()[:-9])),
        ("bare", lambda here: (here / "tokenizer.model").unlink()),
        ("foreign", lambda here: (here / "config.json").write_text('{"model_type": "gpt2"}')),
        ("other", lambda here: shutil.copy(other_tokenizer(tmp_path), here / "tokenizer.model")),
    ):
        shutil.copytree(model, tmp_path / name)
        spoil(tmp_path / name)
    for start, more, *words in (
        ("bass", (), "model 'bass' is not known", "a run id or a folder"),
        ("trump", (), "no trained model yet; run: gpt train trump"),
        ("gpt-base/7", (), "gpt-base/7"),
        (str(tmp_path / "cut"), (), "model.safetensors is cut"),
        (str(tmp_path / "bare"), (), "tokenizer.model"),
        (str(tmp_path / "foreign"), (), "another program wrote it"),
        (str(tmp_path / "other"), (), "is not the tokenizer that it was trained with"),
        ("base", ("--size", "tiny"), "size: the model to start from, 'base', decides this; leave it out"),
        ("base", ("--set", "model.n_layer=3", "--set", "tokenizer.seed=4"), "model.n_layer, tokenizer.seed: the model"),
        ("base", ("--set", "pack.block_size=64"), "pack.block_size: the model"),
        ("base", ("--set", "start.digest=00"), "other weights now", "start a new run from the present ones"),
    ):  # fmt: skip
        refused = tune(folder, *more, start=start)
        assert_refused(refused, *words)
        assert "download" not in refused.stderr[: refused.stderr.index("error:")]


def other_tokenizer(folder: Path) -> Path:
    """Of other words."""
    training.train(["another text of other words"] * 50, 1000, folder, TokenizerConfig())
    return folder / "tokenizer.model"


@pytest.fixture(scope="module")
def adapted(folder):
    made = tune(folder, "--set", "start.rank=2", "--set", "start.alpha=8")
    assert made.returncode == 0, made.stderr
    return folder


def test_adapters_are_a_small_file_that_names_its_base(adapted):
    base, tuned = (manifest(adapted, corpus, "train") for corpus in ("base", "tuned"))
    assert tuned["parameters"]["start"] == base["files"][WEIGHTS]["sha256"]
    assert tuned["parameters"]["adapter"] == {"rank": 2, "alpha": 8.0, "matrices": "all"}
    small = tuned["files"]["model/adapter.safetensors"]["bytes"]
    assert small < 0.2 * tuned["files"][WEIGHTS]["bytes"]
    assert manifest(adapted, "tuned", "pack")["key"] == Store(adapted / "home").manifests("tuned", "pack")[0]["key"]
    written = gpt_here("generate", "tuned", "the", "--max-tokens", "5")
    assert written.returncode == 0, written.stderr
    assert_refused(
        gpt_here("train", "--from", str(adapted / "tuned"), "--name", "tuned", *SHORT, "--set", "start.rank=2"),
        "start.rank: adapters need a model to start from",
    )


def test_a_finished_training_goes_on(folder):
    asked = ("--from", str(folder / "base"), "--name", "long")
    assert gpt_here("train", *asked, *TINY, "--set", "train.cooldown=0.3").returncode == 0
    first = manifest(folder, "long", "train")
    made = gpt_here("train", *asked, "--more", "20")
    assert made.returncode == 0, made.stderr
    longer = manifest(folder, "long", "train")["counts"]
    assert longer["steps"] == first["counts"]["steps"] + 20
    assert longer["goes_on_from"] == first["digest"]
    assert longer["resumed_from"] == 10
    tags = mlflow.MlflowClient().get_model_version("gpt-long", "2").tags
    assert tags["starts_from"] == "gpt-long/1"
    anew = gpt_here("train", *asked, *TINY, "--set", "train.cooldown=0.3", "--steps", "40", "--force", "train")
    assert anew.returncode == 0, anew.stderr
    made = manifest(folder, "long", "train")
    assert (made["counts"]["goes_on_from"], made["digest"]) == ("", tags["digest"])
    refused = gpt_here("train", *asked, "--more", "20", "--steps", "9")
    assert_refused(refused, "--more goes on by the champion's recipe")
    assert_refused(gpt_here("train", "python-docs", "--more", "20"), "python-docs was never trained here")
