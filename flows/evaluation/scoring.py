"""Score a trained model on the held-out documents of any corpus: nats of each document, which add up to bits per byte.

The text is the test split of a clean artifact, whose bytes were counted there.
A model is scored as its trainer evaluates it: the text is encoded by the model's own tokenizer and packed as the model was
trained, in sequences of its own T; every token is scored once, and ends of documents do not count. So on the held-out text of
its own corpus a model has its `test_bpb` again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from flows import UserError
from flows.models import lookup
from flows.stages.definitions import HELD_OUT, read_tokenizer
from flows.store.artifacts import Artifact, Store, describe
from gpt.config import Runtime
from gpt.data.dataset import Dataset, Description
from gpt.data.shards import Documents, write_shard

if TYPE_CHECKING:  # these load torch
    from gpt.evaluation.score import Evaluation
    from gpt.machine.device import Machine
    from gpt.model.transformer import GPT
    from tokenizers.tokenizer import Tokenizer

MAX_BYTES = 4_000_000  # of a corpus's held-out text: all of it for every corpus but wiki, and seconds a model
WEIGHTS = "model/model.safetensors"


@dataclass(frozen=True)
class TrainedModel:
    """A trained model, and the artifacts of this home that belong to it."""

    name: str
    folder: Path
    training: dict | None
    """manifest of the training artifact that holds these weights; None if it was made elsewhere, or pruned"""
    packed: dict | None
    """manifest of the packed artifact that the model was trained on; None if it is not here"""
    clean: dict | None = None
    """manifest of the documents that were packed; None if they are not here"""

    @property
    def corpus(self) -> str:
        return self.training["corpus"] if self.training else ""


@dataclass(frozen=True)
class LoadedModel:
    """A model that is ready to score and to generate."""

    model: GPT
    tokenizer: Tokenizer
    document_mask: bool
    """of its training, as far as that is known"""
    machine: Machine


@dataclass(frozen=True)
class HeldOut:
    """The held-out documents of a corpus, or some of them."""

    name: str
    clean: Artifact
    """that they are from"""
    documents: pl.DataFrame
    """as in the clean artifact, in the order of the split"""
    baselines: dict[str, float] = field(default_factory=dict)
    """bits per byte of all that is held out"""

    @property
    def n_bytes(self) -> int:
        return int(self.documents["n_bytes"].sum())

    @property
    def of_documents(self) -> int:
        """How many are held out in all."""
        return self.clean.counts[f"{HELD_OUT}_documents"]


def find(store: Store, name: str) -> TrainedModel:
    """The model of any name that `lookup.find` takes. Its artifacts are found by its weights. Raises UserError for none."""
    folder = lookup.find(name)
    try:
        weights = describe(folder / Path(WEIGHTS).name)
    except OSError as error:
        raise UserError(f"model {name!r} has no weights: {error.strerror}: {folder}") from None
    training = next((m for m in reversed(store.manifests("*", "train")) if m["files"].get(WEIGHTS) == weights), None)
    packed = training and store.made_from(training, "pack")
    return TrainedModel(name, folder, training, packed, packed and store.made_from(packed, "clean"))


def held_out(clean: Artifact, limit: int = MAX_BYTES) -> HeldOut:
    """The held-out documents of a clean artifact: at least one, and at most `limit` bytes.

    Of more, those whose ids come first are taken. Ids are hashes, so this is a random sample, and the same every time.
    """
    split = documents(clean.folder, HELD_OUT)
    sizes = split.select("doc_id", "n_bytes").collect()
    drawn = sizes.sort("doc_id").filter((pl.col("n_bytes").cum_sum() <= limit) | (pl.int_range(pl.len()) == 0))
    wanted = split.filter(pl.col("doc_id").is_in(drawn["doc_id"].implode())).drop("split")
    return HeldOut(clean.corpus, clean, wanted.collect())


def trained_on(model: TrainedModel, text: HeldOut) -> pl.Series:
    """The ids of these documents that the model was trained on: when it was trained, they were not held out.

    They are found by the place that they come from, whatever the rules made of them then, and by their text. A part of a source
    that was divided otherwise then, or not at all, counts if any part of it was trained on. Empty for the very text that was
    held out then, for another corpus, and where the documents that the model was trained on are gone.
    """
    held_out = text.documents
    if not model.clean or model.corpus != text.clean.corpus or model.clean["digest"] == text.clean.digest:
        return held_out["doc_id"].clear()
    trained = documents(Path(model.clean["path"]), "train")

    def among(key: pl.Expr) -> pl.Series:
        wanted = held_out.select(key).to_series()
        known = trained.select(key.alias("key")).filter(pl.col("key").is_in(wanted.implode())).unique().collect()
        return wanted.is_in(known["key"].implode())

    place = pl.col("place")
    parts = among(place.str.slice(0, 16)) & ~among(place.str.slice(0, 24))
    return held_out["doc_id"].filter(among(pl.col("doc_id")) | among(place) | parts)


def documents(folder: Path, split: str) -> pl.LazyFrame:
    """folder: of a clean artifact."""
    return pl.scan_parquet(folder / "documents", glob=False).filter(pl.col("split") == split)


def load(model: TrainedModel, runtime: Runtime) -> LoadedModel:
    """Raises GPTError or TokenizerError, which name the file, for a model that cannot be used."""
    from gpt.generation import sample
    from gpt.machine.device import prepare

    machine = prepare(runtime)
    decoder, _ = sample.load(model.folder, machine.device)
    known = model.packed["parameters"]["pack"] if model.packed else {}
    return LoadedModel(decoder, read_tokenizer(model.folder), known.get("document_mask", False), machine)


def score(loaded: LoadedModel, text: HeldOut, on_batch: Callable[[int, int], None] = lambda *_: None) -> Evaluation:
    """The model's evaluation on these documents, in their order. on_batch(done, total): after each batch."""
    from gpt.evaluation.score import evaluate

    tokenizer, documents, machine = loaded.tokenizer, text.documents, loaded.machine
    T, eos_id, pad_id = loaded.model.config.block_size, tokenizer.eos_id, tokenizer.pad_id
    description = Description(tokenizer.vocab_size, T, eos_id, pad_id, tokenizer.fingerprint, loaded.document_mask)
    ids, lengths = tokenizer.encode_flat(documents["text"].to_list())
    n, doc_ids, n_bytes = len(documents), documents["doc_id"].to_list(), documents["n_bytes"].to_numpy()
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        encoded = Documents(doc_ids, ids, lengths, n_bytes, [text.clean.corpus] * n, np.arange(n))
        packed = Dataset(folder, description, {"val": write_shard(folder, "val", [encoded], description)})
        return evaluate(loaded.model, packed, device=machine.device, dtype=machine.dtype, on_batch=on_batch)
