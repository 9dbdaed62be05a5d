"""The flow: name a corpus, and five tasks take it from raw text to a trained decoder.

    prefect deployment run train/wiki      # through a server and a worker
    gpt train wiki                         # the same flow, here and now

The tasks are called directly, so they run in the flow's own thread: MLflow's active run and signal handlers belong to it.
The store decides whether a stage runs or its artifact is reused, since Prefect's own caching does not check files.
"""

from dataclasses import replace
from typing import Annotated, Any, Literal

import flows.tracking.environment  # noqa: F401 (sets the defaults that Prefect and MLflow read when imported)

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.runtime import deployment
from prefect.states import Completed, State
from pydantic import Field

from data_contracts.rules import LEAST_CHARS
from flows import UserError
from flows.evaluation.diff import log_changes
from flows.evaluation.summary import finish, log_samples
from flows.models.register import registered_name
from flows.models.run_record import champion_recipe
from flows.models.start import mixed, started
from flows.progress import log_line
from flows.recipe import CORPUS_PATTERN, Recipe, Size, load_recipe, settle
from flows.server import dead_runs
from flows.stages.definitions import work_id
from flows.stages.run_stage import run_stage
from flows.stages.stale import why
from flows.store.artifacts import Artifact, Store, touch
from flows.store.locks import in_use
from flows.tracking.run import tracked_run

StageName = Literal["download", "clean", "tokenize", "pack", "train"]
# Prefect's form takes limits from these types, and its help from the `Args` of a flow's docstring.
Corpus = Annotated[str, Field(pattern=CORPUS_PATTERN)]
Steps = Annotated[int | None, Field(ge=1)]
Minutes = Annotated[float | None, Field(gt=0)]
Overrides = dict[str, bool | int | float | str | list[str]]


@task(name="download", task_run_name="download", cache_policy=NO_CACHE, persist_result=False)
def download(recipe: Recipe, force: bool = False) -> Artifact:
    """Raw files, from Kaggle, HTTPS, a local folder or this Python itself."""
    return run_stage("download", recipe, {}, force)


@task(name="clean", task_run_name="clean", cache_policy=NO_CACHE, persist_result=False)
def clean(raw: Artifact, recipe: Recipe, force: bool = False) -> Artifact:
    """Documents that keep their contract, rejects with a reason, and the split into training and held-out."""
    return run_stage("clean", recipe, {"download": raw}, force)


@task(name="tokenize", task_run_name="tokenize", cache_policy=NO_CACHE, persist_result=False)
def fit_tokenizer(documents: Artifact, recipe: Recipe, force: bool = False) -> Artifact:
    """A SentencePiece model of the training documents."""
    return run_stage("tokenize", recipe, {"clean": documents}, force)


@task(name="pack", task_run_name="pack", cache_policy=NO_CACHE, persist_result=False)
def pack(documents: Artifact, tokenizer: Artifact, recipe: Recipe, force: bool = False) -> Artifact:
    """Token shards, their document index, and the baselines on the held-out bytes."""
    return run_stage("pack", recipe, {"clean": documents, "tokenize": tokenizer}, force)


@task(name="train", task_run_name="train", cache_policy=NO_CACHE, persist_result=False)
def fit_decoder(sequences: Artifact, tokenizer: Artifact, recipe: Recipe, force: bool = False) -> Artifact:
    """The decoder, its best weights, and its evaluations."""
    return run_stage("train", recipe, {"tokenize": tokenizer, "pack": sequences}, force, log_samples)


def cleaned(recipe: Recipe, force: str | None = None) -> Artifact:
    """The first two stages."""
    return clean(download(recipe, force == "download"), recipe, force == "clean")


def pipeline(recipe: Recipe, force: str | None = None, reproduces: str = "") -> dict:
    """The five stages of a recipe as one MLflow run, within a flow. reproduces: the run that is made again."""
    with in_use(), tracked_run(recipe, work_id(recipe) + reproduces) as tracker:
        if reproduces:
            tracker.tags({"reproduces": reproduces})
        documents = cleaned(recipe, force)
        log_changes(tracker)
        recipe = settled(recipe, documents)
        tracker.log_recipe(recipe)
        tokenizer = fit_tokenizer(documents, recipe, force == "tokenize")
        sequences = pack(documents, tokenizer, recipe, force == "pack")
        fit_decoder(sequences, tokenizer, recipe, force == "train")
        return finish(recipe, tracker, named=not reproduces)


