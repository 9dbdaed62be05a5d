"""Find where the batch of a training step came from: its documents, and the file and row of each in the raw data."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flows import UserError
from flows.evaluation import scoring
from flows.stages.definitions import read_tokenizer
from flows.store.artifacts import Store
from gpt.data.dataset import IGNORE, Batch, Dataset
from gpt.data.shards import read_sources

SHOWN_CHARS = 60  # of each piece, to recognise it by


def explain(run: str, step: int) -> tuple[str, list[dict]]:
    """A title, and a row for each document, or piece of one, in the batch of update number `step` (from 1, as MLflow counts).

    run: a run id, a corpus (its champion), or a registered model. Raises UserError if the run, its data or the step does
    not exist.
    """
    store = Store()
    model = scoring.find(store, run)
    training, packed = model.training, model.packed
    raw = store.made_from(model.clean, "download") if model.clean else None
    if not training or not packed or not raw:
        raise UserError(f"what {run} was trained on is not in this home (pruned, or made elsewhere)")
    settings, steps = training["parameters"]["train"], training["counts"]["steps"]
    if not 1 <= step <= steps:
        raise UserError(f"--step {step} is not within 1 and {steps}, the steps of this run")
    about = raw["parameters"]
    source = " ".join(str(about[name]) for name in ("handle", "version", "url") if about.get(name))
    dataset = Dataset.open(Path(packed["path"]))
    tokenizer = read_tokenizer(dataset.folder)
    index, files = dataset.splits["train"].index, read_sources(dataset.folder)
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
