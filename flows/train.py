"""The flow: name a corpus, and five tasks take it from raw text to a trained decoder.

    prefect deployment run train/wiki      # through a server and a worker
    gpt train wiki                         # the same flow, here and now

The tasks are called directly, so they run in the flow's own thread: MLflow's active run and signal handlers belong to it.
Whether a stage runs or its artifact is reused is the store's decision; Prefect's own caching knows nothing of files.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]  # a worker loads this file by its path

from flows import environment  # noqa: E402

environment.prepare()

from prefect import flow, task  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.deployments import run_deployment  # noqa: E402
from prefect.exceptions import ObjectNotFound  # noqa: E402
from prefect.states import State  # noqa: E402
from pydantic import Field  # noqa: E402

from flows import UserError, recipes, report, tracking  # noqa: E402
from flows.environment import shared_home  # noqa: E402
from flows.execute import execute  # noqa: E402
from flows.recipes import CORPUS_PATTERN, Recipe, Size  # noqa: E402
from flows.store import Artifact, in_use  # noqa: E402

StageName = Literal["download", "clean", "tokenize", "pack", "train"]
Corpus = Annotated[str, Field(pattern=CORPUS_PATTERN, description="name of the corpus; gpt corpora lists them")]
ModelSize = Annotated[Size | None, Field(description="model size, instead of the recipe's; auto: by bytes and device")]
Steps = Annotated[int | None, Field(ge=1, description="training steps, instead of the recipe's")]
Minutes = Annotated[float | None, Field(gt=0, description="as many training steps as end in time, instead of steps")]
Overrides = Annotated[
    dict[str, bool | int | float | str | list[str]], Field(description='settings by name, such as {"train.lr": 0.001}')
]
SourcePath = Annotated[str | None, Field(description="folder or file to read instead of the recipe's source")]
Force = Annotated[StageName | None, Field(description="run this stage even if nothing changed")]
Until = Annotated[Literal["clean", "pack"], Field(description="the last stage; clean: to look at the data card")]
ThenTrain = Annotated[bool, Field(description="afterwards start train/<corpus> with the same parameters")]
plain = {"cache_policy": NO_CACHE, "persist_result": False}


@task(name="download", task_run_name="download", **plain)
def download(recipe: Recipe, force: bool = False) -> Artifact:
    """Raw files, from Kaggle, HTTPS, a local folder or this Python itself."""
    return execute("download", recipe, {}, force)


@task(name="clean", task_run_name="clean", **plain)
def clean(raw: Artifact, recipe: Recipe, force: bool = False) -> Artifact:
    """Documents that keep their contract, rejects with a reason, and the split into training and held-out."""
    return execute("clean", recipe, {"download": raw}, force)


@task(name="tokenize", task_run_name="tokenize", **plain)
def fit_tokenizer(documents: Artifact, recipe: Recipe, force: bool = False) -> Artifact:
    """A SentencePiece model of the training documents."""
    return execute("tokenize", recipe, {"clean": documents}, force)


@task(name="pack", task_run_name="pack", **plain)
def pack(documents: Artifact, tokenizer: Artifact, recipe: Recipe, force: bool = False) -> Artifact:
    """Token shards, their document index, and the baselines on the held-out bytes."""
    return execute("pack", recipe, {"clean": documents, "tokenize": tokenizer}, force)


@task(name="train", task_run_name="train", **plain)
def fit_decoder(sequences: Artifact, tokenizer: Artifact, recipe: Recipe, force: bool = False) -> Artifact:
    """The decoder, its best weights, and its evaluations."""
    return execute("train", recipe, {"tokenize": tokenizer, "pack": sequences}, force)


@flow(name="prepare", flow_run_name="{corpus}", persist_result=False)
def prepare(
    corpus: Corpus,
    size: ModelSize = None,
    steps: Steps = None,
    minutes: Minutes = None,
    overrides: Overrides = {},  # noqa: B006
    source: SourcePath = None,
    force: Force = None,
    until: Until = "pack",
    then_train: ThenTrain = False,
) -> Artifact:
    """The stages of a corpus that need no GPU, for a training that then finds them done. Recorded by no MLflow run."""
    asked = {"size": size, "steps": steps, "minutes": minutes, "overrides": overrides, "source": source}
    recipe = recipes.load(corpus, **asked)
    with in_use(shared_home()):
        raw = download(recipe, force == "download")
        made = documents = clean(raw, recipe, force == "clean")
        if until == "pack":
            tokenizer = fit_tokenizer(documents, recipe, force == "tokenize")
            made = pack(documents, tokenizer, recipe, force == "pack")
    if then_train:
        asked |= {"corpus": corpus, "force": force if force == "train" else None}
        try:
            run_deployment(f"train/{corpus}", parameters=asked, timeout=0, as_subflow=False)
        except ObjectNotFound:
            raise UserError(f"train/{corpus} is not deployed here: prefect --no-prompt deploy --all") from None
    return made.result() if isinstance(made, State) else made  # a reused one comes as its state


@flow(name="train", flow_run_name="{corpus}", persist_result=False)
def train(
    corpus: Corpus,
    size: ModelSize = None,
    steps: Steps = None,
    minutes: Minutes = None,
    overrides: Overrides = {},  # noqa: B006
    source: SourcePath = None,
    force: Force = None,
) -> dict:
    """Train a GPT on a corpus, reusing every stage whose inputs, parameters and code are unchanged."""
    return pipeline(
        recipes.load(corpus, size=size, steps=steps, minutes=minutes, source=source, overrides=overrides), force
    )


def pipeline(recipe: Recipe, force: str | None = None, reproduces: str = "") -> dict:
    """The five stages of a recipe as one MLflow run, within a flow. reproduces: the run that they are to give again."""
    with in_use(shared_home()), tracking.run(recipe) as tracker:
        if reproduces:
            tracker.tags({"reproduces": reproduces})
        raw = download(recipe, force == "download")
        documents = clean(raw, recipe, force == "clean")
        tokenizer = fit_tokenizer(documents, recipe, force == "tokenize")
        sequences = pack(documents, tokenizer, recipe, force == "pack")
        recipe = recipes.settled(recipe, tracker.stages["clean"].counts["train_bytes"])
        tracker.settled(recipe)
        fit_decoder(sequences, tokenizer, recipe, force == "train")
        return report.finish(recipe, tracker, named=not reproduces)
