"""What MLflow holds after runs: parameters, metrics, datasets, checkpoints, a registered model that answers anywhere."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import mlflow
import polars as pl
import pytest

from tests.conftest import ROOT, environment, spelled
from tests.flows.conftest import TINY, free_port, gpt_here, own_home, settings, stop, wait_for


@pytest.fixture(scope="module")
def trained(tmp_path_factory, prefect_server, empty_mlflow) -> Iterator[Path]:
    """A home with three runs of one corpus: trained, reused, and a worse model; and a failed one."""
    folder = tmp_path_factory.mktemp("tracked")
    home, notes = folder / "home", folder / "notes.txt"
    notes.write_text(
        "\n".join(f"line {spelled(i)} of the notes: the mill, the river, the bridge and the rain" for i in range(900))
    )
    command = ("train", "--from", str(notes), "--name", "mine", *TINY, "--set", "clean.split_chars=1000")
    worse = settings({"train.lr": 1e-9, "train.matrix_lr": 1e-9, "train.keep_checkpoints": 1})
    with own_home(home, prefect_server, empty_mlflow):
        for more in ((), (), worse):
            result = gpt_here(*command, *more)
            assert result.returncode == 0, result.stderr
        assert gpt_here(*command, "--set", "tokenizer.vocab_size=9999").returncode == 2
        yield home


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
        names = run.data.tags.keys()
        assert {"corpus", "git.commit", "prefect.flow_run_id"} <= names
        assert list(names)[-1] == "artifacts"  # below what people read
        assert all(run.data.tags.values())
        assert run.data.tags["mlflow.source.name"] == "gpt train mine"
    assert runs[0].data.tags["prefect.flow_run_url"].startswith("http://127.0.0.1")
    assert "vocab_size 9999" in runs[3].data.tags["error"]
    assert "clean/documents" in runs[3].data.metrics  # it keeps what it had
    made = [json.loads(run.data.tags["artifacts"]) for run in runs]
    assert [stages.get("train", {}).get("reused") for stages in made] == [False, True, False, None]


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
            "pack/ppmd_order",
        } <= run.data.metrics.keys()
        found = run.data.metrics
        assert found["baseline/best"] == found["baseline/ppmd"] < found["baseline/xz"]
        assert found["baseline/margin"] == pytest.approx(found["baseline/best"] - found["test/bpb"])
        assert 0 < found["pack/repeated"] < 1
        of_stages = json.loads(mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/summary.json"))["stages"]
        over, low, high = of_stages["train"]["test_over_ppmd"]
        assert low < over < high
        assert over == pytest.approx(-found["baseline/margin"], abs=2e-4)  # of the same documents, in the same order
    assert runs[0].data.metrics["val/bpb"] == runs[1].data.metrics["val/bpb"] < runs[2].data.metrics["val/bpb"]


def test_datasets_are_inputs_by_digest(runs):
    for run in runs[:3]:
        inputs = {}
        for item in run.inputs.dataset_inputs:
            inputs[{tag.key: tag.value for tag in item.tags}["mlflow.data.context"]] = item.dataset
        assert set(inputs) == {"raw", "clean", "tokens/train", "tokens/val", "tokens/test"}
        assert json.loads(run.data.tags["artifacts"])["clean"]["digest"].startswith(inputs["clean"].digest)
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
    assert {"tokenize/card.html", "pack/card.html", "pack/card.json"} <= files
    assert {"pack/baselines.json", "train/evaluations.json", "samples/step-000020.txt"} <= files
    assert mlflow.artifacts.load_text(f"runs:/{runs[0].info.run_id}/samples/step-000020.txt").strip()


def test_the_batch_of_a_step_is_explained_down_to_the_raw_rows(trained, runs):
    """By run id, the registered model and the corpus alike."""
    raw = " ".join((trained.parent / "notes.txt").read_text().split())
    first = json.loads(gpt_here("explain", runs[0].info.run_id, "--step", "1", "--json").stdout)
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
    assert json.loads(gpt_here("explain", "gpt-mine@champion", "--step", "1", "--json").stdout) == first
    later = gpt_here("explain", "mine", "--step", "20")
    assert "step 20 of 20, mine from files of this machine: 4 sequences of 32 tokens" in later.stderr
    for arguments, words in (
        ((runs[0].info.run_id, "--step", "21"), "not within 1 and 20"),
        ((runs[3].info.run_id, "--step", "1"), "left no model"),
    ):
        refused = gpt_here("explain", *arguments)
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
    result = gpt_here("generate", name, "the mill", "--max-tokens", "5")
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
        line = server.stdout.readline()
        assert f"http://127.0.0.1:{port}/#/experiments/1/runs?workflowType=machine_learning" in line
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


def test_a_reused_model_is_measured_the_same(runs):
    first, second = (json.loads(mlflow.artifacts.load_text(f"runs:/{r.info.run_id}/summary.json")) for r in runs[:2])
    assert second["stages"]["train"]["reused"]
    assert {name: first[name] for name in ("longest_overlap", "facts")} == {
        name: second[name] for name in ("longest_overlap", "facts")
    }


def test_a_run_is_described_at_its_top_and_its_samples_grow(runs):
    for run in runs[:3]:
        note = run.data.tags["mlflow.note.content"]
        assert run.data.metrics["test/bpb"] != run.data.metrics["val/best_bpb"]
        assert f"{run.data.metrics['test/bpb']:.3f}" in note
        assert "| gzip&emsp;|" in note
        beats = "beat" if run.data.metrics["baseline/margin"] > 0 else "do not beat"
        assert f"bits per byte {beats} the best baseline, PPMd of order" in note
        assert "of the held-out text stands word for word in the training text" in note
        assert "22,016 parameters; 2,560 tokens" in note
        assert f"champion: {run.data.tags['champion']}" in note
    table = json.loads(mlflow.artifacts.load_text(f"runs:/{runs[0].info.run_id}/samples/evaluations.json"))
    assert table["columns"] == ["step", "prompt", "text"]
    assert [row[0] for row in table["data"]] == [10, 20]
    assert any(row[2] for row in table["data"])  # a model of a few steps may end a text at once


def test_resources_are_logged_also_of_a_short_run(runs):
    assert runs[1].info.end_time - runs[1].info.start_time < 60_000
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= runs[1].data.metrics.keys()


def test_only_the_kept_checkpoints_stay_and_best_and_last_are_told(trained, runs):
    """The second training gets worse: three evaluations, of which the first and the last are kept."""
    client = mlflow.MlflowClient()
    models = {
        int(model.params["step"]): model
        for model in mlflow.search_logged_models([runs[0].info.experiment_id], output_format="list")
        if model.source_run_id == runs[2].info.run_id and "step" in model.params
    }
    bits = {m.step: m.value for m in client.get_metric_history(runs[2].info.run_id, "val/bpb")}
    assert sorted(bits) == [10, 20]
    best = min(bits, key=bits.get)
    assert set(models) == {best, 20}  # keep_checkpoints is 1 there
    assert {step for step, model in models.items() if model.tags["best"] == "true"} == {best}
    assert {step for step, model in models.items() if model.tags["last"] == "true"} == {20}
    folders = {path.parent.name for path in trained.glob("mlartifacts/models/*/artifacts/model.safetensors")}
    made = {output.model_id for run in runs[:3] for output in run.outputs.model_outputs}
    assert len(list(trained.glob("mlartifacts/models/*/artifacts/model.safetensors"))) == 2 + len(models), (
        folders | made
    )


def test_a_version_has_a_card(runs):
    client = mlflow.MlflowClient()
    assert "http://127.0.0.1:8080/#model=mine)" in client.get_registered_model("gpt-mine").description
    card = client.get_model_version("gpt-mine", "1").description
    for words in (
        "http://127.0.0.1:8080/#model=gpt-mine/1)",
        "`NAME: text`, a line a turn",
        "licence: not stated",
        f"{runs[0].data.metrics['clean/documents']:.0f} kept",
        f"| **this model**&emsp;| {runs[0].data.metrics['test/bpb']:.3f}&emsp;|",
        "| gzip&emsp;|",
        "the best baseline, PPMd of order",
        "of the held-out text stands word for word in the training text",
        "22,016 parameters",
        json.loads(runs[0].data.tags["artifacts"])["clean"]["digest"][:32],
    ):
        assert words in card


ONLY_ITS_REQUIREMENTS = """
import os, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("flows", "tokenizers", "data_contracts", "prefect", "polars", "pandera", "kagglehub"):
            raise ModuleNotFoundError(f"{name} is no requirement of the model")