@flow(name="train", flow_run_name="{corpus}", persist_result=False, on_running=[dead_runs.hold_lock])
def train(
    corpus: Corpus,
    size: Size | None = None,
    steps: Steps = None,
    minutes: Minutes = None,
    overrides: Overrides = {},  # noqa: B006
    source: str | None = None,
    force: StageName | None = None,
    refresh: bool = False,
    more: Steps = None,
) -> dict | State:
    """Train a GPT on a corpus, reusing every stage whose inputs, parameters and code are unchanged.

    Args:
        corpus: name of the corpus; gpt corpora lists them
        size: model size, instead of the recipe's, or a whole preset such as classic-tiny
        steps: training steps, instead of the recipe's
        minutes: for which the dial plans the training: on two nominal CPU cores, or on the GPU that is there
        overrides: settings by name, such as {"train.lr": 0.001}
        source: folder or file to read instead of the recipe's source
        force: run this stage even if nothing changed
        refresh: for schedules: train the champion's recipe on the newest data; nothing if the corpus was never trained here
        more: steps by which the champion's training goes on, by its recipe; what is the same in both is not done again
    """
    recipe = load_recipe(corpus, size=size, steps=steps, minutes=minutes, source=source, overrides=overrides)
    if more:
        if not (known := champion_recipe(recipe)):
            raise UserError(f"{corpus} was never trained here, so nothing can go on: gpt train {corpus}")
        recipe = known.model_copy(update={"train": replace(known.train, steps=known.train.steps + more)})
    elif refresh and not (size or steps or minutes or source or overrides):
        recipe = champion_recipe(recipe) or recipe
    recipe = started(mixed(recipe, cleaned))
    if refresh and not Store().manifests(corpus, "train"):
        return Completed(name="Untrained", message=f"{corpus} was never trained here, so there is nothing to refresh")
    if deployment.id and not force and (model := unchanged(recipe)):
        message = f"all five stages of {corpus} are up to date; {model} is their model"
        return Completed(name="Unchanged", message=message)
    summary = pipeline(recipe, force)
    message = f"{summary['verdict']}; {summary['model'] or 'not registered'}; {summary['champion']}"
    return Completed(message=message, data=summary)


def unchanged(recipe: Recipe) -> str:
    """The registered model of the five stages, if none of them has anything to do; else empty."""
    with in_use():
        reasons = why(Store(), recipe)
        reused = [reason.artifact for reason in reasons if reason.artifact]
        if len(reused) < len(reasons):
            return ""
        model = registered_name(recipe.corpus, reused[-1])
        for artifact in reused if model else ():
            touch(artifact.folder)
    return model


@flow(name="prepare", flow_run_name="{corpus}", persist_result=False, on_running=[dead_runs.hold_lock])
def prepare(
    corpus: Corpus,
    size: Size | None = None,
    steps: Steps = None,
    minutes: Minutes = None,
    overrides: Overrides = {},  # noqa: B006
    source: str | None = None,
    force: StageName | None = None,
    until: Literal["clean", "pack"] = "pack",
    then_train: bool = False,
) -> Artifact:
    """Make the stages of a corpus that need no GPU, for a later training. They are not an MLflow run.

    Args:
        corpus: name of the corpus; gpt corpora lists them
        size: model size, instead of the recipe's, or a whole preset such as classic-tiny
        steps: training steps, instead of the recipe's
        minutes: for which the dial plans the training: on two nominal CPU cores, or on the GPU that is there
        overrides: settings by name, such as {"train.lr": 0.001}
        source: folder or file to read instead of the recipe's source
        force: run this stage even if nothing changed
        until: the last stage; clean: to look at the data card
        then_train: afterwards start train/<corpus> with the same parameters
    """
    asked: dict[str, Any] = {"size": size, "steps": steps, "minutes": minutes, "overrides": overrides, "source": source}
    recipe = started(mixed(load_recipe(corpus, **asked), cleaned))
    with in_use():
        made = documents = cleaned(recipe, force)
        if until == "pack":
            recipe = settled(recipe, documents)
            tokenizer = fit_tokenizer(documents, recipe, force == "tokenize")
            made = pack(documents, tokenizer, recipe, force == "pack")
    if then_train:
        asked |= {"corpus": corpus, "force": force if force == "train" else None}
        try:
            run_deployment(f"train/{corpus}", parameters=asked, timeout=0, as_subflow=False)
        except ObjectNotFound:
            raise UserError(f"train/{corpus} is not deployed here: prefect --no-prompt deploy --all") from None
    return artifact(made)


def settled(recipe: Recipe, documents: Artifact | State) -> Recipe:
    """The recipe with nothing open, now that the documents are there."""
    counts = artifact(documents).counts
    if recipe.dial and (n_chars := counts["chars"]["total"]) < LEAST_CHARS:
        few = f"{recipe.corpus} has {n_chars:,} characters, too few to learn from"
        raise UserError(f"{few}: bring {LEAST_CHARS:,} or more")
    recipe, line = settle(recipe, counts)
    if line:
        log_line(f"dial      {line}")
    return recipe


def artifact(made: Artifact | State) -> Artifact:
    """What a task of this flow returned. A reused artifact comes as its state."""
    return made.result() if isinstance(made, State) else made
