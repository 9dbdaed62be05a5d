"""What tests of the flow share: a Prefect server, migrated databases of Prefect and MLflow, `gpt` without a child process."""

import io
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from flows.store.locks import lock
from tests.conftest import environment, spelled

# A test that needs Prefect takes `prefect_server`. A temporary server of this process would take seconds to start, and log
# its end after pytest has closed its output.
os.environ["PREFECT_SERVER_EPHEMERAL_ENABLED"] = "false"


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
def templates(tmp_path_factory) -> Path:
    """A folder for what the first pytest worker makes and the others copy, under a lock."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory, templates) -> Iterator[str]:
    """API address of a `prefect server start`. The first one migrates its database; the others begin with a copy of it."""
    folder, port = tmp_path_factory.mktemp("prefect"), free_port()
    more = {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_API_URL": f"http://127.0.0.1:{port}/api",  # else its pages ask port 4200
        "DO_NOT_TRACK": "true",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    database, template = folder / "prefect" / "prefect.db", templates / "prefect.db"
    database.parent.mkdir()
    with (folder / "server.log").open("w") as log, ExitStack() as stack:
        with lock(templates, "prefect"):
            if made := template.exists():
                shutil.copy(template, database)
            process = subprocess.Popen(command, env=environment(folder / "home", **more), stdout=log, stderr=log)
            stack.callback(stop, process)
            if not made:
                wait_for(f"http://127.0.0.1:{port}/api/health", process)
                with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(template)) as copy:
                    source.backup(copy)
        wait_for(f"http://127.0.0.1:{port}/api/health", process)
        yield f"http://127.0.0.1:{port}/api"
        if handlers := sys.modules.get("prefect.logging.handlers"):
            handlers.APILogHandler().flush()  # what the flows of this process logged is sent in the background


@pytest.fixture(scope="session")
def empty_prefect(prefect_server, templates) -> Path:
    """Prefect's database, migrated and empty."""
    return templates / "prefect.db"


@pytest.fixture(scope="session")
def empty_mlflow(templates) -> Path:
    """MLflow's database, migrated and empty: making one takes seconds, copying one does not."""
    path = templates / "mlflow.db"
    with lock(templates, "mlflow"):
        if not path.exists():
            program = "import mlflow; mlflow.search_experiments()"
            more = environment(path.parent, MLFLOW_TRACKING_URI=f"sqlite:///{path}")
            subprocess.run([sys.executable, "-c", program], cwd=path.parent, env=more, check=True, capture_output=True)
    return path


def gpt_here(*arguments: str) -> subprocess.CompletedProcess:
    """The command line in this process, without the seconds that a child takes to import everything.

    What is about processes (signals, servers, isolation) calls `tests.conftest.gpt` instead.
    """
    from flows import progress
    from flows.cli import app

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with ExitStack() as stack:
        for number, handler in handlers.items():  # the command sets its own
            stack.callback(signal.signal, number, handler)
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(progress, "to_terminal", False)  # the command sets it, and it is then set back
        patch.setattr(sys, "argv", ["gpt", *arguments])
        out, errors = (
            stack.enter_context(redirect_stdout(io.StringIO())),
            stack.enter_context(redirect_stderr(io.StringIO())),
        )
        ended = stack.enter_context(pytest.raises(SystemExit))
        app.main()
    return subprocess.CompletedProcess(arguments, ended.value.code or 0, out.getvalue(), errors.getvalue())


@contextmanager
def own_home(home: Path, prefect_server: str, empty_mlflow: Path | None = None) -> Iterator[None]:
    """This process takes the folder for its home meanwhile: for `gpt_here`, and for MLflow's functions."""
    import mlflow
    import torch
    from prefect.settings import PREFECT_API_URL, temporary_settings

    home.mkdir(exist_ok=True)
    if empty_mlflow:
        shutil.copy(empty_mlflow, home)
    uri, before, threads = f"sqlite:///{home / 'mlflow.db'}", mlflow.get_tracking_uri(), torch.get_num_threads()
    try:
        with pytest.MonkeyPatch.context() as patch, temporary_settings({PREFECT_API_URL: prefect_server}):
            patch.setenv("GPT_HOME", str(home))
            patch.setenv("MLFLOW_TRACKING_URI", uri)
            mlflow.set_tracking_uri(uri)
            yield
    finally:
        mlflow.set_tracking_uri(before)
        torch.set_num_threads(threads)


@pytest.fixture
def command(home, prefect_server, empty_mlflow) -> Iterator[Callable[..., subprocess.CompletedProcess]]:
    """command("train", ...) is `gpt train ...` in this process."""
    with own_home(home, prefect_server, empty_mlflow):
        yield gpt_here


@pytest.fixture
def notes(tmp_path) -> Path:
    """A user's own folder: 60 short texts that a tiny model learns something from."""
    folder = tmp_path / "notes"
    folder.mkdir()
    text = "the river bends and the old bridge waits for rain while the miller counts his sacks of barley"
    words = text.split()
    for i in range(60):
        lines = [
            " ".join(words[(i * 7 + j * k) % len(words)] for k in range(1, 9)) + f" {spelled(i)}." for j in range(1, 12)
        ]
        (folder / f"note-{i:02}.txt").write_text("\n".join(lines) + "\n")
    return folder


def settings(values: dict[str, object]) -> list[str]:
    """As options of the command line."""
    return [part for name, value in values.items() for part in ("--set", f"{name}={value}")]


WORDS = [
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
]
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
