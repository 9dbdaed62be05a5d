"""A decoder of others: imported by the command, found by its name, started from, exported again, and what is refused."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import mlflow
import pytest
import torch
from safetensors.torch import load_file

from flows.models import lookup
from flows.store.artifacts import Store
from tests.conftest import ROOT
from tests.flows.cli.test_command import assert_refused
from tests.flows.conftest import gpt_here, own_home
from tests.flows.models.test_start import SHORT, notes
from tests.gpt.export.foreign import GPT2, QWEN3, write_foreign

try:
    distribution("tokenizers")
except PackageNotFoundError:
    pytest.skip("the extra `import` is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, prefect_server, empty_mlflow):
    """With a home into which `gpt2`, of the folder `theirs`, was imported."""
    folder = tmp_path_factory.mktemp("imported")
    with own_home(folder / "home", prefect_server, empty_mlflow):
        write_foreign(folder / "theirs", GPT2)
        (folder / "theirs" / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
        made = gpt_here("import", str(folder / "theirs"), "--name", "gpt2")
        assert made.returncode == 0, made.stderr
        assert made.stdout.startswith("gpt-gpt2/1: imported_from theirs, licence mit, parameters ")
        yield folder


def test_it_is_registered_as_what_it_is_and_once(folder):
    client = mlflow.MlflowClient()
    version = client.get_model_version_by_alias("gpt-gpt2", "champion")
    run, made = mlflow.get_run(version.run_id), Store(folder / "home").manifests("gpt2", "train")[-1]
    assert run.data.tags["kind"] == "import"
    for tags in (run.data.tags, version.tags):
        assert tags["imported_from"] == "theirs"
        assert tags["licence"] == "mit"
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            assert tags[f"sha256.{name}"] == made["parameters"]["imported"][name]
    assert version.tags["digest"] == made["digest"]
    assert "Imported, not trained here" in version.description
    again = gpt_here("import", str(folder / "theirs"), "--name", "gpt2")
    assert again.stdout.startswith("gpt-gpt2/1: ")
    assert len(client.search_model_versions("name = 'gpt-gpt2'")) == 1


def test_what_cannot_be_imported_is_refused_and_nothing_is_left(folder, tmp_path):
    write_foreign(tmp_path / "lossy", QWEN3)
    path = tmp_path / "lossy" / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": {"type": "Lowercase"}}))
    theirs = str(folder / "theirs")
    for source, name, *words in (
        (str(tmp_path / "none"), "none", "none is no folder"),
        (theirs, "wiki", "--name 'wiki' is a corpus", "choose another"),
        (theirs, "GPT 2", "--name 'GPT 2' is a corpus, or not of a-z"),
        (str(tmp_path / "lossy"), "lossy", "the tokenizer loses text"),
    ):
        assert_refused(gpt_here("import", source, "--name", name), *words)
        assert not [*(folder / "home" / "artifacts").glob(f"{name}/train/*")]


def test_hugging_faces_package_does_not_hide_ours(tmp_path):
    (tmp_path / "tokenizers").mkdir()
    (tmp_path / "tokenizers" / "__init__.py").write_text("raise ImportError('theirs')")
    program = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}]; sys.path.append({str(ROOT)!r}); import flows, tokenizers"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_it_writes_is_started_from_scored_and_exported_again(folder):
    written = gpt_here("generate", "gpt2", "the quick", "--max-tokens", "9")
    assert written.stdout.startswith("the quick"), written.stderr
    asked = ("--from", notes(folder / "tuned", 5), "--name", "tuned", "--start-from", "gpt2", *SHORT)
    made = gpt_here("train", *asked)
    assert made.returncode == 0, made.stderr
    store, client = Store(folder / "home"), mlflow.MlflowClient()
    base, tuned = (store.manifests(corpus, "train")[-1] for corpus in ("gpt2", "tuned"))
    assert tuned["files"]["model/tokenizer.json"] == base["files"]["model/tokenizer.json"]
    assert tuned["parameters"]["start"] == base["files"]["model/model.safetensors"]["sha256"]
    assert client.get_model_version("gpt-tuned", "1").tags["starts_from"] == "gpt-gpt2/1"
    assert client.get_model_version("gpt-gpt2", "1").tags["start_of.gpt-tuned.1"]
    rows = json.loads(gpt_here("why", *asked, "--json").stdout)
    assert {row["would"] for row in rows} == {"be reused"}, rows
    compared = json.loads(gpt_here("compare", "gpt2", "tuned", "--json").stdout)
    bits = {cell["model"]: cell["bits_per_byte"] for cell in compared["matrix"]}
    assert bits["tuned"] < bits["gpt2"]
    for corpus in ("gpt2", "tuned"):
        done = gpt_here("export", corpus, "--to", str(folder / f"{corpus}-again"))
        assert done.returncode == 0, done.stderr
    again, theirs = (load_file(folder / name / "model.safetensors") for name in ("gpt2-again", "theirs"))
    assert again.keys() == theirs.keys()
    assert all(torch.equal(again[key], theirs[key]) for key in theirs)
    loaded = mlflow.pyfunc.load_model("models:/gpt-gpt2@champion")
    assert len(loaded.predict(["the quick"], params={"max_tokens": 5})) == 1
    assert {path.name for path in lookup.find("tuned").iterdir()} >= {"tokenizer.json", "model.safetensors"}
    assert not Path(lookup.find("tuned"), "tokenizer.model").exists()
