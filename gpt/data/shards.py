"""Token shards: the files that a packed dataset is made of.

A shard holds whole documents, one after another, in two files of numpy's format, which are read without pickle:

    .tokens.npy    eos, then every document's tokens and its eos: 2 bytes each up to a vocabulary of 65,536, else 4
    .index.npy     a row a document (INDEX): its id, offset, length, raw UTF-8 bytes, source file and row

So the token before a document's first is always an eos. `Shard.open` maps them and refuses what is cut, foreign or does not fit
together. A dataset's description has the SHA-256 of each index, so a shard of another dataset is noticed too.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np

from gpt import GPTError
from gpt.settings import check, refuse

SHARD_TOKENS = 1 << 28  # a shard is closed after the document that reaches this: half a gigabyte
INDEX = np.dtype(
    [
        ("doc_id", "S32"),
        ("offset", "<i8"),  # of its first token, counted over the shards of the split, eos included
        ("length", "<u4"),  # tokens, without eos
        ("bytes", "<u4"),  # raw UTF-8, counted before tokenization
        ("source", "<u4"),  # number of its source file, in sources.json
        ("row", "<i8"),  # in that file
    ]
)
LIMIT = 2**32
SOURCES = "sources.json"
SPOT_CHECKS = 64  # document ends read on opening, each maybe from the disk: enough to notice a shifted stream
PACK_AGAIN = "pack the corpus again"


class Documents(NamedTuple):
    """Some encoded documents, for `write_shards`: n documents of N tokens together."""

    doc_ids: list[str]  # at most 32 bytes each
    ids: np.ndarray  # (N,) integers: the documents' tokens one after another, without eos
    lengths: np.ndarray  # (n,) tokens of each
    n_bytes: np.ndarray  # (n,) raw UTF-8 bytes of each
    sources: list[str]  # (n,) the file that each comes from
    rows: np.ndarray  # (n,) the row in that file


@dataclass(frozen=True)
class Description:
    """What a dataset is, apart from its documents. Raises GPTError that lists every problem."""

    vocab_size: Annotated[int, (2, 2**31 - 1)]  # V: ids are 0..V-1
    block_size: Annotated[int, (2, 2**20)]  # T: targets in a sequence
    eos_id: int  # the token that ends a document
    pad_id: int  # the input where there is no target; it may be eos_id
    tokenizer_fingerprint: str  # of the tokenizer that made the ids: equal means equal ids
    document_mask: bool = False  # a position attends to its own document only

    def __post_init__(self) -> None:
        problems = check(self)
        if not problems:
            tokens = {"eos_id": self.eos_id, "pad_id": self.pad_id}
            bound = f"it must be from 0 to {self.vocab_size - 1}"
            problems = [f"{name} is {id}; {bound}" for name, id in tokens.items() if not 0 <= id < self.vocab_size]
            if len(self.tokenizer_fingerprint.encode()) > 64:
                problems.append("tokenizer_fingerprint is over 64 bytes")
        refuse("dataset", problems)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest of uint16 and uint32 that holds every id."""
        return np.dtype("<u2") if self.vocab_size <= 65_536 else np.dtype("<u4")


