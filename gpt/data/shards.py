"""Token shards: the files that a packed dataset is made of, one shard for each split.

A shard holds whole documents, one after another, in two files of numpy's format, which are read without pickle:

    .tokens.npy    eos, then every document's tokens and its eos: 2 bytes each up to a vocabulary of 65,536, else 4
    .index.npy     a row a document (INDEX): its id, offset, length, raw UTF-8 bytes, source file and row

So the token before a document's first is always an eos. `Shard.open` maps them, so a corpus may be larger than the memory, and
refuses what is cut, foreign or does not fit together. A dataset's description has the SHA-256 of each index, so a shard of
another dataset is noticed too.
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

INDEX = np.dtype(
    [
        ("doc_id", "S32"),
        ("offset", "<i8"),  # of its first token, eos included
        ("length", "<u4"),  # tokens, without eos
        ("bytes", "<u4"),  # raw UTF-8, counted before tokenization
        ("source", "<u4"),  # number of its source file, in sources.json
        ("row", "<i8"),  # in that file
    ]
)
SOURCES = "sources.json"
SPOT_CHECKS = 64  # document ends read on opening, each maybe from the disk: enough to notice a shifted stream
PACK_AGAIN = "pack the corpus again"


class Documents(NamedTuple):
    """Some encoded documents, for `write_shard`: n documents of N tokens together."""

    doc_ids: list[str]  # of at most 32 bytes
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
        refuse("dataset", problems)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The smallest of uint16 and uint32 that holds every id."""
        return np.dtype("<u2") if self.vocab_size <= 65_536 else np.dtype("<u4")


@dataclass(frozen=True)
class Shard:
    """The documents of a split, memory-mapped."""

    name: str
    stream: np.ndarray  # (n_tokens + 1,): an eos stands first
    index: np.ndarray
    digest: str  # SHA-256 of the index
    n_tokens: int
    n_documents: int
    n_bytes: int

    @classmethod
    def open(cls, folder: Path, name: str, about: Description) -> "Shard":
        """Map a shard and check that it is whole and of this kind. Raises GPTError that names the file."""
        path = folder / f"{name}.tokens.npy"
        stream, index = _mapped(path, about.dtype), _mapped(folder / f"{name}.index.npy", INDEX)
        ends = np.cumsum(index["length"].astype(np.int64) + 1)
        if not len(ends) or ends[-1] != len(stream) - 1:
            raise GPTError(f"{path}: its documents do not add up: {PACK_AGAIN}")
        some = ends[:: max(1, len(ends) // SPOT_CHECKS)]
        if (stream[[0, *some]] != about.eos_id).any():
            raise GPTError(f"{path}: a document does not end in eos {about.eos_id}: {PACK_AGAIN}")
        digest = hashlib.sha256(np.ascontiguousarray(index).data).hexdigest()
        return cls(name, stream, index, digest, int(ends[-1]), len(ends), int(index["bytes"].sum(dtype=np.int64)))

    def tokens(self, places: np.ndarray) -> np.ndarray:
        """The tokens at these places, int64 of any shape; place -1 is the eos before the first document."""
        return self.stream[places + 1].astype(np.int64)


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


def write_shard(folder: Path, split: str, documents: Iterable[Documents], about: Description) -> Shard:
    """Write the shard of a split. Equal documents give equal bytes, in whatever batches they come.

    Raises GPTError for an id outside the vocabulary, an eos inside a document, too long a name or text, or no document.
    """
    name, sources = f"{split}-00000", {source: number for number, source in enumerate(read_sources(folder))}
    n_tokens = n_documents = 0
    with (folder / f"{name}.tokens.npy").open("wb") as tokens, (folder / f"{name}.index.npy").open("wb") as index:
        np.save(tokens, np.array([about.eos_id], about.dtype))
        np.save(index, np.empty(0, INDEX))
        for some in documents:
            lengths = np.asarray(some.lengths, np.int64)
            _check(some, lengths, about)
            ends = np.cumsum(lengths + 1)
            rows = np.zeros(len(lengths), INDEX)
            rows["doc_id"] = [doc_id.encode() for doc_id in some.doc_ids]
            rows["offset"] = n_tokens + ends - lengths - 1
            rows["length"], rows["bytes"], rows["row"] = lengths, some.n_bytes, some.rows
            rows["source"] = [sources.setdefault(source, len(sources)) for source in some.sources]
            stream = np.full(lengths.sum() + len(lengths), about.eos_id, about.dtype)
            is_text = np.ones(len(stream), bool)
            is_text[ends - 1] = False
            stream[is_text] = some.ids
            tokens.write(stream.data)
            index.write(rows.data)
            n_tokens, n_documents = n_tokens + len(stream), n_documents + len(rows)
        for file, dtype, length in ((tokens, about.dtype, n_tokens + 1), (index, INDEX, n_documents)):
            file.seek(0)  # numpy leaves room for a longer shape in a header
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (length,)}
            np.lib.format.write_array_header_1_0(file, header)
    if not n_documents:
        raise GPTError(f"no document in the {split} split: every corpus needs at least one in each")
    (folder / SOURCES).write_text(json.dumps(list(sources), indent=1) + "\n", encoding="utf-8")
    return Shard.open(folder, name, about)


def _check(documents: Documents, lengths: np.ndarray, about: Description) -> None:
    ids = documents.ids
    wrong = (ids < 0) | (ids >= about.vocab_size) | (ids == about.eos_id)
    if wrong.any():
        at = int(wrong.argmax())
        name = documents.doc_ids[int(np.searchsorted(np.cumsum(lengths), at, "right"))]
        what = f"the end-of-document token {about.eos_id} inside" if ids[at] == about.eos_id else f"token {ids[at]}"
        raise GPTError(f"document {name!r} has {what}; ids are 0 to {about.vocab_size - 1} without eos")
    for name, size in zip(documents.doc_ids, documents.n_bytes, strict=True):
        if len(name.encode()) > 32 or size >= 2**32:
            raise GPTError(f"document {name!r} has {size} bytes: an id has at most 32, a document less than 4 GiB")


def read_sources(folder: Path) -> list[str]:
    """The source files that the indexes of a folder's shards name by number; none if nothing was written."""
    path = folder / SOURCES
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []
