"""What `gpt prune` and `maintain` may remove: artifacts and reproductions that nothing needs, and old runs of MLflow.

Notable: MLflow only marks a run as deleted. Its files and rows go when they are removed from its database, as `mlflow gc` does,
which would also take what registered models are from, and leaves the checkpoints of a run.
"""

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mlflow
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.exc import OperationalError

from flows.home import home, shared_home
from flows.store.artifacts import Store
from flows.tracking.connection import DATABASE, answering, experiment_id
from flows.tracking.spool import spool

DAY = 86_400_000  # ms


@dataclass(frozen=True)
class Item:
    what: str
    which: str
    bytes: int
    remove: Callable[[], object]
    done: str = "removed"
    """what `remove` does"""


def in_home(keep: int, named: dict[str, str]) -> Iterator[Item]:
    """Artifacts and reproductions, but for the newest `keep` of each corpus; to be removed only while the home is `idle`.

    named: decoders to keep, by their digests.
    """
    for folder in Store(shared_home()).prunable(keep, named):
        yield Item("artifact", str(folder.relative_to(shared_home())), _size(folder), partial(shutil.rmtree, folder))
    newer: Counter[str] = Counter()
    for folder in sorted(home().glob("reproductions/*"), key=os.path.getmtime, reverse=True):
        corpus = next((path.name for path in folder.glob("artifacts/*")), "")
        if newer[corpus] >= keep:
            yield Item("reproduction", folder.name, _size(folder), partial(shutil.rmtree, folder))
        newer[corpus] += 1


def in_spool() -> Iterator[Item]:
    """What runs left that died at their start, a day ago or more."""
    for folder in spool().glob("*"):
        if not (folder / "about.json").exists() and folder.stat().st_mtime < time.time() - DAY / 1000:
            yield Item("spool", folder.name, _size(folder), partial(shutil.rmtree, folder))


def in_mlflow(days: int, trash: bool = False) -> list[Item]:
    """Runs and checkpoints that were deleted, and runs that failed, so many days ago, with all that they logged; not those of
    registered models. Raises UserError when MLflow does not answer.

    trash: also what was deleted since. Of a server whose database is not known here, runs that failed are marked as deleted.
    """
    experiment, client, age = experiment_id(), mlflow.MlflowClient(), 0 if trash else days * DAY
    runs: dict[str, str] = {}
    models: list[str] = []
    with answering():
        database = _database()
        for status in ("FAILED", "KILLED"):
            old = f"attributes.status = '{status}' and attributes.end_time < {int(time.time() * 1000) - days * DAY}"
            runs |= {run.info.run_id: status.lower() for run in client.search_runs([experiment], old, max_results=1000)}
        if database:
            runs |= dict.fromkeys(database._get_deleted_runs(age), "deleted")
            models = database._get_deleted_logged_models(age)
        versions = client.search_model_versions()
        for version in versions:
            runs.pop(version.run_id or "", None)
        if not database:
            done = "deleted; mlflow gc where its server is frees the disk"
            return [Item("MLflow run", run, 0, partial(client.delete_run, run), done) for run in runs]
        named = {version.model_id or (version.source or "").rpartition("/")[2] for version in versions}
        items = []
        for run, why in runs.items():
            of_run = f"source_run_id = '{run}'"
            found = mlflow.search_logged_models([experiment], of_run, output_format="list")
            items.append(_item(database, run, [model.model_id for model in found], f"removed: {why}"))
        return items + [_item(database, "", [model], "removed") for model in models if model not in named]


def remove(items: Sequence[Item]) -> int:
    """Remove them. Returns the bytes that this has made free. Raises UserError when MLflow does not answer."""
    freed = sum(item.bytes for item in items)
    with answering():
        for item in items:
            item.remove()
        database = _database() if any(item.what.startswith("MLflow") for item in items) else None
        if database and database.db_type == "sqlite":  # others make use of the room by themselves
            file = Path(database.engine.url.database or "")
            freed += _size(file)
            with suppress(OperationalError), database.engine.connect() as connection:  # in use, or a full disk
                connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM")
            freed -= _size(file)
    return freed


def _database() -> SqlAlchemyStore | None:
    """MLflow's own, which its server keeps to itself; `gpt up` names it in the environment of its worker."""
    uri = mlflow.get_tracking_uri()
    uri = os.environ.get(DATABASE, "") if uri.startswith("http") else uri
    return SqlAlchemyStore(uri, (shared_home() / "mlartifacts").as_uri()) if uri else None


def _item(database: SqlAlchemyStore, run: str, models: Sequence[str], done: str) -> Item:
    """A run with its checkpoints, or only a checkpoint."""
    places = [database.get_logged_model(model, allow_deleted=True).artifact_location for model in models]
    places += [database.get_run(run).info.artifact_uri] if run else []
    files = [get_artifact_repository(place) for place in places]
    folders = [Path(found.artifact_dir) for found in files if isinstance(found, LocalArtifactRepository)]

    def erase() -> None:
        for found in files:
            with suppress(FileNotFoundError):
                found.delete_artifacts()
        for folder in folders:
            with suppress(OSError):  # something else lies there
                folder.parent.rmdir()
        for model in models:
            database._hard_delete_logged_model(model)
        if run:
            database._hard_delete_run(run)

    return Item("MLflow run" if run else "MLflow checkpoint", run or models[0], sum(map(_size, folders)), erase, done)


def _size(path: Path) -> int:
    """Bytes of a file, or of all in a folder."""
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())
