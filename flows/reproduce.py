"""The flow that makes a run again from its record, in a home of its own, and says what matches.

    prefect deployment run reproduce/run -p run_id=RUN
    gpt reproduce RUN                                     # the same flow, here and now

Before anything is built, `plan` compares the record with what is here: the data, the code and parameters of every stage, the
packages that decide its output, the machine. Afterwards stages are compared by digest, weights by sha256, losses step by
step. On the same kind of CPU all of them are equal; on a GPU, whose sums have no fixed order, or on another machine, the
held-out loss is to keep within TOLERANCE.
"""

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]  # a worker loads this file by its path

from flows import environment  # noqa: E402

environment.prepare()

import mlflow  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from prefect import flow  # noqa: E402
from prefect.artifacts import create_markdown_artifact  # noqa: E402
from prefect.states import Failed  # noqa: E402

from data_contracts import DataError, sources  # noqa: E402
from flows import UserError, alive, recipes, record, tracking  # noqa: E402
from flows.models import REGISTERED, mlflow_run, version_of  # noqa: E402
from flows.progress import say  # noqa: E402
from flows.recipes import Recipe  # noqa: E402
from flows.stages import RAW, STAGES, reader_of  # noqa: E402
from flows.store import Store, differences, git_state, in_use, lock, package_versions, read_manifest, to_artifact  # noqa: E402
from flows.train import pipeline  # noqa: E402
from gpt import GPTError  # noqa: E402
from gpt.config import Runtime  # noqa: E402
from gpt.sizing import usable_cores  # noqa: E402

TOLERANCE = 0.01  # of the held-out loss, where bits cannot be expected to be equal
WEIGHTS = "model/model.safetensors"
NOTE = "reproduction.json"  # in the home of a reproduction: whose it is, and the verdict when there is one
COMPARED = ("train/loss", "val/loss")
# The packages that decide what a stage writes; another version of another one changes nothing.
DECIDES = {
    "clean": ("python", "polars", "rensa", "py3langid"),
    "tokenize": ("sentencepiece", "numpy"),
    "pack": ("sentencepiece", "numpy"),
    "train": ("torch", "numpy", "safetensors"),
}


@dataclass(frozen=True)
class Difference:
    """Something that is not as the record has it."""

    says: str
    matters: bool
    """whether it may change what comes out"""


@dataclass(frozen=True)
class Record:
    """What MLflow has of a run."""

    run_id: str
    tags: dict[str, str]
    recipe: dict
    manifests: dict[str, dict]
    """of the five stages' artifacts"""
    steps: int
    """that the training was set to, also where the recipe has `minutes`"""

    @property
    def machine(self) -> dict:
        return self.manifests["train"]["counts"]["machine"]


@dataclass(frozen=True)
class Plan:
    """How a run will be made again."""

    record: Record
    recipe: Recipe
    differences: list[Difference]
    tolerance: float
    """how far, relatively, the held-out loss may be from the recorded one: 0 unless the machine alone explains other bits"""

    def lines(self) -> list[str]:
        """What differs, for a reader."""
        found = sorted(self.differences, key=lambda difference: not difference.matters)
        told = [f"{'!' if difference.matters else ' '} {difference.says}" for difference in found]
        matters = any(difference.matters for difference in found)
        head = "here differs (! matters)" if matters else "nothing that matters differs here"
        return [f"run {self.record.run_id}: {head}", *told]

    def refuse(self, anyway: bool) -> None:
        """Raise UserError if something that matters differs, unless the user takes it."""
        if not anyway and (count := sum(difference.matters for difference in self.differences)):
            commit = self.record.tags.get("git.commit", "")[:12]
            many = f"{count} differences matter" if count > 1 else "1 difference matters"
            raise UserError(
                f"run {self.record.run_id} may not come out as it did, at commit {commit or '(unknown)'}: {many} (! above)\n"
                "--anyway (of the flow: anyway=true) goes on all the same"
            )


@flow(name="reproduce", flow_run_name="{run_id}", persist_result=False, on_running=[alive.hold])
def reproduce(
    run_id: str,
    home: str | None = None,
    anyway: bool = False,
) -> dict:
    """Make a run again from its record, and log to MLflow what matches. Returns the verdict; one that differs as a failure.

    Args:
        run_id: MLflow's id of a finished training, or a model such as gpt-wiki@champion
        home: folder to build in, instead of one below the home
        anyway: go on if something that matters differs from the record
    """
    made = plan(read(run_id))
    for line in made.lines():
        say(line)
    made.refuse(anyway)
    original, run = environment.home(), made.record.run_id
    with in_use(environment.shared_home()), lock(original, f"reproduce-{run}", say):
        folder = _fresh(Path(home).expanduser().resolve() if home else None, original / "reproductions" / run, run)
        say(f"it is made again in {folder}")
        with _living_in(folder):
            summary = pipeline(made.recipe, reproduces=run)
        verdict = compare(made, summary, folder)
        (folder / NOTE).write_text(json.dumps(verdict, indent=1) + "\n")
        _tell(verdict)
    return verdict if verdict["verdict"] != "differs" else Failed(message=verdict["says"], data=verdict)


