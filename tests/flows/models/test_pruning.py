"""What MLflow keeps of old runs is gone from its database and from the disk, on sqlite and on PostgreSQL."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import pytest
import sqlalchemy

from flows.models import pruning
from flows.tracking.connection import experiment_id
from tests.flows.cli.test_command import assert_refused
from tests.flows.conftest import own_home
from tests.flows.store.test_machines import postgres  # noqa: F401 (a fixture)

OLD = int(1000 * (time.time() - 31 * pruning.DAY))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def here(request, home, prefect_server, empty_mlflow, monkeypatch) -> Iterator[str]:
    """The address of MLflow's database."""
    with own_home(home, prefect_server, empty_mlflow):
        if request.param == "postgresql":
            address = request.getfixturevalue("postgres").address("psycopg2", "mlflow")
            monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
            mlflow.set_tracking_uri(address)
        yield mlflow.get_tracking_uri()


def make(status: str = "FAILED", ended: int | None = None, register: str = "") -> tuple[str, str]:
    """A run with a file and a checkpoint, and the checkpoint."""
    client, experiment = mlflow.MlflowClient(), experiment_id()
    run = client.create_run(experiment).info.run_id
    model = client.create_logged_model(experiment, "step", run)
    client.log_text(run, "x" * 100_000, "a.txt")
    client.log_metric(run, "loss", 1.0, model_id=model.model_id)
    with TemporaryDirectory() as folder:
        (Path(folder) / "weights").write_bytes(bytes(200_000))
        client.log_model_artifacts(model.model_id, folder)
    client.set_terminated(run, status, ended)
    if register:
        client.create_registered_model(register)
        client.create_model_version(register, f"models:/{model.model_id}", run, model_id=model.model_id)
    return run, model.model_id


def test_old_failed_and_deleted_runs_go_with_their_checkpoints(here, home):
    client = mlflow.MlflowClient()
    failed, fresh, named = make(ended=OLD), make(), make(ended=OLD, register="gpt-mine")
    thrown, thrown_now, finished = make("FINISHED"), make("FINISHED"), make("FINISHED", ended=OLD)
    for run, _ in (thrown, thrown_now, named):
        client.delete_run(run)
    with sqlalchemy.create_engine(here).begin() as connection:
        connection.exec_driver_sql(
            f"update runs set deleted_time = {OLD} where run_uuid in ('{thrown[0]}', '{named[0]}')"
        )

    def left() -> set[str]:
        with sqlalchemy.create_engine(here).begin() as connection:
            runs = connection.exec_driver_sql("select run_uuid from runs").scalars().all()
            models = connection.exec_driver_sql("select model_id from logged_models").scalars().all()
            assert {*connection.exec_driver_sql("select run_uuid from metrics").scalars()} == {*runs}
        files = {path.relative_to(home).parts for path in (home / "mlartifacts").rglob("*") if path.is_file()}
        assert {parts[-3] for parts in files} == {*runs, *models}
        return {*runs}

    old = pruning.old_runs(30)
    assert old == {failed[0]: "failed", thrown[0]: "deleted"}
    assert len(left()) == 6
    pruning.remove_runs(old, 30)
    assert left() == {fresh[0], named[0], thrown_now[0], finished[0]}
    assert client.get_logged_model(named[1]).model_id == named[1]

    assert pruning.old_runs(30) == {}
    pruning.remove_runs({run: why for run, why in pruning.old_runs(0).items() if why == "deleted"}, 30)
    assert left() == {fresh[0], named[0], finished[0]}


def test_a_server_whose_database_is_not_known_only_marks(here, home, monkeypatch):
    old, _ = make(ended=OLD)
    monkeypatch.setattr(pruning, "_database", lambda: None)
    assert pruning.old_runs(30) == {old: "failed"}
    pruning.remove_runs([old], 30)
    assert mlflow.get_run(old).info.lifecycle_stage == "deleted"


def test_the_newest_reproductions_stay(here, home):
    for age in range(5):
        folder = home / "reproductions" / f"run-{age}"
        folder.mkdir(parents=True)
        (folder / "big").write_bytes(bytes(1000))
        pruning.os.utime(folder, (time.time() - age, time.time() - age))
    for dry_run in (True, False):
        assert [row["which"] for row in pruning.prune(3, 30, dry_run)] == ["reproductions/run-3", "reproductions/run-4"]
    assert sorted(path.name for path in (home / "reproductions").iterdir()) == ["run-0", "run-1", "run-2"]


def test_a_database_of_a_newer_version_is_told(command, home):
    with closing(sqlite3.connect(home / "mlflow.db")) as database, database:
        database.execute("update alembic_version set version_num = 'ffffffffffff'")
    for asked in ("prune", "runs"):
        assert_refused(command(asked), "mlflow.db is of another version of MLflow", "the version of this project")
