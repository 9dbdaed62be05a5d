"""How what a run has to tell reaches MLflow: by way of a file, so that nothing is waited for, lost, or told twice.

Everything is a line of `<home>/spool/<run id>/lines.jsonl` first, with its files linked beside it, and a thread sends the lines
in order, metrics together, one request a second at most; `sent` is how far it has come. MLflow may be slow or away: the
lines wait. Those that a run leaves behind, since MLflow was gone or the run was killed, are sent by the next one of this home.

Notable: an answer may be lost, so every kind of line can be sent again and changes nothing then. MLflow drops a metric whose
name, step, time and value it has; a checkpoint is looked up before it is made; a table is all its rows so far.
"""

import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from flows import UserError
from flows.home import home
from flows.progress import say
from flows.store.locks import take

INTERVAL = 1.0  # seconds between two batches of metrics
LONGEST_WAIT = 30.0  # between two tries while MLflow is away
PATIENCE = 60.0  # seconds that the end of a run waits for what is left to arrive
AWAY = 10.0  # the same, if MLflow was away just now
REFUSALS = 3  # tries of a line that MLflow says is wrong, before it is left out
FAILURES = 20  # the same, of one that fails for another reason
DAYS = 30  # that a run which was stopped can be continued
BATCH = {"metrics": 800, "params": 100, "tags": 100}  # what log_batch takes at once, of 1,000 in all


