"""A real Prefect server for the tests that run the flow, so that each does not start its own."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import environment


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str, process: subprocess.Popen, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert process.poll() is None, f"it ended with {process.returncode} instead of answering {url}"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"{url} did not answer within {seconds} s")


def stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory) -> Iterator[str]:
    """API address of a `prefect server start` with a database of its own."""
    folder, port = tmp_path_factory.mktemp("prefect"), free_port()
    more = {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api",  # else its pages ask port 4200
        "DO_NOT_TRACK": "true",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=environment(folder / "home", **more), stdout=log, stderr=log)
        try:
            wait_for(f"http://127.0.0.1:{port}/api/health", process)
            yield f"http://127.0.0.1:{port}/api"
        finally:
            stop(process)


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory) -> Path:
    """MLflow's database, migrated and empty: making one takes seconds, copying one does not."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    program = "import mlflow; mlflow.search_experiments()"
    more = environment(path.parent, MLFLOW_TRACKING_URI=f"sqlite:///{path}")
    subprocess.run([sys.executable, "-c", program], cwd=path.parent, env=more, check=True, capture_output=True)
    return path


@pytest.fixture
def notes(tmp_path) -> Path:
    """A user's own folder: 60 short texts that a tiny model learns something from."""
    folder = tmp_path / "notes"
    folder.mkdir()
    text = "the river bends and the old bridge waits for rain while the miller counts his sacks of barley"
    words = text.split()
    for i in range(60):
        lines = [" ".join(words[(i * 7 + j * k) % len(words)] for k in range(1, 9)) + f" {i}." for j in range(1, 12)]
        (folder / f"note-{i:02}.txt").write_text("\n".join(lines) + "\n")
    return folder


def settings(values: dict[str, object]) -> list[str]:
    """As options of the command line."""
    return [part for name, value in values.items() for part in ("--set", f"{name}={value}")]


TINY = settings(
    {
        "tokenizer.vocab_size": 300,
        "pack.block_size": 32,
        "model.n_layer": 1,
        "model.n_embd": 32,
        "model.n_head": 2,
        "train.steps": 20,
        "train.batch_size": 4,
        "train.eval_every": 10,
        "sample.max_tokens": 20,
        "runtime.threads": 1,
    }
)
