"""Read what MLflow recorded of a finished run, and plan how to make that run again on this machine.

Nothing is built here. The plan lists what differs from the record: the data, each stage's code and parameters, the packages
that decide a stage's output, and the device.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import mlflow

from data_contracts import DataError
from data_contracts.sources.source import Source, pinned, resolve
from flows import UserError
from flows.models import lookup
from flows.models.start import started
from flows.progress import log_line
from flows.recipe import Recipe, recorded_recipe
from flows.stages.definitions import RAW, STAGES
from flows.stages.parameters import reader_of
from flows.store import provenance
from flows.store.artifacts import Store, differences, to_artifact
from flows.tracking.connection import answering
from gpt import GPTError
from gpt.config import Runtime
from gpt.machine.hardware import usable_cores

TOLERANCE = 0.01  # of the held-out loss, where bits cannot be expected to be equal
FILES = ("recipe.json", *(f"{stage}/manifest.json" for stage in STAGES))


@dataclass(frozen=True)
class Record:
    """What MLflow has of a run."""

    run_id: str
    tags: dict[str, str]
    recipe: dict
    manifests: dict[str, dict]
    """of the five stages' artifacts"""


@dataclass(frozen=True)
class Plan:
    """How a run will be made again."""

    record: Record
    recipe: Recipe
    matters: list[str]
    """differences from the record that may change the result; others are only logged"""
    tolerance: float
    """largest relative difference of the held-out loss from the recorded one: 0 unless only the machine may explain one"""


def plan(record: Record) -> Plan:
    """How to make a run again, and what differs from its record. Raises UserError for a run that cannot be made again."""
    recipe, problems = recorded_recipe(record.recipe)
    recipe = started(recipe)
    matters = [*(f"recipe: {problem}; it is left out" for problem in problems), *_stages(record, recipe)]
    source = _source(record, recipe, matters)
    only_machine = not matters
    runtime = _runtime(record, recipe, matters)
    other_bits = matters or runtime.device != "cpu"
    recipe = recipe.model_copy(update={"source": source, "runtime": runtime})
    return Plan(record, recipe, matters, TOLERANCE if only_machine and other_bits else 0.0)


def read(run: str) -> Record:
    """The record of a run id or of a registered model's run. Raises UserError if there is none, or if it is incomplete."""
    run_id = lookup.run_id(run)
    found = lookup.mlflow_run(run_id)
    info, tags = found.info, found.data.tags
    if info.status != "FINISHED":
        why = f": {tags['error'].splitlines()[0][:200]}" if tags.get("error") else ""
        raise UserError(f"run {run_id} is {info.status.lower()}{why}\nonly a finished run can be made again")
    with answering():
        folders = [mlflow.MlflowClient().list_artifacts(run_id, folder) for folder in ("", *STAGES)]
        listed = {item.path for folder in folders for item in folder}
        files = {name: mlflow.artifacts.load_dict(f"runs:/{run_id}/{name}") for name in FILES if name in listed}
    missing = [name for name in FILES if name not in files]
    if missing:
        what = f"run {run_id} ({info.run_name}) lacks {', '.join(missing)}"
        raise UserError(f"{what}: it is no training, or one by an older version; a new training can be made again")
    manifests = {stage: files[f"{stage}/manifest.json"] for stage in STAGES}
    return Record(run_id, tags, files["recipe.json"], manifests)


def champion_recipe(asked: Recipe) -> Recipe | None:
    """The recorded recipe of the champion of a recipe's corpus, to train it again on newer data; None if there is no champion.
    Raises UserError for a record that is incomplete or cannot be used any more, or when MLflow does not answer."""
    if not lookup.champion(asked.corpus):
        return None
    recipe, problems = recorded_recipe(read(f"gpt-{asked.corpus}@champion").recipe)
    for problem in problems:
        log_line(f"recipe of the champion: {problem}; it is left out")
    if recipe.source_page() == asked.source_page():  # an address is recorded without what may be secret in it
        recipe = recipe.model_copy(update={"source": replace(recipe.source, url=asked.source.url)})
    return recipe


def _stages(record: Record, recipe: Recipe) -> Iterator[str]:
    """What differs in the code of each stage, in its parameters, and in the packages that decide its output."""
    versions = provenance.package_versions()
    for name, stage in STAGES.items():
        manifest = record.manifests[name]
        packages = provenance.DECIDING_PACKAGES.get(name, ())
        old = {"code": manifest["code"]} | {package: manifest["packages"].get(package) for package in packages}
        new = {"code": stage.code(recipe)} | {package: versions.get(package) for package in packages}
        if name != "download":  # whose parameters name the data: see _source
            old, new = old | manifest["parameters"], new | stage.parameters(recipe)
        yield from (f"{name}: {line}" for line in differences(old, new))


def _source(record: Record, recipe: Recipe, matters: list[str]) -> Source:
    """The recorded source at its version, or else the run's raw files in this home. Adds what differs to `matters`.
    Raises UserError if there is neither."""
    manifest, available = record.manifests["download"], True
    source = pinned(recipe.source, manifest["parameters"])
    try:
        lines = differences(manifest["parameters"], resolve(source, reader_of(recipe)))
    except DataError as error:
        lines, available = [str(error).splitlines()[0]], False
    if not lines:
        return source
    change = f"data: {'; '.join(lines[:3])}" + (f"; and {len(lines) - 3} more" if len(lines) > 3 else "")
    store = Store()
    for kept in store.manifests(recipe.corpus, "download"):
        if kept["digest"] == manifest["digest"] and not store.damage(to_artifact(kept)):
            log_line(f"{change}; the run's own raw files are still in this home, and are read instead")
            return Source(kind="local", path=str(Path(kept["path"]) / RAW))
    if not available:
        raise UserError(f"the data of run {record.run_id} cannot be had, and this home has none of them\n{lines[0]}")
    matters.append(change)
    return source


def _runtime(record: Record, recipe: Recipe, matters: list[str]) -> Runtime:
    """The recorded device and threads, as far as this machine has them. Adds what differs to `matters`."""
    recorded, cores = record.manifests["train"]["counts"]["machine"], usable_cores()
    known = {field.name for field in fields(Runtime)} - {"dtype"}  # the recipe has it where it was asked for
    runtime = replace(recipe.runtime, **{name: value for name, value in recorded["runtime"].items() if name in known})
    if runtime.threads > cores:
        matters.append(f"threads {runtime.threads} -> {cores}: this machine has no more")
        runtime = replace(runtime, threads=cores)
    try:
        here = provenance.machine(runtime)
    except GPTError as error:  # the device is not here
        matters.append(f"device {recorded['device_name']}: {error}")
        runtime = replace(runtime, device="cpu", parallel="none", processes=1)
        here = provenance.machine(runtime)
    for name in ("device_name", "capability", "dtype"):
        if recorded[name] != here[name]:
            add = matters.append if runtime.device == "cpu" or name == "dtype" else log_line
            add(f"{name} {recorded[name]} -> {here[name]}")
    return runtime
