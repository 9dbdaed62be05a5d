"""The packed dataset: documents as token shards, and the batches drawn from them.

    dataset.json                      the `Description`, and the shard of each split with the SHA-256 of its index
    sources.json                      the files that the documents come from; the index of a shard names them by number
    train-00000.tokens.npy            tokens and document index (gpt.data.shards); of val, too, and of test where there is one
    train-00000.index.npy
    tokenizer.model or .json          the tokenizer that made the tokens, if the packer put it here

Each epoch lays the documents one after another, in an order drawn from (seed, epoch), and cuts this line into sequences of T
tokens; the last one is padded. So in an epoch every token is the target of exactly one position of one sequence. The inputs are
the tokens before the targets; before a document's first token stands an eos. A batch is a pure function of (seed, step), and a
part of it of (seed, step, part): a training that stops and resumes anywhere, on any number of devices, sees the same batches.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gpt import GPTError
from gpt.data.shards import PACK_AGAIN, SOURCES, Documents, Shard, write_shard
from gpt.data.shards import Description as Description
from gpt.data.tokenizer import tokenizer_file
from gpt.settings import from_dict, read_document

FORMAT = "gpt-from-scratch/dataset"
VERSION = 3
SPLITS = ("train", "val", "test")  # test may be missing: then nothing is scored on it
IGNORE = -1  # in the place of a target where there is none
PADDING = -1  # in the place of a document where there is none


class Batch(NamedTuple):
    """Sequences to train on or to score: B of them, int64."""

    ids_BT: np.ndarray  # inputs
    targets_BT: np.ndarray  # the token after each; IGNORE where there is none
    documents_BT: np.ndarray  # the number of each target's document in the split; PADDING where there is no target


class Layout(NamedTuple):
    """The documents of a split in the order in which they lie on a line; n of them. Sequence i is i*T..(i+1)*T of the line."""

    documents: np.ndarray  # (n,) their numbers in the split
    ends: np.ndarray  # (n,) where each ends on the line
    moved: np.ndarray  # (n,) from a token's place on the line to its place in the split
    order: np.ndarray  # (n_sequences,) the sequences, in the order in which the epoch visits them


def write(folder: Path, splits: dict[str, Iterable[Documents]], about: Description) -> dict[str, dict[str, int]]:
    """Write a dataset, some documents at a time.

    folder: made if missing. splits: the documents of "train" and "val", and of "test" if there is one.
    Returns {split: {"tokens": with eos, "documents":, "bytes":}}.
    Raises GPTError for invalid ids (`write_shard`), an empty split, or too large a T.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").unlink(missing_ok=True)  # written last: without it, the folder is no dataset
    (folder / SOURCES).unlink(missing_ok=True)
    parts = {split: write_shard(folder, split, documents, about) for split, documents in splits.items()}
    fewest, split = min((part.n_tokens, split) for split, part in parts.items())
    if about.block_size > fewest:
        raise GPTError(
            f"block_size (T) {about.block_size} is too large: {split} has {fewest} tokens, so T can be at most {fewest}"
        )
    names = {split: {part.name: part.digest} for split, part in parts.items()}
    description = {"format": FORMAT, "version": VERSION} | asdict(about) | {"shards": names}
    (folder / "dataset.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    return {
        split: {"tokens": part.n_tokens, "documents": part.n_documents, "bytes": part.n_bytes}
        for split, part in parts.items()
    }