class Outbox:
    """The lines of one run. One process at a time holds it; a killed process holds nothing."""

    def __init__(self, folder: Path, about: str = "about.json"):
        """Take hold of an existing folder. Raises BlockingIOError when a process has it, OSError when there is none, UserError
        when its disk has no locks."""
        self.folder = folder
        self._held = (folder / about).open("r+")
        try:
            if not take(self._held):
                raise BlockingIOError(f"another process has {folder}")
            self.about = json.load(self._held)
        except (OSError, ValueError, UserError):
            self._held.close()
            raise
        self.run_id, self.client = self.about["run_id"], mlflow.MlflowClient()
        self._failures, self._lock = 0, threading.Lock()
        self._closing, self._given_up = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._file = (folder / "lines.jsonl").open("a+b")
        text = self._read(0)
        self._file.truncate(text.rfind(b"\n") + 1)  # the last line of a killed run may be half a one

    @classmethod
    def new(cls, run_id: str, **about: str) -> "Outbox":
        folder = home() / "spool" / run_id
        (folder / "files").mkdir(parents=True)
        about = {"run_id": run_id, "server": _server(), **about}
        (folder / "about.new").write_text(json.dumps(about))
        box = cls(folder, "about.new")
        (folder / "about.new").rename(folder / "about.json")  # found by others only now that it is held
        return box

    def put(self, **line: object) -> None:
        """Add a line; it is safe from a kill of this process when this returns."""
        with self._lock:
            self._file.write(json.dumps(line).encode() + b"\n")
            self._file.flush()

    def keep(self, path: Path) -> str:
        """Link (copy, where the disk cannot) a file or folder beside the lines, to be named in one."""
        place = Path(tempfile.mkdtemp(dir=self.folder / "files")) / path.name
        shutil.copytree(path, place, copy_function=_link) if path.is_dir() else _link(path, place)
        return str(place.relative_to(self.folder))

    def drop(self, kept: str) -> None:
        shutil.rmtree((self.folder / kept).parent, ignore_errors=True)

    def lines(self) -> Iterator[dict]:
        """All lines so far, those that were sent as well."""
        return map(json.loads, self._read(0).splitlines())

    def status(self) -> str:
        """What the last line says of the run: FINISHED, FAILED or KILLED, or nothing."""
        last = self._read(0).rstrip().rpartition(b"\n")[2]
        return json.loads(last).get("end", "") if last else ""

    def start(self) -> None:
        """Let a thread send what there is, and what is to come: first what other runs left, then this one's."""
        # With the context of the run, so that what the thread has to say is in Prefect's log as well.
        self._thread = threading.Thread(target=copy_context().run, args=(self._work,), name="mlflow", daemon=True)
        self._thread.start()

    def close(self) -> bool:
        """Wait for what is left, for a limited time. Returns whether all arrived."""
        self._closing.set()
        self._thread.join(AWAY if self._failures else PATIENCE)
        self._given_up.set()  # so that a try in progress, if there is one, is the last
        return not self._thread.is_alive()

    def flush(self) -> None:
        """Send all that waits now. Raises what MLflow raises. A line that it does not take, though it is there, is left out."""
        sent, until = 0, (self.folder / "lines.jsonl").stat().st_size
        while sent < until and (found := self._next()):
            line, end = found
            try:
                self._send(line)
                self._failures = 0
            except Exception as error:
                self._failures += 1
                if not (_refused(error) or self._failures >= FAILURES) or not self._there():
                    raise
                if self._failures < REFUSALS:
                    continue
                self._failures = 0
                say(f"MLflow did not take {', '.join(line)}: {type(error).__name__}: {str(error)[:200]}")
            partial = self.folder / "sent.new"
            partial.write_text(str(end))
            partial.replace(self.folder / "sent")
            sent = end

    def _leave(self) -> None:
        """Let go of the folder, and remove it if the run can neither be continued nor has anything left to send."""
        with suppress(OSError):  # it is removed already
            old = time.time() - (self.folder / "lines.jsonl").stat().st_mtime > DAYS * 86400
            if self._next() is None and (self.status() == "FINISHED" or old):
                shutil.rmtree(self.folder)
        self._file.close()
        self._held.close()

    def _work(self) -> None:
        try:
            with suppress(Exception):
                sync()
            self._keep_sending()
        finally:
            self._leave()

    def _keep_sending(self) -> None:
        wait = INTERVAL
        while True:
            closing = self._closing.is_set()
            try:
                self.flush()
                if closing:
                    return
                wait = INTERVAL
            except Exception:
                wait = min(2 * wait, LONGEST_WAIT)
            if self._given_up.is_set():
                return
            if closing:
                time.sleep(INTERVAL)
            else:
                self._closing.wait(wait)

    def _read(self, start: int, most: int = -1) -> bytes:
        with (self.folder / "lines.jsonl").open("rb") as file:
            file.seek(start)
            return file.read(most)

    def _next(self) -> tuple[dict, int] | None:
        """What to send next, and where in the file it ends: one line, or lines of values as one."""
        try:
            end = int((self.folder / "sent").read_text())
        except OSError:
            end = 0
        together: dict = {}
        text = self._read(end, 1_000_000)
        if text and b"\n" not in text:
            text = self._read(end)
        for raw in text[: text.rfind(b"\n") + 1].splitlines(keepends=True):
            line = json.loads(raw)
            # After a failure one line at a time, so that the one which is refused takes no other with it.
            alone = self._failures or not line.keys() | together.keys() <= BATCH.keys()
            if together and (alone or any(len(line[k]) + len(together.get(k, ())) > BATCH[k] for k in line)):
                break
            for kind, values in line.items():
                if kind == "metrics":
                    together[kind] = [*together.get(kind, []), *values]
                else:
                    together[kind] = {**together.get(kind, {}), **values} if kind in BATCH else values
            end += len(raw)
        return (together, end) if together else None

    def _send(self, line: dict) -> None:
        client, run_id = self.client, self.run_id
        if line.keys() <= BATCH.keys():
            metrics = [Metric(name, value, at, step) for name, value, step, at in line.get("metrics", [])]
            params = [Param(name, value) for name, value in line.get("params", {}).items()]
            tags = [RunTag(name, value) for name, value in line.get("tags", {}).items()]
            client.log_batch(run_id, metrics, params, tags)
        elif "file" in line:
            client.log_artifact(run_id, str(self.folder / line["file"]), line["to"])
            self.drop(line["file"])
        elif "table" in line:
            self._send_table(line["table"])
        elif "input" in line:
            tags = [InputTag(name, value) for name, value in line["tags"].items()]
            client.log_inputs(run_id, [DatasetInput(Dataset(**line["input"]), tags)])
        elif "checkpoint" in line:
            self._send_checkpoint(line["checkpoint"])
        elif "end" in line and self.status():  # else the run was taken up again since
            client.set_terminated(run_id, line["end"], line["at"])

    def _send_table(self, file: str) -> None:
        """All rows of the table so far, in the form of MLflow's log_table (which would append the same rows again)."""
        rows: dict[str, dict[str, list]] = {}
        for raw in self._read(0).splitlines():
            if b'"table"' in raw and "table" in (line := json.loads(raw)):
                columns = rows.setdefault(line["table"], {name: [] for name in line["columns"]})
                for name, values in line["columns"].items():
                    columns[name] += values
        content = {"columns": list(rows[file]), "data": list(map(list, zip(*rows[file].values(), strict=True)))}
        self.client.log_dict(self.run_id, content, file)
        listed = [{"path": name, "type": "table"} for name in rows]
        self.client.set_tag(self.run_id, "mlflow.loggedArtifacts", json.dumps(listed))

    def _send_checkpoint(self, sent: dict) -> None:
        """A LoggedModel with its metrics; those that the recipe does not keep are removed, as the trainer does with its own."""
        client, run_id, experiment = self.client, self.run_id, self.about["experiment"]
        folder, model, step = self.folder / sent["files"], None, sent["step"]
        if folder.is_dir():  # else newer ones made it superfluous while MLflow was away
            known = self._checkpoints()
            model = known.get(step) or client.create_logged_model(
                experiment,
                name=sent["name"],
                source_run_id=run_id,
                params={"step": str(step)},
                tags={"corpus": self.about["corpus"], "step": str(step)},
                model_type="gpt",
            )
            client.log_model_artifacts(model.model_id, str(folder))
            client.finalize_logged_model(model.model_id, "READY")
            outputs = client.get_run(run_id).outputs
            if model.model_id not in {output.model_id for output in outputs.model_outputs}:
                client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step)])
            self._mark(known | {step: model}, sent)
        about = {"dataset_name": sent["dataset"], "dataset_digest": sent["digest"]} if sent["dataset"] else {}
        metrics = [
            Metric(name, value, at, step, model_id=model and model.model_id, **about)
            for name, value, step, at in sent["metrics"]
        ]
        if metrics:
            client.log_batch(run_id, metrics)
        self.drop(sent["files"])

    def _checkpoints(self) -> dict[int, mlflow.entities.LoggedModel]:
        """Those that MLflow has of this run, by their step."""
        found = mlflow.search_logged_models(
            [self.about["experiment"]], f"source_run_id = '{self.run_id}'", output_format="list"
        )
        return {int(model.params["step"]): model for model in found if "step" in model.params}

    def _mark(self, models: dict[int, mlflow.entities.LoggedModel], sent: dict) -> None:
        """Tell the best and the last, and remove what is neither of the latest nor the best."""
        latest = sorted(models)[-sent["keep"] :]
        for step, model in models.items():
            if step not in (*latest, sent["best"]):
                with suppress(Exception):  # a store that cannot delete keeps them
                    get_artifact_repository(model.artifact_location).delete_artifacts()
                self.client.delete_logged_model(model.model_id)
                continue
            tags = {"best": str(step == sent["best"]).lower(), "last": str(step == latest[-1]).lower()}
            if tags.items() - model.tags.items():
                self.client.set_logged_model_tags(model.model_id, tags)

    def _there(self) -> bool:
        try:
            self.client.get_run(self.run_id)
            return True
        except Exception:
            return False


