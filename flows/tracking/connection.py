"""The MLflow server that runs are logged to: its experiment, its address, and its errors.

MLflow is imported inside the functions, since commands such as `gpt down` need only `without_password`.
"""

import json
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flows import UserError
from flows.home import shared_home
from flows.store.locks import lock

EXPERIMENT = "gpt"
MLFLOW_PORT = 5000
DATABASE = "GPT_MLFLOW_DATABASE"  # the address of the database behind MLflow's server, for a worker of `gpt up`
# What the table of runs shows, as a shared view of MLflow: without one it shows not a single number. MLflow keeps it in a tag
# of the experiment, and takes it from there when an address ends with its key.
VIEW_TAG, RUNS_PAGE = "mlflow.sharedViewState.gpt", "runs?workflowType=machine_learning&viewStateShareKey=gpt"
VIEW = json.dumps(json.loads(Path(__file__).with_name("runs_view.json").read_text()))


def experiment_id() -> str:
    """The id of the one experiment, which is created when missing. Raises UserError when MLflow does not answer."""
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="mlflow")  # advice on type hints and examples, coloured, at every run
    with answering(), lock(shared_home(), "mlflow"):  # one process creates the database
        if found := mlflow.get_experiment_by_name(EXPERIMENT):
            if found.tags.get(VIEW_TAG) != VIEW:
                mlflow.MlflowClient().set_experiment_tag(found.experiment_id, VIEW_TAG, VIEW)
            return found.experiment_id
        # A server chooses the folder of artifacts. A plain database has none, and the default would be ./mlruns.
        folder = None if mlflow.get_tracking_uri().startswith("http") else (shared_home() / "mlartifacts").as_uri()
        return mlflow.create_experiment(EXPERIMENT, folder, {VIEW_TAG: VIEW})


def database() -> str:
    """Names the database that MLflow writes to, by the experiment in it: the same by a server's address as by the file's own.
    Raises UserError when MLflow does not answer."""
    import mlflow

    experiment = experiment_id()
    with answering():
        return f"{experiment}-{mlflow.get_experiment(experiment).creation_time}"


@contextmanager
def answering() -> Iterator[None]:
    """Raises UserError, without the password of the address, where MLflow or its database does not answer."""
    import mlflow
    import sqlalchemy

    uri = mlflow.get_tracking_uri()
    try:
        if uri.startswith("postgresql"):  # MLflow itself would retry for minutes, with a long line each time
            sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool).connect().close()
        yield
    except (mlflow.MlflowException, sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        public = without_password(uri)
        words = str(error).replace(uri, public).split("(Caused by")[0].split("(Background on")[0].split()
        if "database schema" in str(error):
            mend = "use the version of this project that wrote it, or another home"
            raise UserError(f"MLflow's database {public} is of another version of MLflow\n{mend}") from None
        what = f"MLflow at {public} does not answer: {' '.join(words)[:200]}"
        raise UserError(f"{what}\nstart it, or unset MLFLOW_TRACKING_URI") from None


def runs_url(experiment: str) -> str:
    """The page of the runs. MLflow's plain address opens a view of traces, which are empty here."""
    import mlflow

    uri = mlflow.get_tracking_uri()
    base = without_password(uri).rstrip("/") if uri.startswith("http") else f"http://127.0.0.1:{MLFLOW_PORT}"
    return f"{base}/#/experiments/{experiment}/{RUNS_PAGE}"


def without_password(text: str) -> str:
    """The text without user, password and query (PostgreSQL takes ?password=) in every address in it."""
    return re.sub(r"(\w://)(?:[^/\s]*@)?([^\s?]*)(?:\?\S*)?", r"\1\2", text)