def plan(found: Record) -> Plan:
    """How a run is made again, and what differs from its record. Nothing is built.

    Raises UserError for a run that cannot be made again at all."""
    recipe, problems = recipes.recorded(found.recipe)
    if recipe is None:
        raise UserError(f"the recipe of run {found.run_id} cannot be used any more: {'; '.join(problems)}")
    told = [Difference(f"recipe: {problem}; it is left out", True) for problem in problems]
    told += _code(found, recipe)
    source, data = _data(found, recipe)
    runtime, machine = _machine(found, recipe)
    train = recipe.train
    if train.minutes:
        train = replace(train, minutes=0.0, steps=found.steps, warmup_steps=min(train.warmup_steps, found.steps))
        data.append(Difference(f"train: {found.steps} steps, which the minutes of the recipe came to", False))
    told += data
    otherwise = any(difference.matters for difference in told)
    hardware = runtime.device != "cpu" or any(difference.matters for difference in machine)
    recipe = recipe.model_copy(update={"source": source, "runtime": runtime, "train": train})
    return Plan(found, recipe, told + machine, TOLERANCE if hardware and not otherwise else 0.0)


def read(run: str) -> Record:
    """The record of a run: a run id or a registered model. Raises UserError when there is none, or not all of it."""
    if re.fullmatch(REGISTERED, run):
        run_id = version_of(run).run_id
    elif re.fullmatch(r"[0-9a-f]{32}", run):
        run_id = run
    else:
        raise UserError(f"run {run!r} is not known; give a run id, gpt-<corpus>@champion or gpt-<corpus>/<version>")
    found = mlflow_run(run_id)
    info, tags = found.info, found.data.tags
    if info.lifecycle_stage == "deleted":
        raise UserError(f"run {run_id} was deleted; mlflow runs restore --run-id {run_id} brings it back")
    if "train.steps" not in found.data.params:
        raise UserError(f"run {run_id} ({info.run_name}) is no training, so there is nothing to make again")
    if info.status != "FINISHED":
        why = f": {tags['error'].splitlines()[0][:200]}" if tags.get("error") else ""
        raise UserError(f"run {run_id} is {info.status.lower()}{why}\nonly a finished run can be made again")
    files = {"recipe": "recipe.json", "run": "train/run.json"} | {stage: f"{stage}/manifest.json" for stage in STAGES}
    client = mlflow.MlflowClient()
    with tracking.answering():
        listed = {item.path for folder in ("", *STAGES) for item in client.list_artifacts(run_id, folder)}
        there = {
            name: mlflow.artifacts.load_dict(f"runs:/{run_id}/{files[name]}") for name in files if files[name] in listed
        }
    missing = [file for file in files.values() if file not in listed]
    if "train" in there and "machine" not in there["train"]["counts"]:
        missing.append("the machine in train/manifest.json")
    if missing:
        raise UserError(
            f"the record of run {run_id} lacks {', '.join(missing)}: an older version of this project wrote it\n"
            "train the model again, and that run can be reproduced"
        )
    return Record(run_id, tags, there["recipe"], {stage: there[stage] for stage in STAGES}, there["run"]["steps"])


