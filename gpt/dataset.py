"""The packed dataset: token ids on disk, and the batches drawn from them.

    dataset.json                       format, vocab_size, eos_id, block_size, tokenizer fingerprint, counts by split
    train.npy        val.npy           one stream of ids (uint16, or uint32 over 65,536): each document's tokens, then eos
    train.index.npy  val.index.npy     a row a document: id, offset into the stream, tokens (without eos), raw UTF-8 bytes

Plain .npy, so that anything can read it. Law: tokens in a stream = sum over documents of (length + 1).

Every token is the target of exactly one position of one sequence: sequence i has targets i*T..(i+1)*T and as inputs the
tokens before them, where an eos stands before the first. Nothing is cropped; only the last sequence is padded.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from gpt import GPTError

FORMAT = "gpt-from-scratch/dataset"
VERSION = 1
SPLITS = ("train", "val")
INDEX_DTYPE = np.dtype([("doc_id", "S32"), ("offset", "<i8"), ("length", "<i8"), ("bytes", "<i8")])
PAD_TARGET = -1
SPOT_CHECKS = 10_000  # document ends looked at on opening: enough to notice a shifted stream, without reading it all

Documents = Iterable[tuple[str, np.ndarray, int]]


def write(
    folder: Path,
    splits: dict[str, Documents],
    *,
    vocab_size: int,
    eos_id: int,
    block_size: int,
    tokenizer_fingerprint: str,
) -> dict[str, dict[str, int]]:
    """Write a dataset, a document at a time; the same documents give the same bytes.

    folder: made if missing; files of a dataset in it are overwritten.
    splits: for "train" and "val", an iterable of (document id, ids as 1-D integers without eos, raw UTF-8 bytes).
    block_size: T. Returns {split: {"tokens": with eos, "documents":, "bytes":}}.
    Raises GPTError for an id outside 0..vocab_size-1, an eos inside a document, an empty split, or too large a T.
    """
    if set(splits) != set(SPLITS):
        raise GPTError(f"a dataset has the splits train and val; got {', '.join(map(repr, splits)) or 'none'}")
    if not 0 <= eos_id < vocab_size:
        raise GPTError(f"eos_id {eos_id} is not a token: vocab_size is {vocab_size}")
    if block_size < 1:
        raise GPTError(f"block_size (T) is {block_size}; it must be at least 1")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").unlink(missing_ok=True)  # written last: without it, the folder is no dataset
    counts = {}
    for split in SPLITS:
        with Writer(folder, split, vocab_size=vocab_size, eos_id=eos_id) as writer:
            for doc_id, ids, n_bytes in splits[split]:
                writer.add(doc_id, ids, n_bytes)
        counts[split] = writer.counts
        if not writer.counts["documents"]:
            raise GPTError(f"no document in the {split} split: every corpus needs at least one in train and one in val")
    fewest, split = min((counts[split]["tokens"], split) for split in SPLITS)
    if block_size > fewest:
        raise GPTError(
            f"block_size (T) {block_size} is too large: {split} has {fewest} tokens, so T can be at most {fewest}"
        )
    description = {
        "format": FORMAT, "version": VERSION, "vocab_size": vocab_size, "eos_id": eos_id, "block_size": block_size,
        "dtype": token_dtype(vocab_size).name, "tokenizer_fingerprint": tokenizer_fingerprint, "splits": counts,
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return counts


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest of uint16 and uint32 that holds every id."""
    return np.dtype("<u2") if vocab_size <= 65_536 else np.dtype("<u4")


class Writer:
    """Streams one split to disk: `add` document by document inside `with`; `counts` afterwards."""

    def __init__(self, folder: Path, split: str, *, vocab_size: int, eos_id: int):
        self.counts = {"tokens": 0, "documents": 0, "bytes": 0}
        self._vocab_size, self._eos_id = vocab_size, eos_id
        self._tokens = _GrowingArray(Path(folder) / f"{split}.npy", token_dtype(vocab_size))
        self._index = _GrowingArray(Path(folder) / f"{split}.index.npy", INDEX_DTYPE)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._tokens.close()
        self._index.close()

    def add(self, doc_id: str, ids: np.ndarray, n_bytes: int) -> None:
        """Append a document: ids without eos, and the raw UTF-8 bytes they stand for. Raises GPTError (see `write`)."""
        ids = np.asarray(ids)
        name = doc_id.encode()
        if len(name) > 32 or name.endswith(b"\0"):
            raise GPTError(f"document id {doc_id!r} does not fit 32 bytes")
        if ids.ndim != 1 or (ids.size and ids.dtype.kind not in "iu"):
            raise GPTError(f"document {doc_id!r}: ids must be a 1-D array of integers, got {ids.ndim}-D {ids.dtype}")
        if n_bytes < 0:
            raise GPTError(f"document {doc_id!r}: {n_bytes} bytes")
        if ids.size and not (ids.min() >= 0 and ids.max() < self._vocab_size):
            bad = ids[(ids < 0) | (ids >= self._vocab_size)][0]
            raise GPTError(f"document {doc_id!r} has token {bad}, but vocab_size is {self._vocab_size}")
        if (ids == self._eos_id).any():
            raise GPTError(f"document {doc_id!r} contains the end-of-document token {self._eos_id}; encode it without")
        row = np.array([(name, self.counts["tokens"], ids.size, n_bytes)], INDEX_DTYPE)
        self._tokens.append(ids)
        self._tokens.append(np.array([self._eos_id]))
        self._index.append(row)
        self.counts["tokens"] += ids.size + 1
        self.counts["documents"] += 1
        self.counts["bytes"] += int(n_bytes)


