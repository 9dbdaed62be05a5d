"""What each kind of line in an outbox becomes in MLflow (`outbox` lists the kinds)."""

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
from mlflow import entities
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

VALUES = {"metrics", "params", "tags"}  # the kinds of which one request takes many


class LoggedRun:
    """What a run has logged so far, whether or not MLflow has it yet, and how a line of it is sent. folder: of its outbox, to
    which the names of files in lines refer."""

    def __init__(self, folder: Path, about: dict[str, str]):
        self.client, self.folder, self.run_id = mlflow.MlflowClient(), folder, about["run_id"]
        self.experiment, self.corpus = about["experiment"], about["corpus"]
        self.metrics: dict[tuple[str, int], float] = {}  # values by name and step
        self.stage_keys: dict[str, str] = {}  # the artifact's key of each logged stage
        self.tables: dict[str, dict[str, list]] = {}  # columns of each table, by its file
        self.checkpoints: list[tuple[int, str]] = []  # step and files of those that may still have to be sent
        self.best_step, self.status = 0, ""  # FINISHED, FAILED or KILLED; empty while the run goes on

    def add(self, line: dict) -> None:
        """Take in the next line of the outbox."""
        checkpoint = line.get("checkpoint", {})
        for name, value, step, _ in (*line.get("metrics", ()), *checkpoint.get("metrics", ())):
            self.metrics[name, step] = value
        self.stage_keys |= line.get("stage", {})
        if checkpoint:
            self.best_step = checkpoint["best"]
            self.checkpoints.append((checkpoint["step"], checkpoint["files"]))
            # While MLflow is away, no more checkpoints wait than the trainer keeps.
            for step, files in self.checkpoints[: -checkpoint["keep"]]:
                if step != self.best_step:
                    self.checkpoints.remove((step, files))
                    self.detach(files)
        if "table" in line:
            columns = self.tables.setdefault(line["table"], {name: [] for name in line["columns"]})
            for name, values in line["columns"].items():
                columns[name] += values
        self.status = line.get("end", "")  # a line after the end continues the run

    def send(self, line: dict) -> None:
        """One line, or the values of several. Raises what MLflow raises."""
        client, run_id = self.client, self.run_id
        if line.keys() <= VALUES:
            metrics = [entities.Metric(name, value, at, step) for name, value, step, at in line.get("metrics", ())]
            params = [entities.Param(name, value) for name, value in line.get("params", {}).items()]
            client.log_batch(run_id, metrics, params, [entities.RunTag(*tag) for tag in line.get("tags", {}).items()])
        elif "file" in line:
            client.log_artifact(run_id, str(self.folder / line["file"]), line["to"])
            self.detach(line["file"])
        elif "table" in line:
            self._send_table(line["table"])
        elif "input" in line:
            tags = [entities.InputTag(*tag) for tag in line["tags"].items()]
            client.log_inputs(run_id, [entities.DatasetInput(entities.Dataset(**line["input"]), tags)])
        elif "checkpoint" in line:
            self._send_checkpoint(line["checkpoint"])
        elif "end" in line and self.status:  # else the run was continued
            client.set_terminated(run_id, line["end"], line["at"])

    def detach(self, file: str) -> None:
        """Remove a file or folder from the outbox."""
        shutil.rmtree((self.folder / file).parent, ignore_errors=True)

    def _send_table(self, file: str) -> None:
        """All rows so far, as MLflow's log_table writes them, which itself would append those that are there again."""
        columns = self.tables[file]
        rows = [list(row) for row in zip(*columns.values(), strict=False)]  # another thread may be adding a row
        self.client.log_dict(self.run_id, {"columns": list(columns), "data": rows}, file)
        listed = [{"path": name, "type": "table"} for name in list(self.tables)]
        self.client.set_tag(self.run_id, "mlflow.loggedArtifacts", json.dumps(listed))

    def _send_checkpoint(self, line: dict) -> None:
        """A LoggedModel, unless newer ones superseded it while MLflow was away, and its metrics."""
        step, folder = line["step"], self.folder / line["files"]
        about: dict[str, Any] = {}
        if folder.is_dir():
            of_run = f"source_run_id = '{self.run_id}'"
            found = mlflow.search_logged_models([self.experiment], of_run, output_format="list")
            models = {int(model.params["step"]): model for model in found if "step" in model.params}
            params, tags = {"step": str(step)}, {"corpus": self.corpus, "step": str(step)}
            models[step] = model = models.get(step) or self.client.create_logged_model(
                self.experiment, line["name"], self.run_id, tags, params, "gpt"
            )
            self.client.log_model_artifacts(model.model_id, str(folder))
            self.client.finalize_logged_model(model.model_id, entities.LoggedModelStatus.READY)
            outputs = self.client.get_run(self.run_id).outputs
            if not outputs or model.model_id not in {output.model_id for output in outputs.model_outputs}:
                self.client.log_outputs(self.run_id, [entities.LoggedModelOutput(model.model_id, step)])
            self._prune_models(models, line["best"], line["keep"])
            about["model_id"] = model.model_id
        if line["dataset"]:
            about |= {"dataset_name": line["dataset"], "dataset_digest": line["digest"]}
        if metrics := [entities.Metric(name, value, at, step, **about) for name, value, step, at in line["metrics"]]:
            self.client.log_batch(self.run_id, metrics)
        self.detach(line["files"])

    def _prune_models(self, models: dict[int, entities.LoggedModel], best: int, keep: int) -> None:
        """Tag the best and the last checkpoint; delete the others except the newest `keep`, as the trainer does."""
        newest = sorted(models)[-keep:]
        for step, model in models.items():
            tags = {"best": str(step == best).lower(), "last": str(step == newest[-1]).lower()}
            if step != best and step not in newest:
                with suppress(Exception):  # a store that cannot delete keeps the files
                    get_artifact_repository(model.artifact_location).delete_artifacts()
                self.client.delete_logged_model(model.model_id)
            elif tags.items() - model.tags.items():
                self.client.set_logged_model_tags(model.model_id, tags)


def refused(error: Exception) -> bool:
    """Whether the same request cannot succeed: MLflow refuses it, or the file that it sends is gone."""
    status = error.get_http_status_code() if isinstance(error, MlflowException) else 0
    return isinstance(error, FileNotFoundError) or (400 <= status < 500 and status not in (408, 429))
