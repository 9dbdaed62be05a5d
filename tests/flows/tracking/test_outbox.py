"""MLflow that is slow, loses answers, is away for a while or for good: nothing waits for it, and it gets everything once."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import mlflow
import pytest

from flows import progress
from flows.recipe import load_recipe
from flows.store.artifacts import Artifact
from flows.tracking import outbox
from flows.tracking.connection import experiment_id
from flows.tracking.outbox import Outbox, spool
from flows.tracking.run import Tracker, tracked_run
from tests.conftest import environment
from tests.flows.conftest import free_port, wait_for

pytestmark = pytest.mark.slow


class Server:
    """A real tracking server, to be killed and started again."""

    def __init__(self, folder: Path, port: int):
        self.port, self.folder, self.process = port, folder, None
        self.command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        self.command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--workers", "1"]
        self.command += ["--artifacts-destination", str(folder / "artifacts")]

    def start(self) -> None:
        more = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                self.command, env=environment(self.folder, **more), stdout=log, stderr=log, start_new_session=True
            )
        wait_for(f"http://127.0.0.1:{self.port}/health", self.process)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Proxy:
    """Between a client and the server. slow: an answer takes half a second. lossy: requests arrive, answers are lost. away: no
    connection lasts."""

    def __init__(self, to: int):
        self.mode, self.requests, self._to = "there", 0, to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            try:
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                client.close()
                continue
            for ends in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, asking: bool) -> None:
        with suppress(OSError), source, target:
            while data := source.recv(65536):
                mode = self.mode
                self.requests += asking and data.startswith((b"GET ", b"POST ", b"PUT ", b"PATCH ", b"DELETE "))
                if mode == "away" or (mode == "lossy" and not asking):
                    break
                if mode == "slow" and not asking:
                    time.sleep(0.5)
                target.sendall(data)
            for end in (source, target):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def server(tmp_path, empty_mlflow):
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(empty_mlflow, folder)
    server = Server(folder, free_port())
    server.start()
    yield server
    server.kill()


@pytest.fixture
def at(home, monkeypatch):
    """A home whose MLflow is the given address; short limits."""
    home.mkdir()
    before = mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    for name, value in {"AWAY": 1.0, "PATIENCE": 20.0, "LONGEST_WAIT": 1.0}.items():
        monkeypatch.setattr(outbox, name, value)
    yield mlflow.set_tracking_uri
    mlflow.set_tracking_uri(before)


def histories(run_id: str, *names: str) -> list[list[int]]:
    client = mlflow.MlflowClient()
    return [[metric.step for metric in client.get_metric_history(run_id, name)] for name in names]


def test_an_outage_costs_nothing_and_loses_nothing(server, at, tmp_path):
    proxy, recipe = Proxy(server.port), load_recipe("python-docs", overrides={"train.keep_checkpoints": 2})
    checkpoint = tmp_path / "step"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text("{}")
    at(proxy.address)
    step, inside, asked = 0, 0.0, {}

    def go(tracker: Tracker, seconds: float) -> None:
        """Train: a hundred steps a second, and an evaluation."""
        nonlocal step, inside
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            started = time.perf_counter()
            tracker.step(step, {"train/loss": 1 / (step + 1), "train/lr": 0.1})
            inside += time.perf_counter() - started
            step += 1
            time.sleep(0.01)
        started = time.perf_counter()
        tracker.evaluation(step - 1, {"val/bpb": 10 - step / 1e4}, checkpoint, best=True)
        inside += time.perf_counter() - started

    began = time.monotonic()
    with tracked_run(recipe, "work") as tracker:
        for mode, seconds in (("there", 1), ("lossy", 3), ("away", 1), ("slow", 2)):
            proxy.mode, before = mode, proxy.requests
            go(tracker, seconds)
            asked[mode] = proxy.requests - before
        proxy.mode = "there"
        while tracker._box.next_request():
            time.sleep(0.1)
        before, since = proxy.requests, time.monotonic()
        for _ in range(200):
            tracker.step(step, {"train/loss": 1 / (step + 1), "train/lr": 0.1})
            step += 1
            time.sleep(0.01)
        steady, lasted = proxy.requests - before, time.monotonic() - since
        server.kill()
        go(tracker, 1)
    ended = time.monotonic()
    tracker._box.thread.join(10)
    assert steady <= lasted + 1  # one a second
    assert all(asked.values())
    # A call that waited for MLflow would be a hundred times as long; how long one takes is for a benchmark to say.
    assert inside < 0.1 * (ended - began)
    server.start()
    with tracked_run(load_recipe("shakespeare"), "other work") as other:
        pass
    client = mlflow.MlflowClient()
    run = client.get_run(tracker.run_id)
    assert run.info.status == client.get_run(other.run_id).info.status == "FINISHED"
    loss, lr, bits = histories(tracker.run_id, "train/loss", "train/lr", "val/bpb")
    assert loss == lr == list(range(step))
    assert len(bits) == len(set(bits)) == 5
    models = mlflow.search_logged_models([run.info.experiment_id], output_format="list")
    assert {int(model.params["step"]) for model in models} == set(bits[-2:])
    assert {model.tags["last"] for model in models} == {"true", "false"}
    assert [model.metrics[0].key for model in models] == ["val/bpb"] * 2
    assert not list(spool().glob("*"))
    print(
        f"\n{step} steps, {inside / step * 1e6:.0f} µs each, requests {asked}, {steady} in {lasted:.1f} s; {2 * step} sent"
    )


def test_a_stopped_run_is_continued_and_a_finished_one_is_not(at, empty_mlflow, home, tmp_path):
    shutil.copy(empty_mlflow, tmp_path)
    at(f"sqlite:///{tmp_path}/mlflow.db")
    client, recipe = mlflow.MlflowClient(), load_recipe("python-docs")
    made = Artifact("python-docs", "download", "key-1", "0" * 64, tmp_path / "none", {"files": 1})

    def stopped(first: int, artifact: Artifact) -> str:
        with suppress(KeyboardInterrupt), tracked_run(recipe, "work") as tracker:
            tracker.stage(artifact)
            for step in range(first, first + 10):
                tracker.step(step, {"train/loss": float(step)})
            tracker.table([{"step": first, "text": "a"}], "samples/evaluations.json")
            raise KeyboardInterrupt
        assert client.get_run(tracker.run_id).info.status == "KILLED"
        return tracker.run_id

    one = stopped(0, made)
    assert stopped(5, made) == one
    with tracked_run(recipe, "work") as tracker:
        tracker.stage(made)
        assert client.get_run(one).info.status == "RUNNING"
        tracker.step(15, {"train/loss": 15.0})
    assert tracker.run_id == one
    assert client.get_run(one).info.status == "FINISHED"
    assert histories(one, "train/loss", "download/files") == [list(range(16)), [0]]
    table = mlflow.artifacts.load_dict(f"runs:/{one}/samples/evaluations.json")
    assert table["data"] == [[0, "a"], [5, "a"]]
    two = stopped(0, made)
    assert two != one
    # Other data under the same recipe: nothing of it is resumed, so it is another run.
    with tracked_run(recipe, "work") as tracker:
        tracker.stage(Artifact("python-docs", "download", "key-2", "1" * 64, tmp_path / "none", {"files": 1}))
    assert tracker.run_id not in (one, two)
    assert client.get_run(two).info.status == "KILLED"
    three = stopped(0, made)
    client.delete_run(three)
    four = stopped(0, made)
    assert four != three
    assert {path.name for path in (home / "spool").iterdir()} == {four}


def test_what_one_run_cannot_send_holds_back_no_other_and_is_sent_later(
    at, empty_mlflow, tmp_path, capsys, monkeypatch
):
    """A line that fails at every try, though MLflow answers: its artifact's place is a file."""
    shutil.copy(empty_mlflow, tmp_path)
    at(f"sqlite:///{tmp_path}/mlflow.db")

    def left(name: str) -> Outbox:
        """What a run left that was killed before it sent anything."""
        run = mlflow.start_run(experiment_id=experiment_id(), run_name=name)
        mlflow.end_run()
        box = Outbox.new(run.info.run_id, experiment=experiment_id(), corpus=name, work=name)
        box.put(file=box.attach(Path(__file__)), to="folder")
        box.put(metrics=[["train/loss", 1.0, 1, 1]])
        box.release()
        return box

    older, bad = left("older"), left("bad")
    os.utime(older.folder / "about.json", (1, 1))
    place = Path(mlflow.get_run(bad.run_id).info.artifact_uri.removeprefix("file://"))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text("in the way")
    assert {path.name for path in spool().iterdir()} == {older.run_id, bad.run_id}
    monkeypatch.setattr(progress, "to_terminal", True)
    outbox.sync()
    assert histories(older.run_id, "train/loss") == [[1]]
    assert histories(bad.run_id, "train/loss") == [[]]
    assert f"run {bad.run_id} could not send all that it logged" in " ".join(capsys.readouterr().err.split())
    assert (spool() / bad.run_id).is_dir()
    place.unlink()
    outbox.sync()
    assert histories(bad.run_id, "train/loss") == [[1]]
    assert not Outbox(bad.folder).next_request()


