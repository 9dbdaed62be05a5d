"""Lists MLflow's runs: by corpus, by the data that they were trained on, or the best of each corpus."""

import re
from datetime import UTC, datetime

import mlflow
from mlflow.entities import Run, ViewType

from flows import UserError
from flows.recipe import CORPUS_PATTERN
from flows.tracking import outbox
from flows.tracking.connection import answering, experiment_id

MOST = 100_000  # runs that are looked through
MEASURE = "train/test_bpb"


def listing(corpus: str = "", dataset_digest: str = "", best: bool = False, limit: int = 20) -> list[dict]:
    """Runs, newest first, as run, corpus, kind, started (UTC), status, steps, test_bpb, val_bpb, best_baseline and model, None
    where a run has none.

    dataset_digest: the beginning of the digest of a download, clean or pack artifact: only runs that made or reused a model
    from these bytes. best: of each corpus the run with the fewest bits per byte, among those measured on the held-out documents
    of its newest. limit: 0 for all. Raises UserError when MLflow does not answer, or for what is no digest.
    """
    if dataset_digest and not re.fullmatch(r"[0-9a-f]{4,64}", dataset_digest):
        what = "no beginning of a digest: 4 to 64 hex digits (gpt artifacts)"
        raise UserError(f"--dataset-digest {dataset_digest!r} is {what}")
    if corpus and not re.fullmatch(CORPUS_PATTERN, corpus):
        raise UserError(f"--corpus {corpus!r} is no name of a corpus")
    experiment = experiment_id()
    outbox.sync()
    wanted = [f"tags.corpus = '{corpus}'"] if corpus else []
    if dataset_digest:  # of what a run used, MLflow has 32 digits
        wanted += [f"dataset.digest LIKE '{dataset_digest[:32]}%'", f"metrics.`{MEASURE}` > 0"]
    enough, order = limit if limit and not best else MOST, ["attributes.start_time DESC"]
    with answering():
        which = [experiment], " AND ".join(wanted), ViewType.ACTIVE_ONLY, enough, order
        chosen = mlflow.search_runs(*which, output_format="list")
    return [_row(run) for run in (_best(chosen)[: limit or None] if best else chosen)]


def _best(runs: list[Run]) -> list[Run]:
    """Of each corpus the best. runs: newest first."""
    found: dict[str, Run] = {}  # A reused model has equally good runs; the newest of them stands for it.
    for run in runs:
        if MEASURE in run.data.metrics and "corpus" in run.data.tags:
            best = found.setdefault(run.data.tags["corpus"], run)
            if _held_out(run) == _held_out(best) and run.data.metrics[MEASURE] < best.data.metrics[MEASURE]:
                found[run.data.tags["corpus"]] = run
    return list(found.values())


def _held_out(run: Run) -> str:
    """What names the held-out documents that a run was measured on."""
    inputs = run.inputs.dataset_inputs if run.inputs else ()
    digests = {
        tag.value: item.dataset.digest for item in inputs for tag in item.tags if tag.key == "mlflow.data.context"
    }
    return digests.get("tokens/test", "")


def _row(run: Run) -> dict:
    tags, metrics = run.data.tags, run.data.metrics
    steps = metrics.get("train/steps", run.data.params.get("train.steps"))
    return {
        "run": run.info.run_id,
        "corpus": tags.get("corpus"),
        "kind": tags.get("kind", "train"),
        "started": datetime.fromtimestamp(run.info.start_time / 1000, UTC).isoformat(" ", "seconds")[:19],
        "status": run.info.status.lower(),
        "steps": int(steps) if steps is not None else None,
        "test_bpb": metrics.get(MEASURE),
        "val_bpb": metrics.get("train/val_bpb"),
        "best_baseline": metrics.get("baseline/best"),
        "model": tags["model"].removeprefix("models:/") if "model" in tags else None,
    }
