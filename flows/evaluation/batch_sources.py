"""Find where the batch of a training step came from: its documents, and the file and row of each in the raw data."""

from collections.abc import Iterator

import numpy as np

from flows import UserError
from flows.home import shared_home
from flows.models.lookup import mlflow_run, run_id, training_of
from flows.store.artifacts import Store
from flows.tracking.connection import digest_of_stage
from gpt.data.dataset import IGNORE, Batch, Dataset
from tokenizers.tokenizer import Tokenizer

SHOWN_CHARS = 60  # of each piece, to recognise it by


def explain(run: str, step: int) -> tuple[str, list[dict]]:
    """A title, and a row for each document, or piece of one, in the batch of update number `step` (from 1, as MLflow counts).

    run: a run id, a corpus (its champion), or a registered model. Raises UserError if the run, its data or the step does
    not exist.
    """
    store = Store(shared_home())
    training = _training(store, run)
    settings, steps = training["parameters"]["train"], training["counts"]["steps"]
    if not 1 <= step <= steps:
        raise UserError(f"--step {step} is not within 1 and {steps}, the steps of this run")
    packed = _input(store, training, "pack")
    raw = _input(store, _input(store, packed, "clean"), "download")["parameters"]
    source = " ".join(str(raw[name]) for name in ("handle", "version", "url") if raw.get(name))
    dataset = Dataset.open(packed["path"])
    tokenizer = Tokenizer(dataset.tokenizer)
    index, files = dataset.splits["train"].index, dataset.sources()
    batch = dataset.batch(step - 1, settings["batch_size"], settings["seed"])
    rows = []
    for sequence, place, number in _pieces(batch):
        document = index[number]
        tokens = batch.targets_BT[sequence, place]
        text = " ".join(tokenizer.decode(token for token in tokens if token != dataset.eos_id).split())
        row = {"sequence": sequence, "tokens": len(tokens), "of": int(document["length"]) + 1}
        row |= {"document": document["doc_id"].decode(), "file": files[document["source"]], "row": int(document["row"])}
        rows.append(row | {"text": text[:SHOWN_CHARS]})
    shape = f"{settings['batch_size']} sequences of {dataset.block_size} tokens"
    where = f"{training['corpus']} from {source or 'files of this machine'}"
    return f"step {step} of {steps}, {where}: {shape}", rows


def _pieces(batch: Batch) -> Iterator[tuple[int, slice, int]]:
    """(sequence, its positions, number of the document) for each run of positions in one document, without padding."""
    for sequence, documents in enumerate(batch.documents_BT):
        starts = np.flatnonzero(np.diff(documents, prepend=-2))
        for start, end in zip(starts, [*starts[1:], len(documents)], strict=True):
            if batch.targets_BT[sequence, start] != IGNORE:
                yield sequence, slice(start, end), documents[start]


def _training(store: Store, run: str) -> dict:
    """The manifest of the training artifact that a run made or reused."""
    if found := training_of(run):
        return found
    tags = mlflow_run(run_id(run)).data.tags
    if not (digest := digest_of_stage(tags, "train")):
        raise UserError(f"run {run} trained nothing (it is {tags.get('error') or 'unfinished'})")
    for manifest in store.manifests(tags["corpus"], "train"):
        if manifest["digest"] == digest:
            return manifest
    raise UserError(f"the model of {run} is no longer among the artifacts of this home (pruned?)")


def _input(store: Store, manifest: dict, stage: str) -> dict:
    """The manifest of the input that an artifact was made from."""
    if found := store.made_from(manifest, stage):
        return found
    what = f"{manifest['corpus']}/{stage} with digest {manifest['inputs'][stage][:12]}"
    raise UserError(f"{what}, which the run was made from, is gone (pruned?)")