def test_a_server_and_its_own_database_are_one_mlflow(server, at):
    """A run is stopped under `gpt up`, and goes on without it; what it left is sent by either."""
    recipe, own = load_recipe("python-docs"), f"sqlite:///{server.folder}/mlflow.db"
    at(own)
    experiment_id()  # made as in a home, with its artifacts in a folder
    at(f"http://127.0.0.1:{server.port}")
    with suppress(KeyboardInterrupt), tracked_run(recipe, "work") as tracker:
        tracker.step(1, {"train/loss": 1.0})
        raise KeyboardInterrupt
    server.kill()
    at(own)
    with tracked_run(recipe, "work") as again:
        again.step(2, {"train/loss": 2.0})
    assert again.run_id == tracker.run_id
    assert histories(again.run_id, "train/loss") == [[1, 2]]
    assert not list(spool().iterdir())


def test_what_mlflow_refuses_takes_nothing_else_with_it(at, empty_mlflow, tmp_path):
    shutil.copy(empty_mlflow, tmp_path)
    at(f"sqlite:///{tmp_path}/mlflow.db")
    with tracked_run(load_recipe("python-docs"), "work") as tracker:
        tracker.step(1, {"train/loss": 1.0})
        tracker.step(2, {"a name with a : and a |": 1.0})
        tracker.files([Path(__file__)], "folder")
        shutil.rmtree(next((spool() / tracker.run_id / "files").iterdir()), ignore_errors=True)
        tracker.step(3, {"train/loss": 1.0})
    assert histories(tracker.run_id, "train/loss") == [[1, 3]]
    assert mlflow.get_run(tracker.run_id).info.status == "FINISHED"