@dataclass(frozen=True)
class Shard:
    """Some documents of a split, memory-mapped."""

    name: str
    tokens: np.ndarray  # (n_tokens + 1,): an eos stands first
    index: np.ndarray
    digest: str  # SHA-256 of the index
    n_tokens: int
    n_bytes: int

    @classmethod
    def open(cls, folder: Path, name: str, about: Description) -> "Shard":
        """Map a shard and check that it is whole and of this kind. Raises GPTError that names the file."""
        path = folder / f"{name}.tokens.npy"
        tokens, index = _mapped(path, about.dtype), _mapped(folder / f"{name}.index.npy", INDEX)
        ends = np.cumsum(index["length"].astype(np.int64) + 1)
        if not len(ends) or ends[-1] != len(tokens) - 1:
            raise GPTError(f"{path}: its documents do not add up: {PACK_AGAIN}")
        some = ends[:: max(1, len(ends) // SPOT_CHECKS)]
        if (tokens[[0, *some]] != about.eos_id).any():
            raise GPTError(f"{path}: a document does not end in eos {about.eos_id}: {PACK_AGAIN}")
        digest = hashlib.sha256(np.ascontiguousarray(index).data).hexdigest()
        return cls(name, tokens, index, digest, int(ends[-1]), int(index["bytes"].sum(dtype=np.int64)))


def _mapped(path: Path, dtype: np.dtype[Any]) -> np.ndarray:
    """A file of numpy's format, memory-mapped. Raises GPTError that names it."""
    try:
        array: np.memmap = np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise GPTError(f"{path} cannot be read ({error.strerror}): {PACK_AGAIN}") from None
    except ValueError:
        raise GPTError(f"{path} is cut, or was written by another program: {PACK_AGAIN}") from None
    if array.dtype != dtype or array.ndim != 1:
        raise GPTError(f"{path} is of another tokenizer or vocabulary than its dataset: {PACK_AGAIN}")
    if path.stat().st_size != array.offset + array.nbytes:
        raise GPTError(f"{path} is too long: it was changed on the way: {PACK_AGAIN}")
    return array


def write_shards(folder: Path, split: str, documents: Iterable[Documents], about: Description) -> list[Shard]:
    """Write the shards of a split. Equal documents give equal bytes, in whatever batches they come.

    Raises GPTError for an id outside the vocabulary, an eos inside a document, or a bad count.
    """
    writer = _Writer(folder, split, about)
    for some in documents:
        writer.add(some)
    writer.finish()
    return writer.shards


class _Writer:
    def __init__(self, folder: Path, split: str, about: Description):
        self._folder, self._split, self._about = folder, split, about
        self.shards: list[Shard] = []
        self._sources = {name: number for number, name in enumerate(read_sources(folder))}
        self._offset = 0  # of the open shard in the split
        self._rows: list[np.ndarray] = []  # of the open shard's index
        self._n_tokens = 0  # in the open shard

    def add(self, documents: Documents) -> None:
        lengths = np.asarray(documents.lengths, np.int64)
        self._check(documents, lengths)
        rows = np.zeros(len(lengths), INDEX)
        rows["doc_id"] = [name.encode() for name in documents.doc_ids]
        rows["length"], rows["bytes"], rows["row"] = lengths, documents.n_bytes, documents.rows
        rows["source"] = [self._sources.setdefault(name, len(self._sources)) for name in documents.sources]
        ends = np.cumsum(lengths + 1)
        stream = np.full(int(ends[-1]) if len(ends) else 0, self._about.eos_id, self._about.dtype)
        is_text = np.ones(len(stream), bool)
        is_text[ends - 1] = False
        stream[is_text] = documents.ids
        first = 0
        while first < len(rows):  # a shard ends after the document that fills it, wherever the batch does
            start = int(ends[first - 1]) if first else 0
            filling = int(np.searchsorted(ends, start + SHARD_TOKENS - self._n_tokens))
            last = min(filling + 1, len(rows))
            part = rows[first:last]
            part["offset"] = self._offset + self._n_tokens + ends[first:last] - start - lengths[first:last] - 1
            self._append(stream[start : ends[last - 1]])
            self._rows.append(part)
            self._n_tokens += int(ends[last - 1]) - start
            first = last
            if self._n_tokens >= SHARD_TOKENS:
                self.finish()

    def _check(self, documents: Documents, lengths: np.ndarray) -> None:
        ids, eos_id = np.asarray(documents.ids), self._about.eos_id
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise GPTError(f"tokens must be a 1-D array of integers, got {ids.ndim}-D {ids.dtype}")
        wrong = (ids < 0) | (ids >= self._about.vocab_size) | (ids == eos_id)
        if wrong.any():
            at = int(wrong.argmax())
            name = documents.doc_ids[int(np.searchsorted(np.cumsum(lengths), at, "right"))]
            what = f"the end-of-document token {eos_id} inside" if ids[at] == eos_id else f"token {ids[at]}"
            raise GPTError(f"document {name!r} has {what}; ids are 0 to {self._about.vocab_size - 1} without eos")
        n_bytes = np.asarray(documents.n_bytes)
        if ((n_bytes < 0) | (n_bytes >= LIMIT) | (lengths >= LIMIT)).any():
            raise GPTError(f"a document of {n_bytes.max()} bytes: one has at least 0 and less than {LIMIT}")
        for name in documents.doc_ids:
            if len(name.encode()) > 32 or name.endswith("\0"):
                raise GPTError(f"document id {name!r} does not fit 32 bytes")

    def _append(self, tokens: np.ndarray) -> None:
        """To the open shard's file, which begins as an array of eos alone: its header has room for a larger count."""
        path = self._folder / f"{self._name()}.tokens.npy"
        if not self._n_tokens:
            np.save(path, np.array([self._about.eos_id], self._about.dtype))
        with path.open("ab") as file:
            file.write(tokens.data)

    def finish(self) -> None:
        """Write the count of tokens and the index of the open shard, if there is one."""
        if self._rows:
            header = {"descr": self._about.dtype.str, "fortran_order": False, "shape": (self._n_tokens + 1,)}
            with (self._folder / f"{self._name()}.tokens.npy").open("r+b") as file:
                np.lib.format.write_array_header_1_0(file, header)
            np.save(self._folder / f"{self._name()}.index.npy", np.concatenate(self._rows))
            write_json(self._folder / SOURCES, list(self._sources))
            self.shards.append(Shard.open(self._folder, self._name(), self._about))
            self._offset += self._n_tokens
            self._rows, self._n_tokens = [], 0

    def _name(self) -> str:
        return f"{self._split}-{len(self.shards):05}"


def read_sources(folder: Path) -> list[str]:
    """The source files that the indexes of a folder's shards name by number; none if nothing was written."""
    path = folder / SOURCES
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []


def write_json(path: Path, value: object) -> None:
    """Write a JSON file, atomically."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
