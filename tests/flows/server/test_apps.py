"""Artifacts through the MLflow server, by programs that know its address alone, and without it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.server import processes
from flows.server.access import Access
from tests.conftest import environment
from tests.flows.conftest import free_port, own_home, stop, wait_for

# Plain MLflow in another folder: what it writes for a run, or what it reads of another one.
WRITE = """
import mlflow
mlflow.set_experiment("gpt")
with mlflow.start_run() as run:
    mlflow.log_text("{text}", "notes/text.txt")
    mlflow.log_dict({{"root": "{root}/x"}}, "root.json")
    more = {{"registered_model_name": "{text}", "pip_requirements": ["mlflow"]}}
    mlflow.pyfunc.log_model(name="echo", python_model=lambda model_input: model_input, **more)
print(run.info.run_id, run.info.artifact_uri)
"""
READ = """
import mlflow
run = "{run}"
listed = [item.path for item in mlflow.MlflowClient().list_artifacts(run, "notes")]
text = mlflow.artifacts.load_text(f"runs:/{{run}}/notes/text.txt")
print(listed, text, mlflow.artifacts.load_dict(f"runs:/{{run}}/root.json"))
print(mlflow.pyfunc.load_model("models:/{text}/1").predict(["again"]))
"""


def elsewhere(folder: Path, uri: str, program: str) -> str:
    folder.mkdir(exist_ok=True)
    env = environment(folder / "none", MLFLOW_TRACKING_URI=uri, MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false")
    env.pop("GPT_HOME")
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def address(tmp_path, prefect_server, empty_mlflow) -> Iterator[str]:
    """A server of a home whose path has to be quoted in an address; its experiment was made without a server."""
    from flows.tracking.connection import experiment_id

    home, port = tmp_path / "hôme + one #2", free_port()
    with own_home(home, prefect_server, empty_mlflow):
        experiment_id()
        service = processes.mlflow_server(f"sqlite:///{home}/mlflow.db", Access("127.0.0.1", 0, port))
        process = processes.start(service)
        try:
            wait_for(service.health_url, process)
            yield service.health_url.removesuffix("/health")
        finally:
            stop(process)


@pytest.mark.slow
def test_a_client_of_the_server_and_one_of_the_database_read_what_the_other_wrote(tmp_path, address):
    home = tmp_path / "hôme + one #2"
    database, root = f"sqlite:///{home}/mlflow.db", (home / "mlartifacts").as_uri()
    there, here = tmp_path / "another machine", tmp_path / "this machine"
    for writer, reader, text in ((address, database, "remote"), (database, address, "local")):
        run, uri = elsewhere(there, writer, WRITE.format(text=text, root=root)).splitlines()[-1].split()
        assert uri == f"{'mlflow-artifacts:' if writer == address else root}/{run}/artifacts"
        shown = elsewhere(here, reader, READ.format(run=run, text=text))
        assert f"['notes/text.txt'] {text} {{'root': '{root}/x'}}" in shown
        assert "['again']" in shown
        assert (home / "mlartifacts" / run / "artifacts" / "notes" / "text.txt").read_text() == text
    assert [path for folder in (there, here) for path in folder.iterdir()] == []
