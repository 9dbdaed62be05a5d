"""The MLflow glue: one run a pipeline execution, all corpora in one experiment, so that its table compares them.

Notable: only the run's beginning needs MLflow, and says so when it is missing. All else goes by way of the run's outbox
(`outbox`), so nothing here stalls or kills training. A run that was stopped is continued by the next one that makes
the same of the same: its status is RUNNING again, and its metrics go on where they ended.
"""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

import mlflow
import sqlalchemy
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.http_dataset_source import HTTPDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking import fluent
from prefect.artifacts import create_link_artifact
from prefect.context import FlowRunContext
from prefect.runtime import flow_run

from data_contracts.sources.https import public
from flows import UserError
from flows.home import shared_home
from flows.progress import say
from flows.recipe import Recipe
from flows.stages.definitions import STAGES
from flows.store import provenance
from flows.store.artifacts import Artifact, git_state
from flows.store.locks import lock
from flows.tracking import outbox
from flows.tracking.outbox import INTERVAL, Outbox

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXPERIMENT = "gpt"
PARAMETERS_AT_ONCE = 90  # of at most 100 that MLflow takes
RESOURCES_EVERY = 10.0  # seconds between two looks at CPU, memory and GPU
MLFLOW_PORT = 5000

_current: ContextVar[Tracker | Untracked] = ContextVar("tracker")


def current() -> Tracker | Untracked:
    """The tracker of the run that this thread is in; outside of runs, one that records nothing."""
    return _current.get(Untracked())


@contextmanager
def run(recipe: Recipe) -> Iterator[Tracker]:
    """An MLflow run for one execution of the flow: finished, failed or killed as the flow ends, with what it had."""
    tracker = Tracker(recipe)
    if FlowRunContext.get():
        with suppress(Exception):  # a Prefect page without a link is no reason to train nothing
            what = f"run {tracker.run_id}"
            create_link_artifact(tracker.url, "MLflow runs", key=f"mlflow-{recipe.corpus}", description=what)
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
    with answering(), lock(shared_home(), "mlflow", lambda text: None):  # only one may make the database, the first
        if found := mlflow.get_experiment_by_name(EXPERIMENT):
            return found.experiment_id
        # Straight into a database there is no server to choose the folder, and the default would be ./mlruns.
        folder = None if mlflow.get_tracking_uri().startswith("http") else (shared_home() / "mlartifacts").as_uri()
        return mlflow.create_experiment(EXPERIMENT, artifact_location=folder)


