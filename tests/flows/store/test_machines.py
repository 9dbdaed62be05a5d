"""Two machines that share a disk and a PostgreSQL: each has a home of its own, and the bytes are those of one machine."""

import json
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import psutil
import psycopg2
import pytest

from tests.conftest import gpt
from tests.flows.cli.test_command import assert_refused, digests
from tests.flows.conftest import free_port, settings
from tests.flows.workshop import PATIENCE, Workshop, command_lines, until

pytestmark = pytest.mark.slow
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

            connection = until(connected, "PostgreSQL")
            connection.autocommit = True
            for database in ("prefect", "mlflow"):
                connection.cursor().execute(f"create database {database}")
            connection.close()
            yield Cluster(port)
        finally:
            process.send_signal(signal.SIGINT)  # disconnect everybody, and end
            process.wait(60)


class Machines(Workshop):
    """Each with a home and a log of its own; what they share is in the environment of all."""

    def __init__(self, folder: Path, database: str, **shared: str):
        self.shared = shared | {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database}
        super().__init__(folder)

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        home.parent.mkdir(parents=True, exist_ok=True)
        of_its_own = {"PREFECT_HOME": str(home.parent / "prefect")}
        shared = dict(self.shared)
        if home != self.folder / "home":  # only the server needs the database
            del shared["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
        return super().environment(home, **shared | of_its_own | more)

    def words(self, machine: str) -> str:
        return (self.folder / f"{machine}-worker.log").read_text()

    def _start(self, command: list[str], log: str, env: dict[str, str]) -> subprocess.Popen:
        return super()._start(command, f"{Path(env['GPT_HOME']).parent.name}-{log}", env)


LOOK = "from flows.server.dead_runs import look; look({api!r}, look({api!r}, {{}}))"


def test_a_database_that_is_away_is_told_without_its_password(tmp_path):
    nobody = Cluster(free_port()).address("psycopg2", "mlflow")
    away = gpt(tmp_path / "home", "runs", MLFLOW_TRACKING_URI=nobody)
    assert_refused(away, "MLflow does not answer at postgresql+psycopg2://127.0.0.1", "Connection refused", "start it")
    assert PASSWORD not in away.stderr
    assert quote(PASSWORD, safe="") not in away.stderr


def test_two_machines_make_what_one_makes(postgres, tmp_path):
    common, homes = tmp_path / "common", {name: tmp_path / name / "home" for name in "ab"}
    mlflow = postgres.address("psycopg2", "mlflow")
    shop = Machines(
        tmp_path / "server",
        postgres.address("asyncpg", "prefect"),
        GPT_SHARED_HOME=str(common),
        MLFLOW_TRACKING_URI=mlflow,
    )
    try:
        shop.start_worker(homes["a"], "--work-queue", "cpu")
        b = shop.start_worker(homes["b"], "--work-queue", "gpu")
        prepared = shop.run("prepare/corpus", corpus="python-docs", then_train=True, overrides=OVERRIDES)
        building = common / "artifacts" / "python-docs" / "train"
        until(lambda: list(building.glob(".building-*/state/step-*")), "a state of the training")
        commands = str(command_lines(psutil.Process().children(recursive=True)))
        shop.kill(b)  # as when the power goes
        assert not list(building.glob("[!.]*"))
        assert shop.wait(prepared)["state"]["type"] == "COMPLETED"

        def crashed() -> list[dict]:
            shop.python(LOOK.format(api=shop.api), homes["b"])
            return shop.ask("flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["CRASHED"]}}}})

        runs = until(crashed, "the dead run to be found")  # its last heartbeat may reach the database between two looks
        assert [run["state"]["message"] for run in runs] == ["Its process is gone."]
        shop.start_worker(homes["b"], "--work-queue", "gpu")
        trained = shop.wait(shop.run("train/python-docs", overrides=OVERRIDES))
        assert trained["state"]["type"] == "COMPLETED", trained["state"]

        # Each did its part, and the second training went on where the first was when it was killed.
        for stage in ("download", "clean", "tokenize", "pack"):
            assert re.search(rf"{stage} +[\d.]+ s ", shop.words("a"))
            assert len(re.findall(rf"{stage} +reused ", shop.words("b"))) == 2
        assert "bits per byte at step" not in shop.words("a")
        assert "bits per byte at step" in shop.words("b")
        (manifest,) = building.glob("*/manifest.json")
        assert json.loads(manifest.read_text())["counts"]["resumed_from"] >= 20
        with closing(psycopg2.connect(mlflow.replace("+psycopg2", ""))) as connection:
            cursor = connection.cursor()
            cursor.execute("select status from runs where lifecycle_stage = 'active'")
            assert cursor.fetchall() == [("FINISHED",)]
            cursor.execute("select artifact_location from experiments where name = 'gpt'")
            assert cursor.fetchall() == [((common / "mlartifacts").as_uri(),)]
        assert list(common.glob("mlartifacts/**/model.safetensors"))

        # One machine, with an MLflow of its own.
        alone = gpt(tmp_path / "alone", "train", "python-docs", *settings(OVERRIDES), PREFECT_API_URL=shop.api)
    finally:
        shop.close()
    assert alone.returncode == 0, alone.stderr
    assert digests(common) == digests(tmp_path / "alone")
    assert not [home for home in homes.values() if (home / "artifacts").exists()]

    # The password is nowhere but where it was given.
    assert "postgres" in commands
    for name in ("prefect", "mlflow"):
        dump = [postgres_program("pg_dump"), "-h", "127.0.0.1", "-p", str(postgres.port), "-U", "gpt", name]
        with (tmp_path / name).open("w") as file:
            subprocess.run(dump, env=os.environ | {"PGPASSWORD": PASSWORD}, check=True, timeout=PATIENCE, stdout=file)
    written = [path for path in tmp_path.parent.rglob("*") if path.is_file()]
    assert {tmp_path / "prefect", shop.folder / "b-worker.log", shop.folder / "server-server.log"} < set(written)
    for secret in (PASSWORD, quote(PASSWORD, safe="")):
        assert secret not in commands
        assert [path for path in written if secret.encode() in path.read_bytes()] == []