class _GrowingArray:
    """A 1-D .npy whose length is known only at the end: numpy's header keeps room for it, so it is rewritten in place."""

    def __init__(self, path: Path, dtype: np.dtype):
        self._dtype, self._length = dtype, 0
        self._file: BinaryIO = path.open("wb")
        self._header()

    def append(self, values: np.ndarray) -> None:
        self._file.write(values.astype(self._dtype, copy=False).tobytes())
        self._length += values.size

    def close(self) -> None:
        end = self._file.tell()
        self._file.seek(0)
        self._header()
        assert (end - self._file.tell()) == self._length * self._dtype.itemsize, "the header's length changed"
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _header(self) -> None:
        descr = np.lib.format.dtype_to_descr(self._dtype)
        header = {"descr": descr, "fortran_order": False, "shape": (self._length,)}
        np.lib.format.write_array_header_1_0(self._file, header)


class Batch(NamedTuple):
    """Sequences to train on or to score, int64."""

    ids_BT: np.ndarray
    """inputs"""
    targets_BT: np.ndarray
    """the token after each; PAD_TARGET where there is none"""
    documents_BT: np.ndarray | None
    """the document that each target is of, where attention is to keep to it (`GPT.forward`); else None"""


@dataclass(frozen=True)
class Split:
    """One part of the documents: memory-mapped ids and index, and their counts."""

    tokens: np.ndarray
    index: np.ndarray
    n_tokens: int
    n_documents: int
    n_bytes: int


