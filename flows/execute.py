"""Run one stage through the store, and tell Prefect and MLflow of it: what every task of the flow does."""

from prefect.states import Completed

from flows import progress, tracking
from flows.environment import home
from flows.recipes import Recipe
from flows.stages import STAGES, Job
from flows.store import Artifact, Store


def execute(name: str, recipe: Recipe, inputs: dict[str, Artifact], force: bool):
    """The stage's artifact; a reused one as a `Reused` state, which Prefect shows and the caller receives as the artifact."""
    stage, tracker = STAGES[name], tracking.current()
    parameters = stage.parameters(recipe)
    with progress.bar(name) as report:
        artifact = Store(home(), progress.say).build(
            recipe.corpus,
            name,
            parameters,
            {name: artifact.digest for name, artifact in inputs.items()},
            stage.code(recipe),
            lambda folder: stage.make(
                Job(recipe, parameters, inputs, folder, report, tracker.step, tracker.evaluation)
            ),
            resumable=stage.resumable,
            force=force,
        )
    tracker.stage(artifact)
    took = "reused" if artifact.reused else f"{artifact.seconds:.1f} s"
    progress.say(f"{name:<9} {took:<8} {summary(artifact)}")
    if artifact.reused:
        return Completed(name="Reused", message=f"{recipe.corpus}/{name}/{artifact.key} is up to date", data=artifact)
    return artifact


def summary(artifact: Artifact) -> str:
    """The counts worth a line."""
    line = {
        "download": "{files:,} files, {bytes:,} bytes",
        "clean": "{documents:,} documents kept, {rejects:,} dropped",
        "tokenize": "{vocab_size:,} pieces from {sampled_bytes:,} bytes",
        "pack": "{train_tokens:,} tokens to train on, {val_tokens:,} held out",
        "train": "{val_bpb:.3f} bits per byte at step {best_step:,} of {steps:,}",
    }
    return line[artifact.stage].format(**artifact.counts)
