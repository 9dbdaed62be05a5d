"""Run one stage through the store, and show it in Prefect and MLflow: what every task of the flow does."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed

from flows.home import GPU
from flows.pages.render import card_markdown
from flows.progress import log_line, progress_bar, show_page
from flows.recipe import Recipe
from flows.stages.definitions import STAGES, Job
from flows.store.artifacts import Artifact, Store
from flows.tracking.run import Tracker, current_tracker

LEASE = 60.0  # seconds until the slot of a killed training is free again; Prefect's shortest
CARDS = {"clean": "data-card", "tokenize": "tokenizer-card", "pack": "packing-report"}
SUMMARIES = {
    "download": "{files:,} files, {bytes:,} bytes",
    "clean": "{documents:,} documents kept, {rejects:,} dropped",
    "tokenize": "{vocab_size:,} pieces from {sampled_bytes:,} bytes",
    "pack": "{train_tokens:,} tokens to train on, {val_tokens:,} to choose by, {test_tokens:,} to report on",
    "train": "{test_bpb:.3f} bits per byte at step {best_step:,} of {steps:,}",
}
LogSamples = Callable[[Tracker, int, Path, Recipe], None]


def run_stage(
    name: str, recipe: Recipe, inputs: dict[str, Artifact], force: bool, log_samples: LogSamples | None = None
) -> Artifact:
    """The stage's artifact; a reused one in a `Reused` state, which Prefect shows, and resolves where it is an input.

    log_samples(tracker, step, folder, recipe): called after each evaluation of a training, with the folder of its checkpoint.
    """
    stage, tracker, store = STAGES[name], current_tracker.get(), Store()
    parameters, log_step = stage.parameters(recipe), tracker.step if tracker else lambda step, metrics: None

    def log_evaluation(step: int, metrics: dict[str, float], folder: Path, best: bool) -> None:
        if tracker:
            tracker.evaluation(step, metrics, folder, best)
            if log_samples:
                with tracker.assessing():
                    log_samples(tracker, step, folder, recipe)

    def make(folder: Path) -> dict:  # only for what is not reused, so that only a real training waits for its turn
        job = Job(recipe, parameters, inputs, folder, report, log_step, log_evaluation, force)
        with turn(recipe.runtime.processes) if name == "train" else nullcontext():
            return stage.make(job)

    with progress_bar(name) as report:
        digests = {name: artifact.digest for name, artifact in inputs.items()}
        key_parts = recipe.corpus, name, parameters, digests, stage.code(recipe)
        artifact = store.build(*key_parts, make, resumable=stage.resumable, force=force)
    if tracker:
        tracker.stage(artifact)
    if name in CARDS:
        show_page(card_markdown(artifact.folder / "card"), f"{CARDS[name]}-{recipe.corpus}")
    took = "reused" if artifact.reused else f"{artifact.seconds:.1f} s"
    log_line(f"{name:<9} {took:<8} {SUMMARIES[name].format(**artifact.counts)}")
    for note in artifact.counts.get("notes", ()):
        log_line(f"{'':<9} {'':<8} {note}")
    if artifact.reused:
        message = f"{recipe.corpus}/{name}/{artifact.key} is up to date"
        return Completed(name="Reused", message=message, data=artifact)  # type: ignore[return-value]
    return artifact


@contextmanager
def turn(processes: int) -> Iterator[None]:
    """Hold a slot of the server's limit for each device, and wait for it: for all that computes on a device. Without a server,
    or its limit, go on without."""
    held = ExitStack()
    try:
        with suppress(ObjectNotFound), get_client(sync_client=True) as client:
            limit = client.read_global_concurrency_limit_by_name(GPU)
            slots = min(processes, limit.limit)
            if limit.active_slots + slots > limit.limit:
                log_line(f"waiting for {slots} of the slots of {GPU}: other runs have them")
            # A server that is away for a while costs the slot, not the training.
            held.enter_context(concurrency(GPU, slots, lease_duration=LEASE, raise_on_lease_renewal_failure=False))
    except Exception as error:
        log_line(f"no slot of {GPU} to be had, going on without: {type(error).__name__}: {str(error)[:200]}")
    try:
        yield
    finally:
        with suppress(Exception):
            held.close()
