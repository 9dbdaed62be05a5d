"""Where the batch of a training step came from: its documents, and the file and row of the raw data that each was."""

import re
from dataclasses import dataclass

import numpy as np

from flows import UserError
from flows.home import shared_home
from flows.models.lookup import REGISTERED, mlflow_run, version_of
from flows.store.artifacts import Store

TEXT_CHARS = 60  # of each piece, to be recognised by


@dataclass(frozen=True)
class Explanation:
    says: str
    """which step of what, in a line"""
    rows: list[dict]
    """a row a piece of a document in the batch, in order"""


def explain(run: str, step: int) -> Explanation:
    """The documents of the batch that update number `step` (from 1, as MLflow counts) learned from.

    run: a run id, a corpus (its newest model), or a registered model. Raises UserError when the run, its data or the step is
    not there.
    """
    store = Store(shared_home())
    decoder = _decoder(store, run)
    train, corpus, steps = decoder["parameters"]["train"], decoder["corpus"], decoder["counts"]["steps"]
    if not 1 <= step <= steps:
        raise UserError(f"--step {step} is not within 1 and {steps}, the steps of this run")
    packed = _made_from(store, decoder, "pack")
    documents = _made_from(store, packed, "clean")
    raw = _made_from(store, documents, "download")["parameters"]
    where = (
        " ".join(str(raw[name]) for name in ("handle", "version", "url") if raw.get(name)) or "files of this machine"
    )

    from gpt.data.dataset import PAD_TARGET, Dataset
    from tokenizers.tokenizer import Tokenizer

    dataset = Dataset.open(packed["path"])
    tokenizer = Tokenizer(dataset.tokenizer)
    index, sources = dataset.splits["train"].index, dataset.sources()
    batch = dataset.batch(step - 1, train["batch_size"], train["seed"])
    rows = []
    for sequence, (targets, of) in enumerate(zip(batch.targets_BT, batch.documents_BT, strict=True)):
        starts = np.flatnonzero(np.diff(of, prepend=-2))
        for start, end in zip(starts, [*starts[1:], len(of)], strict=True):
            if targets[start] == PAD_TARGET:
                continue
            known, text = index[of[start]], tokenizer.decode(t for t in targets[start:end] if t != dataset.eos_id)
            rows.append(
                {
                    "sequence": sequence,
                    "tokens": int(end - start),
                    "of": int(known["length"]) + 1,
                    "document": known["doc_id"].decode(),
                    "file": sources[known["source"]],
                    "row": int(known["row"]),
                    "text": " ".join(text.split())[:TEXT_CHARS],
                }
            )
    shape = f"{train['batch_size']} sequences of {dataset.block_size} tokens"
    return Explanation(f"step {step} of {steps}, {corpus} from {where}: {shape}", rows)


def _decoder(store: Store, run: str) -> dict:
    """The manifest of the training artifact that a run made or reused."""
    if re.fullmatch(r"[a-z0-9-]+", run) and (found := store.manifests(run, "train")):
        return found[-1]
    if re.fullmatch(REGISTERED, run):
        wanted = {"digest": version_of(run).tags.get("digest")}
    elif re.fullmatch(r"[0-9a-f]{32}", run):
        tags = mlflow_run(run).data.tags
        wanted = {"corpus": tags.get("corpus"), "key": tags.get("train.key")}
        if not wanted["key"]:
            raise UserError(f"run {run} trained nothing (it is {tags.get('error') or 'unfinished'})")
    else:
        raise UserError(
            f"run {run!r} is not known; give a run id, a corpus, or gpt-<corpus>@champion (gpt artifacts lists what is)"
        )
    for manifest in store.manifests(wanted.get("corpus", "*"), "train"):
        if all(manifest[name] == value for name, value in wanted.items()):
            return manifest
    raise UserError(f"the model of {run} is no longer among the artifacts of this home (pruned?)")


def _made_from(store: Store, manifest: dict, stage: str) -> dict:
    """The manifest of an input."""
    if found := store.made_from(manifest, stage):
        return found
    digest = manifest["inputs"][stage][:12]
    raise UserError(
        f"{manifest['corpus']}/{stage} with digest {digest}, which the run was made from, is gone (pruned?)"
    )
