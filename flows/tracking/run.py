"""One MLflow run for each execution of the pipeline, all corpora in one experiment, so that MLflow's table compares them.

Only the beginning needs MLflow, and fails where it does not answer. All else goes through the run's outbox, so nothing here
stalls or kills training. A run that was stopped is continued by the next one that does the same work: it is RUNNING again, and
its metrics go on where they ended. If a step is repeated after a crash or a rollback, its first metrics are kept.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_SOURCE_NAME
from prefect.runtime import deployment, flow_run

from flows.home import TEMPORARY_PREFECT
from flows.pages.render import card_markdown, spaced
from flows.progress import left_out_if_it_fails, log_line, show_page
from flows.recipe import Recipe
from flows.store import provenance
from flows.store.artifacts import Artifact
from flows.store.locks import in_use
from flows.tracking import outbox
from flows.tracking.connection import answering, experiment_id, runs_url
from flows.tracking.outbox import Outbox

NOTE_CHARS = 5000  # of a page, at the top of its run
LOOK_EVERY = 10.0  # seconds, at what is in use of CPU, memory and GPU
# By the stage that makes them.
DATASETS = {"download": ("raw",), "clean": ("clean",), "pack": ("tokens/train", "tokens/val", "tokens/test")}

# Of the run that this thread is in. `gpt clean` is none: its artifacts are recorded by the run that reuses them.
current_tracker: ContextVar[Tracker | None] = ContextVar("tracker", default=None)


@contextmanager
def tracked_run(recipe: Recipe, work: str) -> Iterator[Tracker]:
    """An MLflow run around one execution of the flow. It ends as the flow does, and continues a stopped run of this work."""
    tracker = Tracker(recipe, work)
    show_page(f"[MLflow's runs]({tracker.url}), of which this is {tracker.run_id}", f"mlflow-{recipe.corpus}")
    token = current_tracker.set(tracker)
    try:
        with ended(tracker.tags, tracker.close):
            yield tracker
    finally:
        current_tracker.reset(token)


@contextmanager
def untrained_run(kind: str, **tags: str) -> Iterator[dict]:
    """An MLflow run around what trains no model itself: tagged with its kind. Yields mlflow_run and mlflow_url."""
    experiment, tags = experiment_id(), {"kind": kind} | tags | origin_tags()
    with answering():
        run = mlflow.start_run(None, experiment, kind, tags=tags, log_system_metrics=False)
    with ended(mlflow.set_tags, mlflow.end_run), in_use():
        yield {"mlflow_run": run.info.run_id, "mlflow_url": runs_url(experiment)}


def log_page(folder: Path, name: str, key: str, metrics: dict[str, float]) -> None:
    """Log a page that `publish` wrote, and metrics, to the run of `untrained_run`, and show the page in Prefect."""
    note = re.sub(r"(?m)^!\[.*\n", "", (folder / "card.md").read_text(encoding="utf-8"))  # which shows no figure
    with left_out_if_it_fails("part of the page in MLflow"):
        mlflow.log_metrics(metrics)
        mlflow.set_tag("mlflow.note.content", spaced(note)[:NOTE_CHARS])
        mlflow.log_artifacts(str(folder), name)
    show_page(card_markdown(folder), key)


@contextmanager
def ended(tag: Callable[[dict[str, str]], object], end: Callable[[str], object]) -> Iterator[None]:
    """Around the work of an MLflow run: tags the error that the work raises, and ends the run with the status of the work."""
    status = "KILLED"  # by Ctrl-C or SIGTERM
    try:
        yield
        status = "FINISHED"
    except Exception as error:
        status = "FAILED"
        with suppress(MlflowException):
            tag({"error": f"{type(error).__name__}: {error}"[:5000]})
        raise
    finally:
        with suppress(MlflowException):
            end(status)


def origin_tags() -> dict[str, str]:
    """Tags that lead from an MLflow run to the commit, and to Prefect's run where there is one. Its source is the deployment or
    the command."""
    git = provenance.git_state()
    tags = {"git.commit": git["commit"], "git.dirty": str(git["dirty"]).lower()}
    if flow_run.id:
        flow, run = flow_run.flow_name, flow_run.name
        command = f"gpt {flow} {run}" if run != flow else f"gpt {flow}"
        tags[MLFLOW_SOURCE_NAME] = f"{flow}/{deployment.name}" if deployment.id else command
        tags["prefect.flow_run_id"] = str(flow_run.id)
        page = str(flow_run.ui_url)
        if not (page.startswith("None") or os.environ.get(TEMPORARY_PREFECT)):  # a temporary server has none
            tags["prefect.flow_run_url"] = page
    return tags


class Tracker:
    """One MLflow run. Every method returns at once; what is logged arrives in order."""

    def __init__(self, recipe: Recipe, work: str):
        self.recipe, self.work = recipe, work
        self.stages: dict[str, Artifact] = {}
        self.assessing_seconds = 0.0
        self.experiment = experiment_id()
        self.client = mlflow.MlflowClient()
        self.url = runs_url(self.experiment)
        self._begin(outbox.stopped(work))

    @contextmanager
    def assessing(self) -> Iterator[None]:
        """Around what examines a model: its time is counted apart from training and tracking."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.assessing_seconds += time.monotonic() - began

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Metrics of one step. If the step is repeated, its first metrics are kept."""
        logged = self._box.logged.metrics
        self._put_metrics({name: value for name, value in metrics.items() if (name, step) not in logged}, step)
        if time.monotonic() > self._looked + LOOK_EVERY:
            self._log_resources()

    def tags(self, tags: Mapping[str, object]) -> None:
        self._box.put(tags={name: str(value) for name, value in tags.items()})

    def evaluation(self, step: int, metrics: dict[str, float], folder: Path, best: bool) -> None:
        """Validation metrics of a step, and its checkpoint as a LoggedModel that carries them."""
        logged, now, pack = self._box.logged.metrics, _now(), self.stages.get("pack")
        self._box.put(
            checkpoint={
                "files": self._box.attach(folder),
                "step": step,
                "best": step if best else self._box.logged.best_step,
                "keep": self.recipe.train.keep_checkpoints,
                "name": f"{self.recipe.corpus}-step-{step}",
                "dataset": pack and f"{pack.corpus}/tokens/val",
                "digest": pack and pack.counts["val_digest"],
                "metrics": [[k, v, step, now] for k, v in metrics.items() if logged.get((k, step)) != v],
            }
        )

    def log_recipe(self, recipe: Recipe) -> None:
        """Log the recipe, whole as a file and as parameters: at the start, and again when nothing in it is open."""
        self.recipe = recipe
        for name, value in recipe.flat().items():  # a line each, so that one that MLflow refuses takes no other with it
            self._box.put(params={name: value})
        self.content(json.dumps(recipe.public_values(), indent=1), "recipe.json")

    def stage(self, artifact: Artifact) -> None:
        """A finished stage: counts as metrics, reports as files, datasets as inputs."""
        name, counts, logged_keys = artifact.stage, artifact.counts, self._box.logged.stage_keys
        if logged_keys.get(name, artifact.key) != artifact.key:
            self._begin_another_run()
        self.stages[name] = artifact
        if name in self._box.logged.stage_keys:  # logged before the run was stopped
            return
        metrics = {
            key if "/" in key else f"{name}/{key}": value
            for key, value in counts.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }
        if baselines := counts.get("baselines"):
            metrics |= {f"baseline/{key}": value for key, value in baselines.items()}
            metrics["baseline/best"] = min(baselines.values())
        self.step(0, metrics | {f"{name}/seconds": artifact.seconds})
        self.files(sorted([*artifact.folder.glob("*.json"), *artifact.folder.glob("card/*")]), name)
        for context in DATASETS.get(name, ()):
            self._log_dataset(artifact, context)
        if name == "train":
            machine = counts["machine"]
            self.tags({"device": machine["device_name"], "threads": machine["runtime"]["threads"]})
            self._log_history(artifact.folder / "log" / "metrics.jsonl")
        self._log_resources()
        self._box.put(stage={name: artifact.key})

    def files(self, paths: list[Path], folder: str) -> None:
        for path in paths:
            self._box.put(file=self._box.attach(path), to=folder)

    def content(self, content: str, file: str) -> None:
        folder, _, name = file.rpartition("/")
        place = self._box.place(name)
        place.write_text(content, encoding="utf-8")
        self._box.put(file=str(place.relative_to(self._box.folder)), to=folder)

    def table(self, rows: Sequence[dict], file: str) -> None:
        """Rows of a table, which MLflow compares between runs; more may follow. Those of a repeated step are left out."""
        steps = self._box.logged.tables.get(file, {}).get("step", ())
        if rows and not any(row.get("step") in steps for row in rows):
            self._box.put(table=file, columns={name: [row[name] for row in rows] for name in rows[0]})

    def close(self, status: str) -> None:
        """End the run. Waits for what is left to send, for a limited time."""
        made = {name: {"key": a.key, "digest": a.digest, "reused": a.reused} for name, a in self.stages.items()}
        self.tags({"artifacts": json.dumps(made)} if made else {})  # at the end: MLflow shows the oldest tags first
        self._box.put(end=status, at=_now())
        if problem := self._box.close():
            log_line(f"{problem}; the next run, or gpt ui, sends the rest of what this run logged")

    def _begin(self, box: Outbox | None) -> None:
        """Start a run, or continue the stopped run of this outbox."""
        tags = {"corpus": self.recipe.corpus, "mlflow.note.content": f"**{self.recipe.corpus}**: {self.recipe.title}"}
        tags |= origin_tags()
        if parent := mlflow.active_run():
            tags["mlflow.parentRunId"] = parent.info.run_id
        with answering():
            if box:
                self.client.update_run(box.run_id, "RUNNING")
                box.put(tags=tags)
                with suppress(MlflowException):  # it has none
                    self.client.delete_tag(box.run_id, "error")
            else:
                run = self.client.create_run(self.experiment, None, resolve_tags(tags), self.recipe.corpus)
                about = {"experiment": self.experiment, "corpus": self.recipe.corpus, "work": self.work}
                box = Outbox.new(run.info.run_id, **about)
        self._box, self.run_id = box, box.run_id
        if box.logged.metrics:
            log_line(f"going on with run {self.run_id}, which was stopped")
        self.log_recipe(self.recipe)
        box.thread.start()
        self._monitor, self._looked = SystemMetricsMonitor(self.run_id), 0.0
        self._look = max((step for name, step in box.logged.metrics if name.startswith("system/")), default=-1)

    def _begin_another_run(self) -> None:
        """End the run that was continued, since its data are not these, and log the stages so far to a new one."""
        stages = list(self.stages.values())
        self.close("KILLED")
        self._begin(None)
        for artifact in stages:
            self.stage(artifact)

    def _log_dataset(self, artifact: Artifact, context: str) -> None:
        counts = artifact.counts
        page = self.recipe.source_page()
        source = {"url": page} if page else {"tags": {"source": self.recipe.source.kind}}
        where = {"source_type": "http" if page else "code", "source": json.dumps(source)}
        digest = counts.get(f"{context.removeprefix('tokens/')}_digest", artifact.digest)
        tags = {name: str(value) for name, value in counts.items() if isinstance(value, int)}
        tags |= {"stage": artifact.stage, "key": artifact.key, "mlflow.data.context": context}
        self._box.put(input=where | {"name": f"{artifact.corpus}/{context}", "digest": digest[:32]}, tags=tags)

    def _log_history(self, path: Path) -> None:
        """Log what the artifact's log has and this run has not: all of a reused training, the first part of a resumed one."""
        for line in path.read_text().splitlines() if path.exists() else ():
            row = json.loads(line)
            self.step(row.pop("step"), row)

    def _log_resources(self) -> None:
        """Use MLflow's monitor without its thread, which sends a request a look, and waits for MLflow at the end."""
        self._looked, self._look = time.monotonic(), self._look + 1
        with suppress(Exception):
            self._monitor.collect_metrics()
            found = self._monitor.aggregate_metrics()
            self._put_metrics({f"system/{name}": value for name, value in found.items()}, self._look)
            for part in self._monitor.monitors:
                part.clear_metrics()

    def _put_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        if metrics:
            now = _now()
            self._box.put(metrics=[[name, float(value), step, now] for name, value in metrics.items()])


def _now() -> int:
    return int(time.time() * 1000)
