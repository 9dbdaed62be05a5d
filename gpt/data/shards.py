"""Token shards: the files that a packed dataset is made of.

A shard holds whole documents, one after another, each followed by an end-of-document token (eos):

    header    256 bytes: magic, version, bytes a token, counts, vocabulary, tokenizer fingerprint
    tokens    eos, then every document's tokens and its eos: little-endian, 2 bytes each up to a vocabulary of 65,536, else 4
    index     a row a document (INDEX): its id, offset, length, raw UTF-8 bytes, source file and row

So the token before a document's first is always an eos. A shard is written under another name and renamed when it is whole.
`Shard.open` maps it and refuses a file that is cut, foreign, of another version or of another tokenizer.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NamedTuple

import numpy as np

from gpt import GPTError
from gpt.settings import check, refuse

MAGIC = b"gpt-shard\r\n\x1a"  # as in PNG: a copy that converts line ends breaks it
VERSION = 2
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
HEADER = np.dtype(
    [
        ("magic", "S12"),
        ("version", "<u4"),
        ("token_bytes", "<u4"),
        ("vocab_size", "<u4"),
        ("eos_id", "<u4"),
        ("split", "S12"),
        ("number", "<u8"),
        ("tokens", "<u8"),  # eos included, except the one that stands first
        ("documents", "<u8"),
        ("bytes", "<u8"),
        ("tokenizer", "S64"),
        ("", "V120"),
    ]
)
assert HEADER.itemsize == 256
LIMIT = 2**32
SOURCES = "sources.json"
SPOT_CHECKS = 64  # document ends read on opening, each maybe from the disk: enough to notice a shifted stream
PACK_AGAIN = "pack the corpus again"


class Documents(NamedTuple):
    """Some encoded documents, for `ShardWriter.add`: n documents of N tokens together."""

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
    """A file of tokens, memory-mapped."""

    path: Path
    tokens: np.ndarray  # (n_tokens + 1,): an eos stands first
    index: np.ndarray
    n_tokens: int
    n_documents: int
    n_bytes: int

    @classmethod
    def open(cls, path: Path, about: Description) -> "Shard":
        """Map a shard and check that it is whole and of this kind. Raises GPTError that names the file."""
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                raw = file.read(HEADER.itemsize)
        except OSError as error:
            raise GPTError(f"{path} cannot be read ({error.strerror}): {PACK_AGAIN}") from None
        if len(raw) < HEADER.itemsize or not raw.startswith(MAGIC):
            raise GPTError(f"{path} is cut, or no token shard: another program wrote it, or it was changed on the way")
        header = np.frombuffer(raw, HEADER)[0]
        if header["version"] != VERSION:
            raise GPTError(f"{path} has version {header['version']}; this program reads version {VERSION}")
        found = tuple(header[name] for name in ("tokenizer", "vocab_size", "eos_id", "token_bytes"))
        if found != (about.tokenizer_fingerprint.encode(), about.vocab_size, about.eos_id, about.dtype.itemsize):
            raise GPTError(f"{path} is of another tokenizer or vocabulary than its dataset: {PACK_AGAIN}")
        n_tokens, n_documents, n_bytes = (int(header[name]) for name in ("tokens", "documents", "bytes"))
        start = _index_place(n_tokens, about.dtype)
        end = start + n_documents * INDEX.itemsize
        if size != end:
            raise GPTError(f"{path} is {'cut' if size < end else 'too long'}: it has {size} bytes instead of {end}")
        tokens = np.memmap(path, about.dtype, "r", HEADER.itemsize, (n_tokens + 1,))
        index = np.memmap(path, INDEX, "r", start, (n_documents,))
        ends = np.cumsum(index["length"].astype(np.int64) + 1)
        follow = (index["offset"] - index["offset"][:1] == ends - index["length"] - 1).all()
        if not follow or (ends[-1], index["bytes"].sum(dtype=np.int64)) != (n_tokens, n_bytes):
            raise GPTError(f"{path}: its documents do not follow one another, or do not add up: {PACK_AGAIN}")
        some = ends[:: max(1, len(ends) // SPOT_CHECKS)]
        if (tokens[[0, *some]] != about.eos_id).any():
            raise GPTError(f"{path}: a document does not end in eos {about.eos_id}: {PACK_AGAIN}")
        return cls(path, tokens, index, n_tokens, n_documents, n_bytes)


class ShardWriter:
    """Writes the shards of one split: `add` within `with`; `shards` afterwards.

    Shards that an interrupted writer of the same documents finished are kept: `n_documents_done` is how many documents they
    hold, and `add` expects those after them. Equal documents give equal bytes, in whatever batches they come.
    """

    def __init__(self, folder: Path, split: str, about: Description):
        self._folder, self._split, self._about = folder, split, about
        self.shards: list[Shard] = []
        with suppress(GPTError):  # the first that is not whole, and all after it, are yet to be written
            while True:
                self.shards.append(Shard.open(self._path(""), about))
        self.n_documents_done = sum(shard.n_documents for shard in self.shards)
        self._sources = {name: number for number, name in enumerate(read_sources(folder))}
        self._offset = sum(shard.n_tokens for shard in self.shards)  # of the open shard in the split
        self._file: BinaryIO | None = None
        self._rows: list[np.ndarray] = []  # of the open shard's index
        self._n_tokens = 0  # in the open shard

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._file and kind is None:
            self._finish(self._file)
        elif self._file:
            self._file.close()

    def add(self, documents: Documents) -> None:
        """Append documents. Raises GPTError for an id outside the vocabulary, an eos inside a document, or a bad count."""
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
            file = self._file = self._file or self._new_file()
            file.write(stream[start : ends[last - 1]].data)
            self._rows.append(part)
            self._n_tokens += int(ends[last - 1]) - start
            first = last
            if self._n_tokens >= SHARD_TOKENS:
                self._finish(file)

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

    def _new_file(self) -> BinaryIO:
        file = self._path(".partial").open("wb")
        file.write(bytes(HEADER.itemsize) + np.array(self._about.eos_id, self._about.dtype).tobytes())
        return file

    def _finish(self, file: BinaryIO) -> None:
        """Write index and header of the open shard, and give it its name."""
        index = np.concatenate(self._rows)
        about, n_bytes = self._about, index["bytes"].sum(dtype=np.int64)
        kind = (MAGIC, VERSION, about.dtype.itemsize, about.vocab_size, about.eos_id, self._split, len(self.shards))
        counts = (self._n_tokens, len(index), n_bytes)
        header = np.array((*kind, *counts, about.tokenizer_fingerprint.encode(), b""), HEADER)
        with file:
            file.write(bytes(_index_place(self._n_tokens, about.dtype) - file.tell()))
            file.write(index.data)
            file.seek(0)
            file.write(header.data)
            file.flush()
            os.fsync(file.fileno())
        write_json(self._folder / SOURCES, list(self._sources))  # first: the shard's index is of no use without it
        path = self._path("")
        self._path(".partial").replace(path)
        self.shards.append(Shard.open(path, self._about))
        self._offset += self._n_tokens
        self._file, self._rows, self._n_tokens = None, [], 0

    def _path(self, suffix: str) -> Path:
        return self._folder / f"{self._split}-{len(self.shards):05}.shard{suffix}"


def read_sources(folder: Path) -> list[str]:
    """The source files that the indexes of a folder's shards name by number; none if nothing was written."""
    path = folder / SOURCES
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []


def write_json(path: Path, value: object) -> None:
    """Write a JSON file, atomically."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _index_place(n_tokens: int, dtype: np.dtype[Any]) -> int:
    """Where in the file the index begins: after the tokens, at a multiple of 8."""
    return -(-(HEADER.itemsize + (n_tokens + 1) * dtype.itemsize) // 8) * 8
