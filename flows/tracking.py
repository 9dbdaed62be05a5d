"""The MLflow glue: one run a pipeline execution, all corpora in one experiment, so that its table compares them.

Notable: nothing here stalls or kills training. Metrics and checkpoints are handed to a thread that sends them, one batch of
metrics a second at most, tries again while MLflow is away, and gives up with one line; the trainer's own
`log/metrics.jsonl` in the artifact has every number. Only the run's beginning needs MLflow, and says so when it is missing.
"""

import json
import logging
import os
import shutil
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from urllib.parse import urlparse

import mlflow
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from prefect.runtime import flow_run

from data_contracts.download import public
from flows import UserError, record
from flows.environment import home
from flows.progress import say
from flows.recipes import Recipe
from flows.store import Artifact, git_state, lock

EXPERIMENT = "gpt"
PATIENCE = 60.0  # seconds that the end of a run waits for MLflow to take what is left
TRIES = 7  # of one call, over about two minutes, before it is given up for those behind it
MLFLOW_PORT = 5000

_current: ContextVar["Tracker | Untracked"] = ContextVar("tracker")


def current() -> "Tracker | Untracked":
    """The tracker of the run that this thread is in; outside of runs, one that records nothing."""
    return _current.get(Untracked())


@contextmanager
def run(recipe: Recipe) -> Iterator["Tracker"]:
    """An MLflow run for one execution of the flow: finished, failed or killed as the flow ends, with what it had."""
    tracker = Tracker(recipe)
    token = _current.set(tracker)
    status = "FAILED"
    try:
        yield tracker
        status = "FINISHED"
    except Exception as error:
        tracker.tags({"error": f"{type(error).__name__}: {error}"[:5000]})
        raise
    except BaseException:  # Ctrl-C, SIGTERM
        status = "KILLED"
        raise
    finally:
        tracker.close(status)
        _current.reset(token)


def experiment_id() -> str:
    """Of the one experiment, made when missing. Raises UserError when MLflow does not answer."""
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="mlflow")  # advice on type hints and examples, coloured, at every run
    with answering(), lock(home(), "mlflow", lambda text: None):  # the first also makes the database, and only one may
        if found := mlflow.get_experiment_by_name(EXPERIMENT):
            return found.experiment_id
        # Straight into a database there is no server to choose the folder, and the default would be ./mlruns.
        folder = None if mlflow.get_tracking_uri().startswith("http") else (home() / "mlartifacts").as_uri()
        return mlflow.create_experiment(EXPERIMENT, artifact_location=folder)


@contextmanager
def answering() -> Iterator[None]:
    """MLflow's failure to answer as a UserError, without the password that its address may hold."""
    uri = mlflow.get_tracking_uri()
    try:
        yield
    except MlflowException as error:
        reason = str(error).replace(uri, without_password(uri)).split("(Caused by")[0][:200]
        raise UserError(
            f"MLflow at {without_password(uri)} does not answer: {reason}\nstart it, or unset MLFLOW_TRACKING_URI"
        ) from None


def runs_url(experiment: str) -> str:
    """Where a browser sees the runs. MLflow's plain address opens a view of traces, which are empty here."""
    uri = mlflow.get_tracking_uri()
    base = without_password(uri).rstrip("/") if uri.startswith("http") else f"http://127.0.0.1:{MLFLOW_PORT}"
    return f"{base}/#/experiments/{experiment}/runs?workflowType=machine_learning"


def without_password(uri: str) -> str:
    parts = urlparse(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class Untracked:
    """For `gpt clean`, whose artifacts are reused, and recorded, by the run that comes to need them."""

    def stage(self, *_: object) -> None:
        pass

    step = evaluation = stage


class Tracker:
    """One MLflow run. Every method returns at once; what is logged arrives in order."""

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.stages: dict[str, Artifact] = {}
        self.experiment = experiment_id()
        self.client = mlflow.MlflowClient()
        self._seen: set[tuple[int, str]] = set()  # (step, "train" or "val") whose metrics this run has
        self._pending: list[Metric] = []
        self._calls: deque[Callable[[], object]] = deque()
        self._lock, self._closing = threading.Lock(), threading.Event()
        self._dataset: tuple[str, str] | None = None
        git = git_state()
        tags = {
            "corpus": recipe.corpus,
            "git.commit": git["commit"],
            "git.dirty": str(git["dirty"]).lower(),
            "mlflow.note.content": f"**{recipe.corpus}**: {recipe.title}",
        } | record.tags(environment := record.environment())
        if flow_run.id:
            tags["prefect.flow_run_id"] = str(flow_run.id)
            if not str(flow_run.ui_url).startswith("None"):  # no server that outlives the flow, no page
                tags["prefect.flow_run_url"] = str(flow_run.ui_url)
        with answering():
            run = mlflow.start_run(None, self.experiment, recipe.corpus, tags=tags, log_system_metrics=True)
        self.run_id = run.info.run_id
        self.url = runs_url(self.experiment)
        parameters = [Param(name, value) for name, value in recipe.flat().items()]
        self.later(lambda: self.client.log_batch(self.run_id, params=parameters))
        self.later(lambda: self.client.log_dict(self.run_id, record.recipe_values(recipe), "recipe.json"))
        self.later(lambda: self.client.log_dict(self.run_id, environment, "environment.json"))
        self._thread = threading.Thread(target=self._send, name="mlflow", daemon=True)
        self._thread.start()

    def step(self, step: int, metrics: dict[str, float]) -> None:
        """Training metrics of one step."""
        now = int(time.time() * 1000)
        self._seen |= {(step, name.split("/")[0]) for name in metrics}
        with self._lock:
            self._pending += [Metric(name, float(value), now, step) for name, value in metrics.items()]

    def tags(self, tags: dict[str, object]) -> None:
        self.later(lambda: self.client.log_batch(self.run_id, tags=[RunTag(k, str(v)) for k, v in tags.items()]))

    def later(self, call: Callable[[], object]) -> None:
        """Let the sending thread make a call to MLflow."""
        self._calls.append(call)

    def evaluation(self, step: int, metrics: dict[str, float], folder: Path, best: bool) -> None:
        """Validation metrics of a step, and its checkpoint as a LoggedModel that carries them."""
        self._seen |= {(step, "val")}
        # The trainer may remove the folder before it is sent, so a copy (a link, where the disk allows) waits for that.
        spool = home() / "spool" / self.run_id / folder.name
        shutil.rmtree(spool, ignore_errors=True)
        shutil.copytree(folder, spool, copy_function=_link)
        model: dict[str, str] = {}  # each step is a call of its own, so that none is made twice when a later one fails
        self.later(lambda: model.update(id=self._new_checkpoint(step, best)))
        self.later(lambda: self.client.log_model_artifacts(model["id"], str(spool)))
        self.later(lambda: shutil.rmtree(spool))
        self.later(lambda: self.client.finalize_logged_model(model["id"], "READY"))
        self.later(lambda: self.client.log_outputs(self.run_id, [LoggedModelOutput(model["id"], step)]))
        for name, value in metrics.items():
            self.later(lambda name=name, value=value: self._log_value(name, value, step, model.get("id")))

    def stage(self, artifact: Artifact) -> None:
        """A finished stage: its key and digest as tags, counts as metrics, reports as files, datasets as inputs."""
        name = artifact.stage
        self.stages[name] = artifact
        self.tags({f"{name}.key": artifact.key, f"{name}.digest": artifact.digest, f"{name}.reused": artifact.reused})
        numbers = {k: v for k, v in artifact.counts.items() if isinstance(v, int | float) and not isinstance(v, bool)}
        numbers |= {f"baseline/{k}": v for k, v in artifact.counts.get("baselines", {}).items()}
        self.step(
            0,
            {(k if "/" in k else f"{name}/{k}"): v for k, v in numbers.items()} | {f"{name}/seconds": artifact.seconds},
        )
        self.files(sorted([*artifact.folder.glob("*.json"), *artifact.folder.glob("card/*")]), name)
        if name == "download":
            self._input(artifact, "raw")
        elif name == "clean":
            self._input(artifact, "clean")
        elif name == "pack":
            self._input(artifact, "tokens/train")
            self._input(artifact, "tokens/val", artifact.counts["held_out"])
        elif name == "train":
            used = artifact.counts["machine"]
            self.tags({"device": used["device_name"], "threads": used["runtime"]["threads"]})
            self._history(artifact.folder / "log" / "metrics.jsonl")

    def files(self, paths: list[Path], folder: str) -> None:
        for path in paths:
            self.later(lambda path=path: self.client.log_artifact(self.run_id, str(path), folder))

    def text(self, text: str, file: str) -> None:
        self.later(lambda: self.client.log_text(self.run_id, text, file))

    def table(self, columns: dict[str, list], file: str) -> None:
        """A table that MLflow's page shows as one, and compares between runs."""
        self.later(lambda: self.client.log_table(self.run_id, columns, file))

    def close(self, status: str) -> None:
        """Wait for what is left, for a limited time, and end the run."""
        self._closing.set()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            say("MLflow does not answer; what it missed is in the artifacts' log/metrics.jsonl")
        with suppress(Exception):
            mlflow.end_run(status)
        shutil.rmtree(home() / "spool" / self.run_id, ignore_errors=True)

    def _send(self) -> None:
        """The sending thread: what could not be sent stays at the head and is tried again, ever more slowly."""
        wait, failures = 1.0, 0
        while True:
            closing = self._closing.is_set()
            try:
                self._send_metrics()
                while self._calls:
                    self._calls[0]()
                    self._calls.popleft()
                    failures = 0
                wait = 1.0
                if closing:
                    return
            except Exception as error:
                wait, failures = min(2 * wait, 30.0), failures + 1
                if failures == TRIES and self._calls:  # MLflow takes everything but this
                    self._calls.popleft()
                    failures = 0
                    say(f"MLflow did not take something: {type(error).__name__}: {str(error)[:200]}")
            if closing:
                time.sleep(wait)
            else:
                self._closing.wait(wait)

    def _send_metrics(self) -> None:
        while self._pending:
            with self._lock:
                batch = self._pending[:1000]
            self.client.log_batch(self.run_id, metrics=batch)
            with self._lock:
                del self._pending[: len(batch)]

    def _input(self, artifact: Artifact, context: str, digest: str = "") -> None:
        source, counts = self.recipe.source, artifact.counts
        if source.kind == "kaggle":
            where = HTTPDatasetSource(f"https://www.kaggle.com/datasets/{source.handle}")
        elif source.kind == "https":
            where = HTTPDatasetSource(public(source.url))
        else:
            where = CodeDatasetSource(tags={"source": source.kind})
        name = f"{artifact.corpus}/{context}"
        dataset = MetaDataset(source=where, name=name, digest=(digest or artifact.digest)[:32])
        tags = {k: str(v) for k, v in counts.items() if isinstance(v, int)} | {
            "stage": artifact.stage,
            "key": artifact.key,
        }
        if context == "tokens/val":
            self._dataset = (name, dataset.digest)
        tags |= {"mlflow.data.context": context}
        entity = DatasetInput(dataset=dataset._to_mlflow_entity(), tags=[InputTag(k, v) for k, v in tags.items()])
        self.later(lambda: self.client.log_inputs(self.run_id, [entity]))

    def _new_checkpoint(self, step: int, best: bool) -> str:
        model = self.client.create_logged_model(
            self.experiment,
            name=f"{self.recipe.corpus}-step-{step}",
            source_run_id=self.run_id,
            params={"step": str(step)},
            tags={"corpus": self.recipe.corpus, "step": str(step), "best_so_far": str(best).lower()},
            model_type="gpt",
        )
        return model.model_id

    def _log_value(self, name: str, value: float, step: int, model_id: str | None) -> None:
        """A validation metric: of the run, of the checkpoint, and of the dataset that measured both."""
        dataset, digest = self._dataset or (None, None)
        self.client.log_metric(
            self.run_id, name, value, step=step, model_id=model_id, dataset_name=dataset, dataset_digest=digest
        )

    def _history(self, path: Path) -> None:
        """What the artifact's log holds and this run has not: all of a reused training, the first part of a resumed one."""
        for line in path.read_text().splitlines() if path.exists() else ():
            row = json.loads(line)
            step = row.pop("step")
            self.step(
                step, {name: value for name, value in row.items() if (step, name.split("/")[0]) not in self._seen}
            )


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