class Dataset:
    """A packed dataset, memory-mapped and checked. Open with `Dataset.open(folder)`."""

    def __init__(self, folder: Path, description: dict[str, Any], splits: dict[str, Split]):
        self.folder = folder
        self.vocab_size: int = description["vocab_size"]
        self.eos_id: int = description["eos_id"]
        self.block_size: int = description["block_size"]
        self.tokenizer_fingerprint: str = description["tokenizer_fingerprint"]
        self.splits = splits
        self._order: tuple[tuple[int, int], np.ndarray] = ((-1, -1), np.empty(0, np.int64))

    @classmethod
    def open(cls, folder: Path) -> "Dataset":
        """Map the files of a dataset and check that they belong together.

        Raises GPTError that names the file: missing, cut, foreign, of another version, or not what dataset.json counted.
        """
        folder = Path(folder)
        description = _read_description(folder / "dataset.json")
        return cls(folder, description, {split: _open_split(folder, split, description) for split in SPLITS})

    def digest(self) -> str:
        """sha256 over dataset.json and both indexes: names the data without reading every token."""
        sha256 = hashlib.sha256((self.folder / "dataset.json").read_bytes())
        for split in SPLITS:
            sha256.update(self.splits[split].index)
        return sha256.hexdigest()

    def n_sequences(self, split: str = "train") -> int:
        """Sequences of T targets that hold every token of the split once; the last may be padded."""
        return -(-self.splits[split].n_tokens // self.block_size)

    def sequences(self, split: str, numbers: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
        """Inputs and targets of the sequences with these numbers (0..n_sequences-1).

        Returns ids_BT and targets_BT, int64: targets are the tokens i*T..(i+1)*T, inputs the tokens one earlier (eos before
        the first). Past the end, inputs are eos and targets -1. Raises GPTError for an id that is not in the vocabulary.
        """
        tokens, T = self.splits[split].tokens, self.block_size
        numbers = list(numbers)
        ids_BT = np.full((len(numbers), T), self.eos_id, np.int64)
        targets_BT = np.full((len(numbers), T), PAD_TARGET, np.int64)
        for row, number in enumerate(numbers):
            targets = tokens[number * T : (number + 1) * T].astype(np.int64)
            targets_BT[row, : targets.size] = targets
            ids_BT[row, 1 : targets.size] = targets[:-1]
            if number:
                ids_BT[row, 0] = tokens[number * T - 1]
        if max(targets_BT.max(initial=0), ids_BT.max(initial=0)) >= self.vocab_size:
            raise GPTError(
                f"{self.folder / split}.npy holds a token over vocab_size {self.vocab_size}: pack the corpus again"
            )
        return ids_BT, targets_BT

    def batch(self, step: int, batch_size: int, seed: int, part: int = 0, parts: int = 1) -> Batch:
        """The training batch of a step, or one of `parts` equal parts of it (for a device, or for accumulation).

        A pure function of its arguments, so the step is the whole data cursor. batch_size: B of all parts together.
        Each epoch visits every sequence once, in an order drawn from (seed, epoch); a batch may straddle two epochs.
        """
        n, size = self.n_sequences("train"), batch_size // parts
        positions = range(step * batch_size + part * size, step * batch_size + (part + 1) * size)
        numbers = [int(self._permutation(seed, position // n)[position % n]) for position in positions]
        return Batch(*self.sequences("train", numbers), None)

    def _permutation(self, seed: int, epoch: int) -> np.ndarray:
        if self._order[0] != (seed, epoch):  # keep one: a step asks for the same epoch, or for two in turn
            generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, epoch))))
            self._order = ((seed, epoch), generator.permutation(self.n_sequences("train")))
        return self._order[1]


def _read_description(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GPTError(
            f"{path} is missing: {path.parent} is no packed dataset, or one whose writing was cut off"
        ) from None
    except (OSError, ValueError) as error:
        raise GPTError(f"{path} cannot be read ({error}): pack the corpus again") from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise GPTError(f"{path} does not describe a packed dataset (format {FORMAT})")
    if description.get("version") != VERSION:
        raise GPTError(f"{path} has version {description.get('version')}; this program reads version {VERSION}")
    wanted = {
        "vocab_size": int,
        "eos_id": int,
        "block_size": int,
        "dtype": str,
        "tokenizer_fingerprint": str,
        "splits": dict,
    }
    for key, kind in wanted.items():
        if type(description.get(key)) is not kind:
            raise GPTError(f"{path}: {key} is {description.get(key)!r}; it was edited or cut: pack the corpus again")
    if not 0 <= description["eos_id"] < description["vocab_size"] or description["block_size"] < 1:
        raise GPTError(f"{path}: eos_id, vocab_size or block_size is out of range: pack the corpus again")
    return description


def _open_split(folder: Path, split: str, description: dict[str, Any]) -> Split:
    counted = description["splits"].get(split)
    if not isinstance(counted, dict) or any(type(counted.get(k)) is not int for k in ("tokens", "documents", "bytes")):
        raise GPTError(
            f"{folder / 'dataset.json'}: the counts of {split} are missing or not numbers: pack the corpus again"
        )
    tokens = _map(folder / f"{split}.npy", token_dtype(description["vocab_size"]), counted["tokens"], "tokens")
    index = _map(folder / f"{split}.index.npy", INDEX_DTYPE, counted["documents"], "documents")
    if not counted["documents"]:
        raise GPTError(f"{folder / f'{split}.index.npy'}: no document in the {split} split")
    lengths, ends = index["length"], index["offset"] + index["length"]
    if (lengths < 0).any() or index["offset"][0] != 0 or (index["offset"][1:] != ends[:-1] + 1).any():
        raise GPTError(f"{folder / f'{split}.index.npy'}: documents do not follow one another: pack the corpus again")
    if int(lengths.sum()) + len(index) != len(tokens):
        raise GPTError(
            f"{folder / f'{split}.index.npy'}: lengths do not add up to {len(tokens)} tokens: pack the corpus again"
        )
    if int(index["bytes"].sum()) != counted["bytes"]:
        raise GPTError(
            f"{folder / f'{split}.index.npy'}: bytes do not add up to {counted['bytes']}: pack the corpus again"
        )
    some = ends[:: max(1, len(ends) // SPOT_CHECKS)]
    if (tokens[some] != description["eos_id"]).any():
        raise GPTError(
            f"{folder / f'{split}.npy'}: a document does not end in eos {description['eos_id']}: pack the corpus again"
        )
    return Split(tokens, index, len(tokens), len(index), counted["bytes"])


def _map(path: Path, dtype: np.dtype, length: int, what: str) -> np.ndarray:
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # unlike np.load, this reads nothing but .npy
        surplus = path.stat().st_size - array.offset - array.nbytes
    except FileNotFoundError:
        raise GPTError(f"{path} is missing: pack the corpus again") from None
    except (OSError, ValueError, EOFError) as error:
        raise GPTError(f"{path} is cut or no .npy file ({error}): pack the corpus again") from None
    if array.ndim != 1 or array.dtype != dtype:
        raise GPTError(f"{path} is not a 1-D array of {dtype}: pack the corpus again")
    if len(array) != length or surplus:
        raise GPTError(f"{path} has {len(array)} {what}, dataset.json counts {length}: pack the corpus again")
    return array
