"""Run one stage through the store, and tell Prefect and MLflow of it: what every task of the flow does."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.context import TaskRunContext
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed

from data_contracts import DataError
from flows import progress
from flows.home import GPU, shared_home
from flows.pages.render import card_markdown
from flows.recipe import Recipe
from flows.stages.definitions import STAGES, Job
from flows.store.artifacts import Artifact, Store
from flows.tracking import run as tracking

LEASE = 60.0  # seconds until the slot of a killed training is free again; Prefect's shortest
CARDS = {"clean": "data-card", "tokenize": "tokenizer-card", "pack": "packing-report"}


def execute(name: str, recipe: Recipe, inputs: dict[str, Artifact], force: bool):
    """The stage's artifact; a reused one as a `Reused` state, which Prefect shows and the caller receives as the artifact."""
    stage, tracker = STAGES[name], tracking.current()
    parameters = stage.parameters(recipe)

    def make(folder: Path) -> dict:  # called for what is not reused, so that only a real training waits for its turn
        with turn(recipe.runtime.processes) if name == "train" else nullcontext():
            return stage.make(
                Job(recipe, parameters, inputs, folder, report, tracker.step, partial(_evaluation, recipe))
            )

    try:
        with progress.bar(name) as report:
            artifact = Store(shared_home(), progress.say).build(
                recipe.corpus,
                name,
                parameters,
                {name: artifact.digest for name, artifact in inputs.items()},
                stage.code(recipe),
                make,
                resumable=stage.resumable,
                force=force,
            )
    except DataError as error:
        if error.rows:
            what = str(error).splitlines()[0]
            _tell(create_table_artifact, f"contract-{recipe.corpus}", table=error.rows, description=what)
        raise
    tracker.stage(artifact)
    if name in CARDS:
        _tell(
            create_markdown_artifact, f"{CARDS[name]}-{recipe.corpus}", markdown=card_markdown(artifact.folder / "card")
        )
    took = "reused" if artifact.reused else f"{artifact.seconds:.1f} s"
    progress.say(f"{name:<9} {took:<8} {summary(artifact)}")
    if artifact.reused:
        return Completed(name="Reused", message=f"{recipe.corpus}/{name}/{artifact.key} is up to date", data=artifact)
    return artifact


@contextmanager
def turn(processes: int) -> Iterator[None]:
    """A slot of the server's limit for each device in use, waited for. A server without the limit, or none, is no obstacle."""
    held = ExitStack()
    try:
        with suppress(ObjectNotFound), get_client(sync_client=True) as client:
            limit = client.read_global_concurrency_limit_by_name(GPU)
            slots = min(processes, limit.limit)
            if limit.active_slots + slots > limit.limit:
                progress.say(f"waiting for {slots} of the slots of {GPU}: other trainings have them")
            # A server that is away for a while costs the slot, not the training.
            held.enter_context(concurrency(GPU, slots, lease_duration=LEASE, raise_on_lease_renewal_failure=False))
    except Exception as error:
        progress.say(f"no slot of {GPU} to be had, going on without: {type(error).__name__}: {str(error)[:200]}")
    try:
        yield
    finally:
        with suppress(Exception):
            held.close()


def _evaluation(recipe: Recipe, step: int, metrics: dict[str, float], folder: Path, best: bool) -> None:
    """What comes of an evaluation in the middle of a training: a checkpoint, and what its model writes."""
    from flows.evaluation import assessment

    tracker = tracking.current()
    tracker.evaluation(step, metrics, folder, best)
    with tracker.assessing():
        assessment.log_samples(tracker, step, folder, recipe)


def _tell(create: Callable, key: str, **what: object) -> None:
    """Put something on the task's page. A page without it is no reason to stop."""
    if TaskRunContext.get():
        with suppress(Exception):
            create(key=key, **what)


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
