"""Lists MLflow's runs: by corpus, by the data that they were trained on, or the best of each corpus."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import mlflow
from mlflow.entities import Run

from flows import UserError
from flows.tracking import outbox
from flows.tracking.connection import answering, experiment_id

MOST = 100_000  # runs that are looked through
MEASURE = "train/val_bpb"
DIGESTS = ("download.digest", "clean.digest", "pack.digest")


@dataclass(frozen=True)
class Listing:
    rows: list[dict]
    """run, corpus, kind, started (UTC), status, steps, val_bpb, model; None where a run has none"""
    note: str = ""
    """what is left out, and why"""


def listing(corpus: str = "", dataset_digest: str = "", best: bool = False, limit: int = 20) -> Listing:
    """Runs, newest first.

    dataset_digest: the beginning of the digest of a download, clean or pack artifact: only runs that made or reused a model
    from these bytes. best: of each corpus the run with the fewest bits per byte, among those measured on the held-out documents
    of its newest. limit: 0 for all. Raises UserError when MLflow does not answer, or for what is no digest.
    """
    if dataset_digest and not re.fullmatch(r"[0-9a-f]{4,64}", dataset_digest):
        raise UserError(
            f"--dataset-digest {dataset_digest!r} is no beginning of a digest: 4 to 64 hex digits (gpt artifacts)"
        )
    experiment = experiment_id()
    outbox.sync()
    filters = [f"tags.corpus = '{corpus}'"] if re.fullmatch(r"[a-z0-9-]+", corpus) else []
    if corpus and not filters:
        raise UserError(f"--corpus {corpus!r} is no name of a corpus")
    wanted = [f"tags.`{name}` LIKE '{dataset_digest}%'" for name in DIGESTS] if dataset_digest else [""]
    enough = limit if limit and not best and not dataset_digest else MOST
    with answering():
        found = {
            run.info.run_id: run
            for one in wanted
            for run in mlflow.search_runs(
                [experiment],
                " and ".join(filter(None, [*filters, one])),
                max_results=enough,
                order_by=["attributes.start_time DESC"],
                output_format="list",
            )
        }
    chosen = sorted(found.values(), key=lambda run: run.info.start_time, reverse=True)
    if dataset_digest:
        chosen = [run for run in chosen if "train.digest" in run.data.tags]
    note = ""
    if best:
        chosen, others = _best(chosen)
        note = f"{others} measured on other held-out documents, which do not compare, left out" if others else ""
    return Listing([_row(run) for run in chosen[: limit or None]], note)


def _best(runs: list[Run]) -> tuple[list[Run], int]:
    """Of each corpus the best, and how many runs do not compare with it. runs: newest first."""
    measured: dict[str, list[Run]] = {}
    for run in runs:
        if MEASURE in run.data.metrics:
            measured.setdefault(run.data.tags.get("corpus", ""), []).append(run)
    chosen, others = [], 0
    for of_corpus in measured.values():
        same = [run for run in of_corpus if _held_out(run) == _held_out(of_corpus[0])]
        chosen.append(min(same, key=lambda run: run.data.metrics[MEASURE]))
        others += len(of_corpus) - len(same)
    return chosen, others


def _held_out(run: Run) -> str:
    """What names the held-out documents that a run was measured on."""
    for item in run.inputs.dataset_inputs if run.inputs else ():
        if any((tag.key, tag.value) == ("mlflow.data.context", "tokens/val") for tag in item.tags):
            return item.dataset.digest
    return ""


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
        "val_bpb": metrics.get(MEASURE),
        "model": tags["model"].removeprefix("models:/") if "model" in tags else None,
    }