@contextmanager
def answering() -> Iterator[None]:
    """MLflow's failure to answer, or its database's, as a UserError, without the password that its address may hold."""
    uri = mlflow.get_tracking_uri()
    try:
        if uri.startswith("postgresql"):  # where MLflow itself would try for minutes, and say so in long lines
            sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool).connect().close()
        yield
    except (MlflowException, sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        words = str(error).replace(uri, without_password(uri)).split("(Caused by")[0].split("(Background on")[0].split()
        raise UserError(
            f"MLflow at {without_password(uri)} does not answer: {' '.join(words)[:200]}\n"
            "start it, or unset MLFLOW_TRACKING_URI"
        ) from None


def made_by() -> dict[str, str]:
    """Tags that lead from a run of MLflow to the commit and to Prefect's run, where there is one."""
    git = git_state()
    tags = {"git.commit": git["commit"], "git.dirty": str(git["dirty"]).lower()}
    if flow_run.id:
        tags["prefect.flow_run_id"] = str(flow_run.id)
        if not str(flow_run.ui_url).startswith("None"):  # no server that outlives the flow, no page
            tags["prefect.flow_run_url"] = str(flow_run.ui_url)
    return tags


def runs_url(experiment: str) -> str:
    """Where a browser sees the runs. MLflow's plain address opens a view of traces, which are empty here."""
    uri = mlflow.get_tracking_uri()
    base = without_password(uri).rstrip("/") if uri.startswith("http") else f"http://127.0.0.1:{MLFLOW_PORT}"
    return f"{base}/#/experiments/{experiment}/runs?workflowType=machine_learning"


def without_password(uri: str) -> str:
    parts = urlparse(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()  # libpq takes ?password= as well


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
        self.tagged: dict[str, str] = {}
        self.assessing_seconds = 0.0
        self.experiment = experiment_id()
        self.client = mlflow.MlflowClient()
        self.url = runs_url(self.experiment)
        self._task = _task(recipe)
        self._begin(outbox.stopped(self._task))

    @contextmanager
    def assessing(self) -> Iterator[None]:
        """Around what looks at a model, so that its time is told apart from what training and tracking take."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.assessing_seconds += time.monotonic() - began

    def step(self, step: int, metrics: dict[str, float]) -> None:
        """Training metrics of one step. Of a step that is done again, after a kill or a spike, the first ones stay."""
        self._stepped = time.monotonic()
        self._put([(name, float(value)) for name, value in metrics.items() if (name, step) not in self._seen], step)

    def tags(self, tags: dict[str, object]) -> None:
        texts = {name: str(value) for name, value in tags.items()}
        self.tagged |= texts
        self._box.put(tags=texts)

    def evaluation(self, step: int, metrics: dict[str, float], folder: Path, best: bool) -> None:
        """Validation metrics of a step, and its checkpoint as a LoggedModel that carries them."""
        self.evaluation_seconds = time.monotonic() - self._stepped  # with the steps since those that were told
        self._best = step if best else self._best
        new = [(name, value) for name, value in metrics.items() if self._seen.get((name, step)) != value]
        kept, keep = self._box.keep(folder), self.recipe.train.keep_checkpoints
        self._box.put(
            checkpoint={
                "files": kept,
                "step": step,
                "best": self._best,
                "keep": keep,
                "name": f"{self.recipe.corpus}-step-{step}",
                "dataset": self._dataset and self._dataset[0],
                "digest": self._dataset and self._dataset[1],
                "metrics": [[name, value, step, _now()] for name, value in new],
            }
        )
        self._seen |= {(name, step): value for name, value in new}
        # While MLflow is away no more of them wait than the trainer keeps itself.
        self._waiting = [*self._waiting, (step, kept)]
        for other, files in self._waiting[:-keep]:
            if other != self._best:
                self._box.drop(files)
        self._waiting = [item for item in self._waiting if item[0] == self._best or item in self._waiting[-keep:]]

    def settled(self, recipe: Recipe) -> None:
        """The recipe with what was open in it until now."""
        before, self.recipe = self.recipe.flat(), recipe
        self._parameters(before)

    def stage(self, artifact: Artifact) -> None:
        """A finished stage: its key and digest as tags, counts as metrics, reports as files, datasets as inputs."""
        name = artifact.stage
        if self._keys.get(name, artifact.key) != artifact.key:
            self._part()
        self.stages[name] = artifact
        if name == "pack":
            self._dataset = (f"{artifact.corpus}/tokens/val", artifact.counts["held_out"][:32])
        if name in self._keys:  # told before the run was stopped
            return
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
        self.tags({f"{name}.digest": artifact.digest, f"{name}.reused": artifact.reused, f"{name}.key": artifact.key})
        self._keys[name] = artifact.key

    def files(self, paths: list[Path], folder: str) -> None:
        for path in paths:
            self._box.put(file=self._box.keep(path), to=folder)

    def text(self, text: str, file: str) -> None:
        self._made(file, lambda path: path.write_text(text, encoding="utf-8"))

    def figure(self, figure: Figure, file: str) -> None:
        self._made(file, figure.savefig)

    def table(self, columns: dict[str, list], file: str) -> None:
        """Rows of a table that MLflow's page shows as one, and compares between runs; more may follow. Where they have a step,
        each step's are told once."""
        steps = {(file, step): 0.0 for step in columns.get("step", [])}
        if not steps.keys() & self._seen.keys():
            self._seen |= steps
            self._box.put(table=file, columns=columns)

    def close(self, status: str) -> None:
        """Wait for what is left, for a limited time, and end the run."""
        self._closing.set()
        self._resources.join()
        self._box.put(end=status, at=_now())
        if self._box.close():
            with suppress(Exception):
                mlflow.end_run(status)
        else:
            fluent._active_run_stack.get().pop()  # as end_run, without waiting for the server
            say("MLflow does not answer; the next run, or gpt ui, sends it what it missed")

    def _begin(self, box: Outbox | None) -> None:
        """Start a run, or take up a stopped one."""
        note = f"**{self.recipe.corpus}**: {self.recipe.title}"
        tags = {"corpus": self.recipe.corpus, "mlflow.note.content": note} | made_by()
        tags |= provenance.tags(environment := provenance.environment())
        with answering():
            if box:
                mlflow.start_run(box.run_id, tags=tags, log_system_metrics=False)
                with suppress(MlflowException):  # it did not fail
                    self.client.delete_tag(box.run_id, "error")
            else:
                run = mlflow.start_run(None, self.experiment, self.recipe.corpus, tags=tags, log_system_metrics=False)
                box = Outbox.new(
                    run.info.run_id, experiment=self.experiment, corpus=self.recipe.corpus, task=self._task
                )
        self._box, self.run_id = box, box.run_id
        self._recall()
        self._parameters({})
        self.text(json.dumps(environment, indent=1), "environment.json")
        box.start()
        self._closing = threading.Event()
        self._resources = threading.Thread(target=self._watch_resources, name="resources", daemon=True)
        self._resources.start()

    def _parameters(self, before: dict[str, str]) -> None:
        """Tell the recipe: what is not yet among the parameters that were told, and the whole."""
        new = [(name, value) for name, value in self.recipe.flat().items() if name not in before]
        for first in range(0, len(new), PARAMETERS_AT_ONCE):
            self._box.put(params=dict(new[first : first + PARAMETERS_AT_ONCE]))
        if new:
            self.text(json.dumps(provenance.recipe_values(self.recipe), indent=1), "recipe.json")

    def _recall(self) -> None:
        """What the run has already, by its outbox."""
        self._seen: dict[tuple[str, int], float] = {}
        self._keys: dict[str, str] = {}
        self._waiting: list[tuple[int, str]] = []
        self._dataset: tuple[str, str] | None = None
        self._best, self._looks, self._stepped = 0, 0, time.monotonic()
        for line in self._box.lines():
            metrics = [*line.get("metrics", []), *line.get("checkpoint", {}).get("metrics", [])]
            self._seen |= {(name, step): value for name, value, step, _ in metrics}
            self._keys |= {k.removesuffix(".key"): v for k, v in line.get("tags", {}).items() if k.endswith(".key")}
            self._seen |= {(line["table"], step): 0.0 for step in line.get("columns", {}).get("step", [])}
            self._best = line.get("checkpoint", {}).get("best", self._best)
        self._looks = 1 + max((step for name, step in self._seen if name.startswith("system/")), default=-1)
        if self._seen:
            say(f"going on with run {self.run_id}, which was stopped")

    def _part(self) -> None:
        """End the run that was taken up: the data are not those it had. What came so far is told to a new one."""
        before = list(self.stages.values())
        self.close("KILLED")
        self._begin(None)
        for artifact in before:
            self.stage(artifact)

    def _put(self, metrics: list[tuple[str, float]], step: int) -> None:
        if metrics:
            now = _now()
            self._seen |= {(name, step): value for name, value in metrics}
            self._box.put(metrics=[[name, value, step, now] for name, value in metrics])

    def _made(self, file: str, make: Callable[[Path], object]) -> None:
        """Send a file that is made for it."""
        path = Path(file)
        with tempfile.TemporaryDirectory(dir=self._box.folder) as folder:
            make(Path(folder) / path.name)
            self.files([Path(folder) / path.name], str(path.parent) if path.parent.name else "")

    def _watch_resources(self) -> None:
        """As MLflow's own thread would, which asks the server twice a look, and has none of a short run."""
        monitor = SystemMetricsMonitor(self.run_id)
        ended = self._closing.wait(INTERVAL)
        while True:
            monitor.collect_metrics()
            found = monitor.aggregate_metrics()
            for part in monitor.monitors:
                part.clear_metrics()
            self._put([(f"system/{name}", float(value)) for name, value in found.items()], self._looks)
            self._looks += 1
            if ended:
                return
            ended = self._closing.wait(RESOURCES_EVERY)

    def _input(self, artifact: Artifact, context: str, digest: str = "") -> None:
        source, counts = self.recipe.source, artifact.counts
        if source.kind == "kaggle":
            where = HTTPDatasetSource(f"https://www.kaggle.com/datasets/{source.handle}")
        elif source.kind == "https":
            where = HTTPDatasetSource(public(source.url))
        else:
            where = CodeDatasetSource(tags={"source": source.kind})
        dataset = MetaDataset(
            source=where, name=f"{artifact.corpus}/{context}", digest=(digest or artifact.digest)[:32]
        )
        tags = {k: str(v) for k, v in counts.items() if isinstance(v, int)}
        tags |= {"stage": artifact.stage, "key": artifact.key, "mlflow.data.context": context}
        self._box.put(input=dict(dataset._to_mlflow_entity()), tags=tags)

    def _history(self, path: Path) -> None:
        """What the artifact's log holds and this run has not: all of a reused training, the first part of a resumed one."""
        for line in path.read_text().splitlines() if path.exists() else ():
            row = json.loads(line)
            self.step(row.pop("step"), row)


def _task(recipe: Recipe) -> str:
    """A name for what a run makes of what: two runs of the same resume each other's work."""
    made = {
        name: [stage.code(recipe), stage.parameters(recipe) if name != "download" else repr(recipe.source)]
        for name, stage in STAGES.items()
    }
    return hashlib.sha256(json.dumps([recipe.corpus, recipe.reader, made], sort_keys=True).encode()).hexdigest()[:16]


def _now() -> int:
    return int(time.time() * 1000)