def stopped(task: str) -> Outbox | None:
    """The latest run of this home that did not finish, of the same task, if no process has it; held from now on."""
    for box in _left():
        if box.about["task"] == task and box.status() != "FINISHED":
            with suppress(MlflowException):
                info = box.client.get_run(box.run_id).info
                if info.lifecycle_stage == "active" and info.status != "FINISHED":
                    return box
        box._leave()
    return None


def sync() -> None:
    """Send what the runs of this home left to send, and mark as KILLED those whose process was; where MLflow is away, later."""
    for box in _left():
        try:
            if _gone(box):
                shutil.rmtree(box.folder)
                continue
            if not box.status():
                box.put(end="KILLED", at=int((box.folder / "lines.jsonl").stat().st_mtime * 1000))
            box.flush()
        except Exception:
            return
        finally:
            box._leave()


def _left() -> Iterator[Outbox]:
    """The outboxes of this home and of this tracking server that no process holds, newest first."""
    for about in sorted((home() / "spool").glob("*/about.json"), key=os.path.getmtime, reverse=True):
        with suppress(OSError, ValueError, UserError):  # what cannot be held is left alone
            if json.loads(about.read_text())["server"] == _server():
                yield Outbox(about.parent)


def _gone(box: Outbox) -> bool:
    """Whether MLflow knows nothing of the run any more, or its user deleted it."""
    try:
        return box.client.get_run(box.run_id).info.lifecycle_stage != "active"
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return True
        raise


def _server() -> str:
    """Which MLflow is meant, without the password that its address may hold."""
    return hashlib.sha256(mlflow.get_tracking_uri().encode()).hexdigest()[:16]


def _refused(error: Exception) -> bool:
    """Whether trying again is of no use: the request is wrong, or the file that it would send is not there."""
    status = error.get_http_status_code() if isinstance(error, MlflowException) else 0
    return isinstance(error, FileNotFoundError) or (400 <= status < 500 and status not in (408, 429))


def _link(source: Path | str, target: Path | str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
