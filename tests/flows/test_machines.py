"""Two machines that share a disk and a PostgreSQL: each has a home of its own, and the bytes are those of one machine."""

import json
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import psutil
import psycopg2
import pytest

from tests.conftest import ROOT, environment, gpt
from tests.flows.conftest import free_port, settings, stop, wait_for
from tests.flows.test_command import assert_refused, digests
from tests.flows.test_deployments import ask

pytestmark = pytest.mark.slow
PATIENCE = 300.0  # seconds that anything may take here
PASSWORD = f"p@ss/{secrets.token_hex(8)}%"  # with what an address must spell otherwise
# Training takes long enough to be killed in, with checkpoints close together.
OVERRIDES = {
    "clean.val_fraction": 0.02,
    "tokenizer.vocab_size": 512,
    "pack.block_size": 32,
    "model.n_layer": 1,
    "model.n_embd": 32,
    "model.n_head": 2,
    "train.steps": 300,
    "train.batch_size": 4,
    "train.eval_every": 300,
    "train.checkpoint_every": 20,
    "sample.max_tokens": 5,
    "sample.evaluation_tokens": 0,
    "runtime.threads": 1,
}


def until(what: str, found: Callable[[], object]) -> object:
    """Ask again and again, until there is something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if answer := found():
            return answer
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {PATIENCE:.0f} s")


@dataclass(frozen=True)
class Cluster:
    """A PostgreSQL of the tests' own."""

    port: int

    def address(self, driver: str, database: str) -> str:
        return f"postgresql+{driver}://gpt:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{database}"


def postgres_program(name: str) -> str:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    path = shutil.which(name) or next((str(place / name) for place in reversed(places)), "")
    if not path:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    return path


