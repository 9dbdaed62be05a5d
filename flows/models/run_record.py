"""What a finished run was made from, as MLflow has it, and what of that is otherwise here.

`read` finds the record. `plan` compares it with this machine, building nothing: the data, the code and parameters of every
stage, the packages that decide its output, the device.
"""

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path

import mlflow

from data_contracts import DataError, sources
from flows import UserError
from flows import home as environment
from flows import recipe as recipes
from flows.models.lookup import REGISTERED, mlflow_run, version_of
from flows.recipe import Recipe
from flows.stages.definitions import RAW, STAGES, reader_of
from flows.store import provenance
from flows.store.artifacts import Store, differences, git_state, package_versions, to_artifact
from flows.tracking import run as tracking
from gpt import GPTError
from gpt.config import Runtime
from gpt.machine.hardware import usable_cores

TOLERANCE = 0.01  # of the held-out loss, where bits cannot be expected to be equal
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


def _code(found: Record, recipe: Recipe) -> list[Difference]:
    """What makes the stages: code, parameters, packages."""
    told = []
    for name, stage in STAGES.items():
        manifest = found.manifests[name]
        if (code := stage.code(recipe)) != manifest["code"]:
            told.append(Difference(f"{name}: code {manifest['code']} -> {code}", True))
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
        now = provenance.machine(runtime)
    except GPTError as error:
        told.append(Difference(f"device {then['device_name']}: {error}", True))
        runtime = replace(runtime, device="cpu", parallel="none", processes=1)
        now = provenance.machine(runtime)
    on_cpu = runtime.device == "cpu"
    told += [
        Difference(f"{name} {then[name]} -> {now[name]}", on_cpu or name == "dtype")
        for name in ("device_name", "capability", "dtype")
        if then[name] != now[name]
    ]
    return runtime, told