sys.meta_path.insert(0, Absent())
sys.path = [place for place in sys.path if not os.path.isdir(os.path.join(place, "flows"))]
"""  # of the project's environment, as if the model had one of its own


@pytest.fixture(scope="module")
def served(trained, tmp_path_factory):
    """POST to the champion, as `mlflow models serve` serves it outside the project: (status, answer)."""
    folder, port = tmp_path_factory.mktemp("served"), free_port()
    python = Path(sys.executable)
    (folder / "sitecustomize.py").write_text(ONLY_ITS_REQUIREMENTS)
    serve = ("models", "serve", "-m", "models:/gpt-mine@champion", "--env-manager", "local", "--port", str(port))
    more = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{trained}/mlflow.db",
        "GPT_MAX_TOKENS": "250",
        "PATH": f"{python.parent}:/usr/bin:/bin",
        "PYTHONPATH": str(folder),
    }
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mlflow", *serve],
            cwd=folder,
            env=environment(folder, **more),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def ask(body: dict) -> tuple[int, object]:
        data = json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", data, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)["predictions"]
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    try:
        wait_for(f"http://127.0.0.1:{port}/ping", process)
        yield ask
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def test_served_text_is_that_of_the_command(trained, served):
    params = {"max_tokens": 30, "temperature": 0.7, "top_k": 20, "top_p": 0.9, "seed": 3, "samples": 1}
    status, texts = served({"inputs": ["the mill"], "params": params})
    assert status == 200
    options = [part for name, value in params.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    result = gpt_here("generate", "gpt-mine@champion", "the mill", *options)
    assert result.stdout == f"the mill{texts[0]}\n"
    assert served({"inputs": ["the mill", ""], "params": params | {"samples": 2}})[1][0] == texts[0]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"inputs": []}, "enforce schema"),
        ({"inputs": ["x"] * 33}, "prompts: 33 of at most 32"),
        ({"inputs": ["x" * 100_001]}, "characters of prompts: 100,001 of at most 100,000"),
        ({"inputs": ["x"], "params": {"max_tokens": 251}}, "max_tokens: 251 of at most 250"),
        ({"inputs": ["x"] * 3, "params": {"samples": 100}}, "prompts times samples: 300"),
        ({"inputs": ["x"], "params": {"temperature": -1.0}}, "temperature is -1.0"),
        ({"inputs": ["x"], "params": {"max_tokens": "many"}}, "max_tokens"),
        ({"inputs": ["x"], "params": {"max_token": 5}}, "max_token"),
        ({"prompts": ["x"]}, "inputs"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(served, body, words):
    status, answer = served(body)
    assert status == 400
    assert words in answer
    assert "Traceback" not in answer