def compare(made: Plan, summary: dict, home: Path) -> dict:
    """What matches, as JSON: stages by digest, weights by sha256, losses by step."""
    old, new = made.record.manifests, {}
    for stage, artifact in summary["stages"].items():
        new[stage] = read_manifest(home / "artifacts" / summary["corpus"] / stage / artifact["key"])
    pairs = {stage: (old[stage]["digest"], new[stage]["digest"]) for stage in STAGES}
    pairs["weights"] = tuple(manifests["train"]["files"][WEIGHTS]["sha256"] for manifests in (old, new))
    stages = [{"stage": name, "recorded": a, "reproduced": b, "equal": a == b} for name, (a, b) in pairs.items()]
    log = home / "artifacts" / summary["corpus"] / "train" / new["train"]["key"] / "log" / "metrics.jsonl"
    metrics = [_first_difference(made.record.run_id, name, log) for name in COMPARED]
    equal = {row["stage"]: row["equal"] for row in stages}
    # With minutes the artifact also says how its steps were asked for, so what was learned is what counts.
    if all(same for name, same in equal.items() if name != "train") and all(row["first"] is None for row in metrics):
        verdict = "identical"
    elif made.tolerance and all(equal[stage] for stage in ("download", "clean", "tokenize", "pack")):
        near = metrics[-1]["steps"] and metrics[-1]["largest_relative"] <= made.tolerance
        verdict = "within tolerance" if near else "differs"
    else:
        verdict = "differs"
    return {
        "verdict": verdict,
        "says": _says(verdict, made.tolerance, stages, metrics),
        "run": made.record.run_id,
        "reproduced_run": summary["mlflow_run"],
        "corpus": summary["corpus"],
        "home": str(home),
        "differences": [asdict(difference) for difference in made.differences],
        "stages": stages,
        "metrics": metrics,
    }


def _says(verdict: str, tolerance: float, stages: list[dict], metrics: list[dict]) -> str:
    """The verdict in a sentence."""
    if verdict == "identical":
        steps, evaluations = (row["steps"] for row in metrics)
        return f"identical: every stage, the weights, the losses of {steps} logged steps and {evaluations} evaluations"
    parts = [f"{row['stage']} is the first that differs" for row in stages if not row["equal"]][:1]
    parts += [
        f"{row['metric']} first differs at step {row['first']} ({row['recorded']:.6g}, now {row['reproduced']:.6g}: "
        f"{row['by']:+.2g}), by {row['largest_relative']:.2%} at most"
        for row in metrics
        if row["first"] is not None
    ]
    limit = f" ({tolerance:.0%} of val/loss is tolerated)" if tolerance else ""
    return f"{verdict}{limit}: " + "; ".join(parts)


def _first_difference(run_id: str, name: str, log: Path) -> dict:
    """Where a metric of the run and of the reproduction (its artifact's own log) part, and by how much."""
    with tracking.answering():
        history = mlflow.MlflowClient().get_metric_history(run_id, name)
    old = {metric.step: metric.value for metric in history}
    rows = map(json.loads, log.read_text().splitlines())
    new = {row["step"]: row[name] for row in rows if name in row}
    steps = sorted(old.keys() & new.keys())
    apart = [step for step in steps if old[step] != new[step]]
    first = apart[0] if apart else None
    return {
        "metric": name,
        "steps": len(steps),
        "first": first,
        "recorded": old.get(first),
        "reproduced": new.get(first),
        "by": new[first] - old[first] if apart else 0.0,
        "largest_relative": max(
            (abs(new[step] - old[step]) / max(abs(old[step]), 1e-9) for step in apart), default=0.0
        ),
    }


def _code(found: Record, recipe: Recipe) -> list[Difference]:
    """What makes the stages: code, parameters, packages."""
    told = []
    for name, stage in STAGES.items():
        manifest = found.manifests[name]
        if (code := stage.code(recipe)) != manifest["code"]:
            told.append(Difference(f"{name}: code {manifest['code'][:8]} -> {code[:8]}", True))
        if name != "download":  # whose parameters are the data
            lines = differences(manifest["parameters"], stage.parameters(recipe))
            told += [Difference(f"{name}: {line}", True) for line in lines]
    here, changed = package_versions(), {}
    for name, packages in DECIDES.items():
        before = found.manifests[name]["packages"]
        for package in packages:
            if before.get(package) != here.get(package):
                changed.setdefault(f"{package} {before.get(package)} -> {here.get(package)}", []).append(name)
    told += [Difference(f"{line} (decides {', '.join(names)})", True) for line, names in changed.items()]
    then, now = (found.tags.get("git.commit", ""), found.tags.get("git.dirty") == "true"), tuple(git_state().values())
    if then != now or now[1]:  # the stages' own code, compared above, is what matters
        words = [f"{commit[:12] or 'none'}{' with changes' * dirty}" for commit, dirty in (then, now)]
        told.append(Difference(f"commit of the project: {words[0]} -> {words[1]}", False))
    return told