class Dataset:
    """A packed dataset, memory-mapped and checked. Open with `Dataset.open(folder)`."""

    def __init__(self, folder: Path, about: Description, splits: dict[str, Shard]):
        self.folder, self.about, self.splits = folder, about, splits
        self.vocab_size, self.block_size, self.eos_id = about.vocab_size, about.block_size, about.eos_id
        self.tokenizer_fingerprint, self.document_mask = about.tokenizer_fingerprint, about.document_mask
        # Of the layouts: those in the splits' own order, and two epochs, as a batch may straddle epochs.
        self.layout = lru_cache(len(splits) + 2)(self._lay_out)

    @classmethod
    def open(cls, folder: Path) -> "Dataset":
        """Map the files of a dataset and check that they belong together.

        Raises GPTError that names the file: missing, cut, foreign, of another version, tokenizer or dataset.
        """
        path = folder / "dataset.json"
        document = read_document(path, FORMAT, VERSION, "shards")
        settings = {key: document[key] for key in document.keys() & Description.__annotations__.keys()}
        about = from_dict(Description, settings, str(path))
        splits = {}
        if missing := {"train", "val"} - document["shards"].keys():
            raise GPTError(f"{path} has no split {min(missing)}: {PACK_AGAIN}")
        for split, shard in document["shards"].items():
            ((name, digest),) = shard.items()
            splits[split] = Shard.open(folder, Path(name).name, about)
            if splits[split].digest != digest:
                raise GPTError(f"{folder / name}.index.npy is of another dataset, or was edited: {PACK_AGAIN}")
        return cls(folder, about, splits)

    @property
    def tokenizer(self) -> Path:
        """Path of the tokenizer that made the tokens; it exists if the packer put it here."""
        return tokenizer_file(self.folder)

    def digest(self) -> str:
        """sha256 of dataset.json, which has those of the indexes: it identifies the data without reading every token."""
        return hashlib.sha256((self.folder / "dataset.json").read_bytes()).hexdigest()

    def n_sequences(self, split: str = "train") -> int:
        """Sequences in an epoch, which holds every token of the split once as a target."""
        return -(-self.splits[split].n_tokens // self.block_size)

    def _lay_out(self, split: str, seed: int = -1, epoch: int = 0) -> Layout:
        """The layout of a split's documents: in the split's own order or, with a seed (from 0), in that of an epoch."""
        lengths = self.splits[split].index["length"].astype(np.int64) + 1  # eos included
        documents, order = np.arange(len(lengths)), np.arange(self.n_sequences(split))
        if seed >= 0:
            generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch))))
            documents, order = generator.permutation(documents), generator.permutation(order)
        ends = np.cumsum(lengths[documents])
        return Layout(documents, ends, np.cumsum(lengths)[documents] - ends, order)

    def batch(self, step: int, batch_size: int, seed: int, part: int = 0, parts: int = 1) -> Batch:
        """The training batch of a step, or one of `parts` equal parts of it (for a device, or for accumulation).

        batch_size: B of all parts together, a multiple of `parts`. A batch may straddle epochs.
        """
        n, size = self.n_sequences("train"), batch_size // parts
        visits = step * batch_size + part * size + np.arange(size)  # counted over all epochs
        batches = []
        for epoch in range(int(visits[0]) // n, int(visits[-1]) // n + 1):
            layout = self.layout("train", seed, epoch)
            batches.append(self._gather("train", layout, layout.order[visits[visits // n == epoch] % n]))
        return batches[0] if len(batches) == 1 else Batch(*map(np.concatenate, zip(*batches, strict=True)))

    def sequences(self, split: str, numbers: Iterable[int]) -> Batch:
        """The sequences with these numbers (0..n_sequences-1), documents in the split's own order."""
        return self._gather(split, self.layout(split), np.asarray(list(numbers), np.int64))

    def _gather(self, split: str, layout: Layout, numbers: np.ndarray) -> Batch:
        """The sequences with these numbers in a layout. Raises GPTError for an id that is not in the vocabulary."""
        part, on_line_BT = self.splits[split], numbers[:, None] * self.block_size + np.arange(self.block_size)
        padding_BT = on_line_BT >= part.n_tokens
        on_line_BT[padding_BT] = 0
        place_BT = np.searchsorted(layout.ends, on_line_BT, "right")
        in_split_BT, documents_BT = on_line_BT + layout.moved[place_BT], layout.documents[place_BT]
        ids_BT, targets_BT = part.tokens(in_split_BT - 1), part.tokens(in_split_BT)
        ids_BT[padding_BT], targets_BT[padding_BT], documents_BT[padding_BT] = self.about.pad_id, IGNORE, PADDING
        if max(ids_BT.max(initial=0), targets_BT.max(initial=0)) >= self.vocab_size:
            raise GPTError(f"{self.folder}: {split} holds a token over vocab_size {self.vocab_size}: {PACK_AGAIN}")
        return Batch(ids_BT, targets_BT, documents_BT)
