"""What a logged model consists of."""

import shutil
from pathlib import Path

import mlflow

from flows.home import set_defaults
from flows.models.register import log_model
from flows.store.artifacts import Artifact
from flows.store.provenance import MODEL_PACKAGES
from tests.conftest import ROOT


def test_a_logged_model_carries_gpt_and_nothing_else_of_the_project(home, empty_mlflow, tmp_path, monkeypatch):
    """Also where it is logged from the project's folder, whose uv.lock MLflow would take along."""
    home.mkdir()
    shutil.copy(empty_mlflow, home)
    uri = f"sqlite:///{home}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(ROOT)
    set_defaults()
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    (tmp_path / "train" / "model").mkdir(parents=True)
    (tmp_path / "train" / "model" / "config.json").write_text("{}")
    decoder = Artifact("python-docs", "train", "0" * 16, "0" * 64, tmp_path / "train")
    try:
        mlflow.create_experiment("gpt", artifact_location=(tmp_path / "mlartifacts").as_uri())
        mlflow.set_experiment("gpt")
        with mlflow.start_run():
            info = log_model(decoder)
        folder = Path(mlflow.artifacts.download_artifacts(info.model_uri))
    finally:
        mlflow.set_tracking_uri(before)
    assert {path.name for path in folder.iterdir() if not path.name.startswith("registered")} == {
        "MLmodel", "artifacts", "code", "conda.yaml", "input_example.json", "pyfunc.py", "python_env.yaml",
        "requirements.txt", "serving_input_example.json",
    }  # fmt: skip
    assert [path.name for path in (folder / "code").iterdir()] == ["gpt"]
    assert (folder / "artifacts" / "model" / "config.json").is_file()
    requirements = (folder / "requirements.txt").read_text().split()
    assert sorted(line.split("==")[0] for line in requirements) == sorted(MODEL_PACKAGES)