def _data(found: Record, recipe: Recipe) -> tuple[sources.Source, list[Difference]]:
    """Where the raw data come from: the source of the record, at its version; else the run's raw files, if this home has them.

    Raises UserError when they are nowhere."""
    manifest, gone = found.manifests["download"], False
    source = sources.pinned(recipe.source, manifest["parameters"])
    try:
        sources.reach(source, reader_of(recipe))
        lines = differences(manifest["parameters"], sources.resolve(source, reader_of(recipe)))
    except DataError as error:
        lines, gone = [str(error).splitlines()[0]], True
    if not lines:
        return source, []
    what = f"data: {'; '.join(lines[:3])}{f'; and {len(lines) - 3} more' if len(lines) > 3 else ''}"
    store = Store(environment.shared_home())
    for kept in store.manifests(recipe.corpus, "download"):
        if kept["digest"] == manifest["digest"] and not store.damage(to_artifact(kept)):
            here = sources.Source(kind="local", path=str(Path(kept["path"]) / RAW))
            return here, [
                Difference(f"{what}; the run's own raw files are still in this home, and are read instead", False)
            ]
    if gone:
        raise UserError(
            f"the data of run {found.run_id} cannot be had, and this home does not keep them any more\n{lines[0]}"
        )
    return source, [Difference(what, True)]


def _machine(found: Record, recipe: Recipe) -> tuple[Runtime, list[Difference]]:
    """How to train as it was trained, as far as this machine can: the same device, and the same number of threads."""
    then, told = found.machine, []
    known = {field.name for field in fields(Runtime)} - {"dtype"}  # part of the recipe where it is asked for
    runtime = replace(recipe.runtime, **{name: value for name, value in then["runtime"].items() if name in known})
    if runtime.threads > (cores := usable_cores()):
        told.append(Difference(f"threads {runtime.threads} -> {cores}: this machine has no more", True))
        runtime = replace(runtime, threads=cores)
    elif runtime.threads != recipe.runtime.threads:
        told.append(Difference(f"threads: {runtime.threads}, as the run had them ({cores} cores here)", False))
    try:
        now = record.machine(runtime)
    except GPTError as error:
        told.append(Difference(f"device {then['device_name']}: {error}", True))
        runtime = replace(runtime, device="cpu", parallel="none", processes=1)
        now = record.machine(runtime)
    on_cpu = runtime.device == "cpu"
    told += [
        Difference(f"{name} {then[name]} -> {now[name]}", on_cpu or name == "dtype")
        for name in ("device_name", "capability", "dtype")
        if then[name] != now[name]
    ]
    return runtime, told


def _fresh(asked: Path | None, usual: Path, run: str) -> Path:
    """A folder that holds nothing, or what an interrupted reproduction of the same run left."""
    for number in range(1, 1000):
        folder = asked or usual.with_name(usual.name + (f"-{number}" if number > 1 else ""))
        note = folder / NOTE
        if not folder.is_dir() or not any(folder.iterdir()):
            break
        if note.is_file() and json.loads(note.read_text()) == {"run": run}:
            say("going on with the reproduction that was interrupted")
            break
        if asked:
            raise UserError(f"--home {asked} is not empty; name a new folder, so that nothing is reused")
    with _living_in(folder):
        environment.home()  # made, and found to be writable
    note.write_text(json.dumps({"run": run}))
    return folder


@contextmanager
def _living_in(folder: Path) -> Iterator[None]:
    """Everything this process makes goes to `folder`; MLflow and Prefect stay where they are, as `prepare` has set them."""
    names = ("GPT_HOME", "GPT_SHARED_HOME")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(folder)))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _tell(verdict: dict) -> None:
    """Log the verdict to the reproduced run, and show it on the Prefect page."""
    client, run_id = mlflow.MlflowClient(), verdict["reproduced_run"]
    text = markdown(verdict)
    try:
        client.set_tag(run_id, "verdict", verdict["verdict"])
        client.log_dict(run_id, verdict, "reproduction.json")
        client.log_text(run_id, text, "reproduction.md")
    except (MlflowException, OSError) as error:
        say(f"MLflow did not take the verdict: {str(error)[:200]}; it is in {verdict['home']}/{NOTE}")
    with suppress(Exception):
        create_markdown_artifact(text, key=f"reproduction-{verdict['corpus']}", description=verdict["verdict"])


def markdown(verdict: dict) -> str:
    """The verdict as a page."""
    lines = [f"# {verdict['says']}", "", f"run {verdict['run']}, made again as {verdict['reproduced_run']}", ""]
    for name in ("stages", "metrics", "differences"):
        if rows := verdict[name]:
            lines += [f"## {name}", "", f"| {' | '.join(rows[0])} |", "|---" * len(rows[0]) + "|"]
            lines += [f"| {' | '.join(str(value).replace('|', '/') for value in row.values())} |" for row in rows] + [
                ""
            ]
    return "\n".join(lines)
