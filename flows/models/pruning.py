"""What `gpt prune` and `maintain` remove: folders that nothing needs, and old runs of MLflow, with what these keep on the disk.

Notable: MLflow only marks a run as deleted. `mlflow gc` removes its files and rows, but not its checkpoints, and also what a
person deleted a minute ago.
"""

import io
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import nullcontext, redirect_stdout
from os.path import relpath

import mlflow
from mlflow.cli import _gc_tracking_resources
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from flows import UserError
from flows.home import home, shared_home
from flows.models.promotion import named_decoders
from flows.store.artifacts import Store
from flows.store.locks import idle
from flows.tracking.connection import DATABASE, answering, experiment_id

DAY = 86_400  # seconds


def prune(keep: int, days: int, dry_run: bool) -> list[dict[str, str]]:
    """Remove, or only list, artifacts that are prunable, reproductions but for the newest `keep`, and `old_runs`; returns a row
    each. While a run is in progress, no folder is removed. Raises UserError when MLflow does not answer."""
    named, runs, done = named_decoders(), old_runs(days), "to remove" if dry_run else "removed"
    rows = [{"what": "MLflow run", "which": run, "done": f"{done}: {why}"} for run, why in runs.items()]
    if not dry_run:
        remove_runs(runs, days)
    try:
        with nullcontext() if dry_run else idle():
            found = Store().prunable(keep, named)
            found += sorted(home().glob("reproductions/*"), key=os.path.getmtime, reverse=True)[keep:]
            for folder in found:
                size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
                if not dry_run:
                    shutil.rmtree(folder)
                which = relpath(folder, shared_home())
                rows.append({"what": "folder", "which": which, "done": f"{done}: {size / 1e6:.1f} MB"})
    except UserError as error:
        rows.append({"what": "folders", "which": "all", "done": f"not removed: {error}"})
    return rows


def old_runs(days: int) -> dict[str, str]:
    """Runs that failed or were deleted so many days ago, and why each may go; not those that registered models are from.
    Raises UserError when MLflow does not answer."""
    experiment, client, runs = experiment_id(), mlflow.MlflowClient(), dict[str, str]()
    with answering():
        for status in ("FAILED", "KILLED"):
            old = f"attributes.status = '{status}' and attributes.end_time < {int(1000 * (time.time() - days * DAY))}"
            runs |= {run.info.run_id: status.lower() for run in client.search_runs([experiment], old, max_results=1000)}
        if database := _database():
            runs |= dict.fromkeys(database._get_deleted_runs(1000 * days * DAY), "deleted")
        named = {version.run_id for version in client.search_model_versions()}
    return {run: why for run, why in runs.items() if run not in named}


def remove_runs(runs: Iterable[str], days: int) -> None:
    """Remove runs with all that they logged, and what is left of checkpoints that were deleted so many days ago. Of a server
    whose database is not known here, the runs are only marked as deleted."""
    experiment, client, models = experiment_id(), mlflow.MlflowClient(), []
    with answering():
        for run in (runs := list(runs)):
            found = mlflow.search_logged_models([experiment], f"source_run_id = '{run}'", output_format="list")
            models += [model.model_id for model in found]
            for model in found:
                client.delete_logged_model(model.model_id)
            client.delete_run(run)
        if not (database := _database()):
            return
        models += database._get_deleted_logged_models(1000 * days * DAY)
        with redirect_stdout(io.StringIO()):
            kept = {"skip_experiments": True, "skip_logged_models": False}
            _gc_tracking_resources(database, runs, None, models, None, 0, **kept)


def _database() -> SqlAlchemyStore | None:
    """MLflow's own, which its server keeps to itself; `gpt up` names it in the environment of its worker."""
    uri = mlflow.get_tracking_uri()
    uri = os.environ.get(DATABASE, "") if uri.startswith("http") else uri
    return SqlAlchemyStore(uri, (shared_home() / "mlartifacts").as_uri()) if uri else None
