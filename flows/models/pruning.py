"""What `gpt prune` and `maintain` remove: folders that nothing needs, and old runs of MLflow, with what these keep on the disk.

Notable: MLflow only marks a run as deleted. `mlflow gc` removes its files and rows, but not its checkpoints, and also what a
person deleted a minute ago.
"""

import io
import os
import shutil
import time
from collections import Counter
from collections.abc import Collection, Iterable
from contextlib import redirect_stdout, suppress
from pathlib import Path

import mlflow
from mlflow.cli import _gc_tracking_resources
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.exc import OperationalError

from flows.home import home, shared_home
from flows.store.artifacts import Store
from flows.tracking.connection import DATABASE, answering, experiment_id
from flows.tracking.spool import spool

DAY = 86_400  # seconds


def old_folders(keep: int, named: Collection[str]) -> dict[Path, int]:
    """Artifacts and reproductions but for the newest `keep` of each corpus, and what runs left that died at their start; with
    their bytes. named: digests of decoders to keep. They may be removed only while the home is `idle`."""
    found, newer = Store(shared_home()).prunable(keep, named), Counter[str]()
    for folder in sorted(home().glob("reproductions/*"), key=os.path.getmtime, reverse=True):
        corpus = next((path.name for path in folder.glob("artifacts/*")), "")
        newer[corpus] += 1
        found += [folder] if newer[corpus] > keep else []
    left = [folder for folder in spool().glob("*") if not (folder / "about.json").exists()]
    found += [folder for folder in left if folder.stat().st_mtime < time.time() - DAY]
    return {folder: _size([folder]) for folder in found}


def remove_folders(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder)


def old_runs(days: int, trash: bool) -> dict[str, str]:
    """Runs that failed or were deleted so many days ago, and why each may go; not those that registered models are from.

    trash: also those that were deleted since. Raises UserError when MLflow does not answer.
    """
    experiment, client, runs = experiment_id(), mlflow.MlflowClient(), dict[str, str]()
    with answering():
        for status in ("FAILED", "KILLED"):
            old = f"attributes.status = '{status}' and attributes.end_time < {int(1000 * (time.time() - days * DAY))}"
            runs |= {run.info.run_id: status.lower() for run in client.search_runs([experiment], old, max_results=1000)}
        if database := _database():
            runs |= dict.fromkeys(database._get_deleted_runs(0 if trash else 1000 * days * DAY), "deleted")
        named = {version.run_id for version in client.search_model_versions()}
    return {run: why for run, why in runs.items() if run not in named}


def remove_runs(runs: Iterable[str], days: int) -> int:
    """Remove runs with all that they logged, and what is left of checkpoints that were deleted so many days ago. Returns the
    bytes that are free since then. Of a server whose database is not known here, the runs are only marked as deleted."""
    experiment, client, models = experiment_id(), mlflow.MlflowClient(), []
    with answering():
        for run in (runs := list(runs)):
            found = mlflow.search_logged_models([experiment], f"source_run_id = '{run}'", output_format="list")
            models += [model.model_id for model in found]
            for model in found:
                client.delete_logged_model(model.model_id)
            client.delete_run(run)
        if not (database := _database()):
            return 0
        places = [shared_home() / "mlartifacts"]
        places += [Path(database.engine.url.database or "")] if database.db_type == "sqlite" else []
        before = _size(places)
        models += database._get_deleted_logged_models(1000 * days * DAY)
        with redirect_stdout(io.StringIO()):
            _gc_tracking_resources(
                database, runs, None, models, None, 0, skip_experiments=True, skip_logged_models=False
            )
        with suppress(OperationalError), database.engine.connect() as connection:  # it is in use, or the disk is full
            connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM")
    return max(0, before - _size(places))


def _database() -> SqlAlchemyStore | None:
    """MLflow's own, which its server keeps to itself; `gpt up` names it in the environment of its worker."""
    uri = mlflow.get_tracking_uri()
    uri = os.environ.get(DATABASE, "") if uri.startswith("http") else uri
    return SqlAlchemyStore(uri, (shared_home() / "mlartifacts").as_uri()) if uri else None


def _size(places: Iterable[Path]) -> int:
    """Bytes of files, and of all files in folders."""
    return sum(file.stat().st_size for place in places for file in (place, *place.rglob("*")) if file.is_file())
