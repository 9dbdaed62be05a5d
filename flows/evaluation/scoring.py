"""How a trained model does on the held-out text of any corpus: nats of each document, in tokens of the model's own.

The text is the raw one of a clean artifact, its bytes counted there. A model encodes it with its own tokenizer and is evaluated
as its trainer does it: packed as it was trained, in sequences of its own T, every token scored once, the ends of documents
context only. So on its own corpus's text a model gets its `val_bpb` again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import polars as pl

from flows import UserError
from flows.models import lookup
from flows.store.artifacts import Store, describe

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

    from gpt.evaluation.score import Evaluation
    from gpt.machine.device import Machine
    from gpt.model.transformer import GPT
    from tokenizers.tokenizer import Tokenizer

BYTES = 4_000_000  # of a corpus's held-out text: all of every corpus but wiki, in seconds a model
WEIGHTS = "model/model.safetensors"


@dataclass(frozen=True)
class Entrant:
    """A trained model, and what this home knows of its making."""

    name: str
    folder: Path
    made: dict | None
    """manifest of the training artifact with these weights; None where another home trained it, or it was pruned"""
    packed: dict | None
    """manifest of the packed artifact that it learned from, if that is still here"""

    @property
    def corpus(self) -> str:
        return self.made["corpus"] if self.made else ""

    @property
    def packing(self) -> dict:
        """strategy and document_mask of the sequences that it learned from; the common ones where that is not known."""
        known = self.packed["parameters"]["pack"] if self.packed else {}
        return {"strategy": known.get("strategy", "concat"), "document_mask": known.get("document_mask", False)}


@dataclass(frozen=True)
class Text:
    """What is held out of a corpus, or a part of it."""

    name: str
    corpus: str
    digest: str
    """of the clean artifact"""
    documents: pl.DataFrame
    """doc_id, text and n_bytes, in the order of the split"""
    of_documents: int
    """how many are held out in all"""
    of_bytes: int
    baselines: dict[str, float]
    """bits per byte of all that is held out"""

    @property
    def n_bytes(self) -> int:
        return self.documents["n_bytes"].sum()

    @property
    def is_cut(self) -> bool:
        return len(self.documents) < self.of_documents

    def without(self, doc_ids: pl.Series) -> Text:
        return replace(self, documents=self.documents.filter(~pl.col("doc_id").is_in(doc_ids.implode())))


@dataclass(frozen=True)
class Loaded:
    """A model ready to score and to write."""

    model: GPT
    writer: SentencePieceProcessor
    tokenizer: Tokenizer
    packing: dict
    machine: Machine


def find(store: Store, name: str) -> Entrant:
    """The model of any name that `lookup.find` takes; its making is known by its weights. Raises UserError for none."""
    folder = lookup.find(name)
    try:
        weights = describe(folder / Path(WEIGHTS).name)
    except OSError as error:
        raise UserError(f"model {name!r} has no weights: {error.strerror}: {folder}") from None
    made = next((m for m in reversed(store.manifests("*", "train")) if m["files"].get(WEIGHTS) == weights), None)
    packed = made and store.made_from(made, "pack")
    return Entrant(name, folder, made, packed)


def held_out(corpus: str, clean: Path, digest: str, baselines: dict[str, float], limit: int = BYTES) -> Text:
    """The held-out documents of a clean artifact. Of more than `limit` bytes, those whose ids come first: they are hashes, so
    that is a draw, the same whenever it is made. At least one document."""
    plan = pl.scan_parquet(sorted((clean / "documents").glob("*.parquet"))).filter(pl.col("split") == "val")
    known = plan.select("doc_id", "n_bytes").collect()
    drawn = known.sort("doc_id").filter((pl.col("n_bytes").cum_sum() <= limit) | (pl.int_range(pl.len()) == 0))
    documents = (
        plan.filter(pl.col("doc_id").is_in(drawn["doc_id"].implode())).select("doc_id", "text", "n_bytes").collect()
    )
    return Text(corpus, corpus, digest, documents, len(known), known["n_bytes"].sum(), baselines)


def trained_on(entrant: Entrant, text: Text) -> pl.Series:
    """Which of these documents the model learned from, by their ids: held out now, they were not when it was trained.

    Only its own corpus is looked at, and nothing is known where its packed artifact is gone.
    """
    import numpy as np

    from gpt.data.dataset import Dataset

    wanted = text.documents["doc_id"]
    if not entrant.packed or entrant.corpus != text.corpus:
        return wanted.clear()
    known = Dataset.open(Path(entrant.packed["path"])).splits["train"].index["doc_id"]
    return wanted.filter(np.isin(np.array([name.encode() for name in wanted], "S32"), known))


def load(entrant: Entrant, machine: Machine) -> Loaded:
    """Raises GPTError or TokenizerError, that names the file, for a model that cannot be used."""
    from gpt.generation.sample import load as read
    from tokenizers.tokenizer import Tokenizer

    model, writer = read(entrant.folder, machine.device)
    return Loaded(model, writer, Tokenizer(entrant.folder / "tokenizer.model"), entrant.packing, machine)


def score(loaded: Loaded, text: Text, on_batch: Callable[[int, int], None] = lambda done, total: None) -> Evaluation:
    """The model's evaluation on these documents, in their order."""
    import numpy as np

    from gpt.data.dataset import Dataset, Description, Split
    from gpt.data.shards import Documents, Writer
    from gpt.evaluation.score import evaluate

    tokenizer, documents, machine = loaded.tokenizer, text.documents, loaded.machine
    about = Description(
        vocab_size=tokenizer.vocab_size,
        block_size=loaded.model.config.block_size,
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        tokenizer_fingerprint=tokenizer.fingerprint,
        **loaded.packing,
    )
    ids, lengths = tokenizer.encode_flat(documents["text"].to_list())
    n, names = len(documents), documents["doc_id"].to_list()
    with TemporaryDirectory() as place:
        folder = Path(place)
        with Writer(folder, "val", about.kind) as writer:
            writer.add(Documents(names, ids, lengths, documents["n_bytes"].to_numpy(), [text.corpus] * n, np.arange(n)))
        packed = Dataset(folder, about, {"val": Split(writer.shards)})
        return evaluate(loaded.model, packed, device=machine.device, dtype=machine.dtype, on_batch=on_batch)
