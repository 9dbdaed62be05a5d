"""What MLflow holds after runs: parameters, metrics, datasets, checkpoints, a registered model that answers anywhere."""

import json
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import mlflow
import polars as pl
import pytest

from tests.conftest import ROOT, environment, gpt
from tests.flows.conftest import TINY, free_port, stop, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory, prefect_server):
    """A home with three runs of one corpus: trained, reused, and a worse model; and a failed one."""
    folder = tmp_path_factory.mktemp("tracked")
    home, notes = folder / "home", folder / "notes.txt"
    notes.write_text(
        "\n".join(f"line {i} of the notes: the mill, the river, the bridge and the rain" for i in range(900))
    )
    command = ("train", "--from", str(notes), "--name", "mine", *TINY, "--set", "clean.split_chars=1000")
    for more in ((), (), ("--set", "train.lr=1e-9", "--set", "train.matrix_lr=1e-9")):
        result = gpt(home, *command, *more, PREFECT_API_URL=prefect_server)
        assert result.returncode == 0, result.stderr
    assert gpt(home, *command, "--set", "tokenizer.vocab_size=9999", PREFECT_API_URL=prefect_server).returncode == 2
    mlflow.set_tracking_uri(f"sqlite:///{home / 'mlflow.db'}")
    return home


@pytest.fixture(scope="module")
def runs(trained) -> list:
    """Oldest first."""
    experiment = mlflow.get_experiment_by_name("gpt")
    return mlflow.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"], output_format="list")


def test_statuses_parameters_and_tags(runs):
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED", "FINISHED", "FAILED"]
    for run in runs:
        assert run.data.params["corpus"] == "mine"
        assert run.data.params["pack.block_size"] == "32"
        assert {"corpus", "git.commit", "prefect.flow_run_id", "download.key", "clean.digest"} <= run.data.tags.keys()
    assert runs[0].data.tags["prefect.flow_run_url"].startswith("http://127.0.0.1")
    assert "vocab_size 9999" in runs[3].data.tags["error"]
    assert "clean/documents" in runs[3].data.metrics  # it keeps what it had
    assert [run.data.tags.get("train.reused") for run in runs] == ["False", "True", "False", None]


def test_metrics_over_steps_also_of_a_reused_run(runs):
    client = mlflow.MlflowClient()
    for run in runs[:3]:
        losses = client.get_metric_history(run.info.run_id, "train/loss")
        assert [metric.step for metric in losses] == [1, 10, 20]
        assert [metric.step for metric in client.get_metric_history(run.info.run_id, "val/bpb")] == [10, 20]
        assert {
            "train/lr",
            "train/grad_norm",
            "train/tokens_per_second",
            "val/loss",
            "val/bpb",
            "baseline/gzip",
        } <= run.data.metrics.keys()
    assert runs[0].data.metrics["val/bpb"] == runs[1].data.metrics["val/bpb"] < runs[2].data.metrics["val/bpb"]


def test_datasets_are_inputs_by_digest(runs):
    for run in runs[:3]:
        inputs = {}
        for item in run.inputs.dataset_inputs:
            inputs[{tag.key: tag.value for tag in item.tags}["mlflow.data.context"]] = item.dataset
        assert set(inputs) == {"raw", "clean", "tokens/train", "tokens/val"}
        assert run.data.tags["clean.digest"].startswith(inputs["clean"].digest)
    found = mlflow.search_runs(
        [runs[0].info.experiment_id], f"dataset.digest = '{inputs['clean'].digest}'", output_format="list"
    )
    assert len(found) == len(runs)  # the failed one had come as far


def test_reports_and_samples_are_artifacts(runs):
    files = {
        item.path
        for folder in ("clean", "tokenize", "pack", "train", "samples")
        for item in mlflow.artifacts.list_artifacts(run_id=runs[0].info.run_id, artifact_path=folder)
    }
    assert {"clean/report.json", "clean/card.html", "clean/card.md", "clean/lengths.png"} <= files
    assert {"tokenize/card.html", "tokenize/lengths.png", "pack/card.html", "pack/card.json"} <= files
    assert {"pack/baselines.json", "train/evaluations.json", "samples/step-000020.txt"} <= files
    assert mlflow.artifacts.load_text(f"runs:/{runs[0].info.run_id}/samples/step-000020.txt").strip()


def test_the_batch_of_a_step_is_explained_down_to_the_raw_rows(trained, runs):
    """By run id, the registered model and the corpus alike."""
    raw = " ".join((trained.parent / "notes.txt").read_text().split())
    first = json.loads(gpt(trained, "explain", runs[0].info.run_id, "--step", "1", "--json").stdout)
    assert sum(row["tokens"] for row in first) == 4 * 32
    assert {row["file"] for row in first} == {"notes.txt"}
    assert [row["sequence"] for row in first] == sorted(row["sequence"] for row in first)
    for row in first:
        assert row["tokens"] <= row["of"]
        assert row["text"] in raw
    documents = pl.read_parquet(next(trained.glob("artifacts/mine/clean/*/documents/*.parquet")))
    known = {
        name: (file, row, split)
        for name, file, row, split in documents["doc_id", "source_file", "source_row", "split"].iter_rows()
    }
    assert {known[row["document"]] for row in first} == {(row["file"], row["row"], "train") for row in first}
    assert json.loads(gpt(trained, "explain", "gpt-mine@champion", "--step", "1", "--json").stdout) == first
    later = gpt(trained, "explain", "mine", "--step", "20")
    assert "step 20 of 20, mine from files of this machine: 4 sequences of 32 tokens" in later.stderr
    for arguments, words in (
        ((runs[0].info.run_id, "--step", "21"), "not within 1 and 20"),
        ((runs[3].info.run_id, "--step", "1"), "trained nothing"),
    ):
        refused = gpt(trained, "explain", *arguments)
        assert refused.returncode == 2
        assert words in refused.stderr