@pytest.fixture(scope="module")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL cluster of the tests' own on a free port, with password authentication."""
    programs = {name: postgres_program(name) for name in ("initdb", "postgres")}
    with TemporaryDirectory(prefix="gpt-postgres-") as name:
        folder, port, other = Path(name), free_port(), {}
        (folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:  # as root it refuses to run
            user = pwd.getpwnam("postgres")
            other = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            for path in (folder, folder / "password"):
                os.chown(path, user.pw_uid, user.pw_gid)
        made = [
            programs["initdb"],
            "-D",
            folder / "data",
            "-U",
            "gpt",
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        made += ["--locale", "C", "--pwfile", folder / "password"]
        subprocess.run(made, check=True, capture_output=True, timeout=PATIENCE, cwd=folder, **other)
        served = [programs["postgres"], "-D", folder / "data", "-p", str(port), "-k", folder, "-h", "127.0.0.1"]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen([*served, "-c", "fsync=off"], stdout=log, stderr=log, cwd=folder, **other)
        try:

            def connected() -> psycopg2.extensions.connection | None:
                try:
                    return psycopg2.connect(
                        host="127.0.0.1", port=port, user="gpt", password=PASSWORD, dbname="postgres"
                    )
                except psycopg2.OperationalError:
                    assert process.poll() is None, (folder / "log").read_text()
                    return None

            connection = until("PostgreSQL", connected)
            connection.autocommit = True
            for database in ("prefect", "mlflow"):
                connection.cursor().execute(f"create database {database}")
            connection.close()
            yield Cluster(port)
        finally:
            process.send_signal(signal.SIGINT)  # disconnect everybody, and end
            process.wait(60)


@pytest.fixture(scope="module")
def server(postgres, tmp_path_factory) -> Iterator[str]:
    """API address of a Prefect server whose database is PostgreSQL."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    more = {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_DATABASE_CONNECTION_URL": postgres.address("asyncpg", "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "true",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with started(command, environment(folder / "home", **more), folder / "server.log") as process:
        wait_for(f"http://127.0.0.1:{port}/api/health", process, PATIENCE)
        yield f"http://127.0.0.1:{port}/api"


def call(url: str, body: dict) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=30).close()


@contextmanager
def started(command: list[str], env: dict[str, str], log: Path) -> Iterator[subprocess.Popen]:
    """A process until the end of the block; its words are added to a file."""
    with log.open("a") as words:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=words, stderr=words)
    try:
        yield process
    finally:
        stop(process)


@contextmanager
def worker(env: dict[str, str], queue: str, log: Path) -> Iterator[subprocess.Popen]:
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "gpt", "--type", "process"]
    with started([*command, "--work-queue", queue, "--install-policy", "never"], env, log) as process:
        yield process


def test_a_database_that_is_away_is_told_without_its_password(tmp_path):
    nobody = Cluster(free_port()).address("psycopg2", "mlflow")
    away = gpt(tmp_path / "home", "runs", MLFLOW_TRACKING_URI=nobody)
    assert_refused(away, "MLflow at postgresql+psycopg2://127.0.0.1", "Connection refused", "start it")
    assert PASSWORD not in away.stderr
    assert quote(PASSWORD, safe="") not in away.stderr


def test_two_machines_make_what_one_makes(postgres, server, tmp_path):
    common = tmp_path / "common"
    shared = {"GPT_SHARED_HOME": str(common), "MLFLOW_TRACKING_URI": postgres.address("psycopg2", "mlflow")}
    shared |= {"PREFECT_API_URL": server, "PREFECT_WORKER_QUERY_SECONDS": "1"}
    machines = {
        name: environment(tmp_path / name / "home", PREFECT_HOME=str(tmp_path / name / "prefect"), **shared)
        for name in "ab"
    }
    for name in "ab":
        (tmp_path / name).mkdir()
    logs = {name: tmp_path / f"{name}.log" for name in "ab"}

    def prefect(*arguments: str) -> None:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        result = subprocess.run(command, cwd=ROOT, env=machines["a"], capture_output=True, text=True, timeout=PATIENCE)
        assert result.returncode == 0, result.stdout + result.stderr

    def trained(state: str) -> list[dict]:
        of_type = {"state": {"type": {"any_": [state]}}}
        return ask(server, "flow_runs", flows={"name": {"any_": ["train"]}}, flow_runs=of_type)

    prefect("work-pool", "create", "gpt", "--type", "process")
    prefect("deploy", "-n", "prepare/corpus", "-n", "train/python-docs")
    building = common / "artifacts" / "python-docs" / "train"
    overrides = ["-p", f"overrides={json.dumps(OVERRIDES)}"]
    with worker(machines["a"], "cpu", logs["a"]):
        with worker(machines["b"], "gpu", logs["b"]) as b:
            prefect(
                "deployment", "run", "prepare/corpus", "-p", "corpus=python-docs", "-p", "then_train=true", *overrides
            )
            until("a state of the training", lambda: list(building.glob(".building-*/state/step-*")))
            commands = "\n".join(" ".join(process.cmdline()) for process in psutil.Process().children(recursive=True))
            for process in [*psutil.Process(b.pid).children(recursive=True), b]:
                process.kill()  # the power went
        (killed,) = trained("RUNNING")
        assert not list(building.glob("[!.]*"))
        crashed = {"state": {"type": "CRASHED"}, "force": True}  # as the automation does that misses its heartbeats
        call(f"{server}/flow_runs/{killed['id']}/set_state", crashed)
        with worker(machines["b"], "gpu", logs["b"]):
            prefect("deployment", "run", "train/python-docs", *overrides)
            until("the training", lambda: trained("COMPLETED") or trained("FAILED"))
    assert len(trained("COMPLETED")) == 1, logs["b"].read_text()

    # Each did its part, and the second training went on where the first was when it was killed.
    words = {name: log.read_text() for name, log in logs.items()}
    for stage in ("download", "clean", "tokenize", "pack"):
        assert re.search(rf"{stage} +[\d.]+ s ", words["a"])
        assert len(re.findall(rf"{stage} +reused ", words["b"])) == 2
    assert "bits per byte at step" not in words["a"]
    assert "bits per byte at step" in words["b"]
    (manifest,) = building.glob("*/manifest.json")
    assert json.loads(manifest.read_text())["counts"]["resumed_from"] >= 20
    with closing(psycopg2.connect(shared["MLFLOW_TRACKING_URI"].replace("+psycopg2", ""))) as connection:
        cursor = connection.cursor()
        cursor.execute("select status from runs where lifecycle_stage = 'active'")
        assert cursor.fetchall() == [("FINISHED",)]
        cursor.execute("select artifact_location from experiments where name = 'gpt'")
        assert cursor.fetchall() == [((common / "mlartifacts").as_uri(),)]
    assert list(common.glob("mlartifacts/**/model.safetensors"))

    # One machine, with databases of its own.
    alone = gpt(tmp_path / "alone", "train", "python-docs", *settings(OVERRIDES), PREFECT_API_URL=server)
    assert alone.returncode == 0, alone.stderr
    assert digests(common) == digests(tmp_path / "alone")
    assert not list((tmp_path / "a" / "home").glob("artifacts"))
    assert not list((tmp_path / "b" / "home").glob("artifacts"))

    # The password is nowhere but where it was given.
    assert "postgres" in commands
    for name in ("prefect", "mlflow"):
        dump = [
            postgres_program("pg_dump"),
            "-h",
            "127.0.0.1",
            "-U",
            "gpt",
            "-p",
            str(postgres.port),
            "-f",
            tmp_path / name,
            name,
        ]
        subprocess.run(dump, env=os.environ | {"PGPASSWORD": PASSWORD}, check=True, timeout=PATIENCE)
    written = [path for path in tmp_path.parent.rglob("*") if path.is_file()]
    assert {tmp_path / "prefect", logs["a"], logs["b"]} < set(written)
    for secret in (PASSWORD, quote(PASSWORD, safe="")):
        assert secret not in commands
        assert [path for path in written if secret.encode() in path.read_bytes()] == []