def test_checkpoints_are_logged_models_with_their_metrics(runs):
    models = mlflow.search_logged_models([runs[0].info.experiment_id], "params.step != ''", output_format="list")
    mine = {model.params["step"]: model for model in models if model.source_run_id == runs[0].info.run_id}
    assert set(mine) == {"10", "20"}
    for model in mine.values():
        files = {item.path for item in mlflow.MlflowClient().list_logged_model_artifacts(model.model_id)}
        assert {"model.safetensors", "config.json"} <= files
    assert not list((Path(mine["20"].artifact_location.removeprefix("file://")).parents[2]).glob("spool/*"))
    metrics = {metric.key: metric for metric in mine["20"].metrics}
    assert metrics["val/bpb"].value == runs[0].data.metrics["val/bpb"]
    assert metrics["val/bpb"].dataset_name == "mine/tokens/val"
    assert not [model for model in models if model.source_run_id == runs[1].info.run_id]  # nothing was trained


def test_champion_moves_only_to_the_better_one(runs):
    client = mlflow.MlflowClient()
    versions = sorted(int(version.version) for version in client.search_model_versions("name = 'gpt-mine'"))
    assert versions == [1, 2]  # a reused decoder is not registered twice
    assert (
        client.get_model_version_by_alias("gpt-mine", "champion").version == "1"
        or client.get_model_version_by_alias("gpt-mine", "champion").version == 1
    )
    assert "version 1 stays" in runs[2].data.tags["champion"]


def test_the_registered_model_answers_in_a_fresh_process_outside_the_repository(trained, tmp_path):
    program = f"""
import json, sys
sys.path = [place for place in sys.path if place != {str(ROOT)!r}]  # the editable install puts the project there
import mlflow
mlflow.set_tracking_uri("sqlite:///{trained}/mlflow.db")
model = mlflow.pyfunc.load_model("models:/gpt-mine@champion")
answers = [model.predict(["the mill"], params=dict(max_tokens=n, seed=5, stop="\\n\\n")) for n in (12, 12, 2)]
packages = ("flows", "gpt", "tokenizers", "data_contracts")
ours = [sys.modules[name].__file__ for name in packages if name in sys.modules]
print(json.dumps([*answers, ours]))
"""
    result = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    once, again, short, ours = json.loads(result.stdout.splitlines()[-1])
    assert once == again
    assert len(once) == 1
    assert once[0].startswith(short[0])
    assert len(short[0]) < len(once[0])
    assert len(ours) == 1  # gpt, from the model's own copy
    assert not ours[0].startswith(str(ROOT))


@pytest.mark.parametrize("name", ["mine", "gpt-mine@champion", "gpt-mine/1", "run", "folder"])
def test_generate_takes_every_name_of_a_model(trained, runs, name):
    folder = next((trained / "artifacts" / "mine" / "train").glob("[!.]*"))
    name = {"run": runs[0].info.run_id, "folder": str(folder)}.get(name, name)
    result = gpt(trained, "generate", name, "the mill", "--max-tokens", "5")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("the mill")


def test_ui_serves_the_runs_on_loopback_only(trained):
    port = free_port()
    command = [sys.executable, "-m", "flows.cli", "ui", "--port", str(port)]
    server = subprocess.Popen(
        command, cwd=ROOT, env=environment(trained), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", server)
        said = server.stdout.readline()
        assert f"http://127.0.0.1:{port}/#/experiments/1/runs?workflowType=machine_learning" in said
        body = json.dumps({"experiment_ids": ["1"]}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/2.0/mlflow/runs/search", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert len(json.load(answer)["runs"]) == 4
        listening = Path("/proc/net/tcp").read_text()
        assert f"0100007F:{port:04X}" in listening
        assert f"00000000:{port:04X}" not in listening
    finally:
        stop(server)


def test_a_tracker_that_cannot_send_neither_stalls_nor_kills(home, monkeypatch, empty_mlflow):
    """MLflow goes away in mid-run and stays away: every call returns at once, and the run ends."""
    home.mkdir()
    shutil.copy(empty_mlflow, home)
    mlflow.set_tracking_uri(f"sqlite:///{home}/mlflow.db")
    from flows import recipes, tracking

    monkeypatch.setattr(tracking, "PATIENCE", 1.0)
    with tracking.run(recipes.load("python-docs")) as tracker:

        def gone(*_, **__):
            raise ConnectionError("gone")

        monkeypatch.setattr(tracker.client, "log_batch", gone)
        started = time.monotonic()
        for step in range(1000):
            tracker.step(step, {"train/loss": 1.0})
        assert time.monotonic() - started < 0.5
        started = time.monotonic()
    assert time.monotonic() - started < 15


def test_metrics_arrive_once_after_mlflow_was_away(home, monkeypatch, empty_mlflow):
    home.mkdir()
    shutil.copy(empty_mlflow, home)
    mlflow.set_tracking_uri(f"sqlite:///{home}/mlflow.db")
    from flows import recipes, tracking

    with tracking.run(recipes.load("python-docs")) as tracker:
        send, failures = tracker.client.log_batch, iter(range(3))

        def flaky(*arguments, **named):
            if next(failures, None) is not None:
                raise ConnectionError("gone for a moment")
            return send(*arguments, **named)

        monkeypatch.setattr(tracker.client, "log_batch", flaky)
        for step in range(50):
            tracker.step(step, {"train/loss": float(step)})
    history = mlflow.MlflowClient().get_metric_history(tracker.run_id, "train/loss")
    assert [metric.step for metric in history] == list(range(50))
