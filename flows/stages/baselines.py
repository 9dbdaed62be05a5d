"""What simple models and compressors make of the held-out text, and how much of that stands in the training text.

gzip and xz see the held-out texts alone. PPMd (Cleary and Witten 1984; Shkarin's variant I) has read the training text before,
as the model has, and goes on learning in the held-out text. Two line ends stand between documents. Where a document ends is
known and costs nothing, as for a model: the bytes that it puts out for these line ends are not counted. As it puts out whole
bytes, that of a document is uncertain by one, and their sum by about half the square root of their number.
"""

import lzma
import math
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyppmd

from flows.stages.documents import read_texts
from gpt.data.dataset import Dataset
from gpt.evaluation.baselines import counted_bits_per_byte
from gpt.evaluation.confidence import interval
from gpt.evaluation.memorisation import repeated_share

ORDERS = (4, 5, 6, 8, 12, 16)  # of PPMd: the most bytes before a byte that it is predicted from
MEMORY = 256 << 20  # of PPMd, in bytes; a full one is pruned
READ_BYTES = 32_000_000  # of the training text, from its beginning, that PPMd reads: some ten seconds an order
SEARCHED_BYTES = 500_000_000  # of the training text that is searched for what is held out: a minute
HELD_OUT_BYTES = 4_000_000  # of the held-out text, by which the order is chosen, and that is searched for
REPEATED_CHARS = 50
BETWEEN = b"\n\n"
PPMD = "ppmd.npy"


def measure_baselines(documents: Path, packed: Dataset, split: str) -> dict:
    """baselines: bits per byte of a split, by name; ppmd_order: the best of ORDERS; repeated: the share of its bytes that
    stand in train word for word, in runs of REPEATED_CHARS characters or more.

    documents: folder of the clean stage. Beside the packed data, a file keeps what PPMd makes of each document, in bytes.
    """
    of_each, order = best_ppmd(documents, split)
    np.save(packed.folder / PPMD, of_each)
    bits, n_bytes = {"uniform": 8.0} | counted_bits_per_byte(packed, split), packed.splits[split].n_bytes
    for name, packer in (("gzip", zlib.compressobj(9, wbits=31)), ("xz", lzma.LZMACompressor(preset=9))):
        size = sum(len(packer.compress(text.encode())) for text in read_texts(documents, split))
        bits[name] = 8 * (size + len(packer.flush())) / n_bytes
    bits["ppmd"] = 8 * sum(of_each) / n_bytes
    held_out = list(read_texts(documents, split, HELD_OUT_BYTES))
    repeated = repeated_share(held_out, read_texts(documents, "train", SEARCHED_BYTES), REPEATED_CHARS)
    baselines = {name: round(value, 4) for name, value in bits.items()}
    return {"baselines": baselines, "ppmd_order": order, "repeated": round(repeated, 4)}


def over_ppmd(nats: Path, packed: Path, split: str) -> list[float] | None:
    """By how many bits per byte a model is above the best PPMd on a split, and the ends of the 95 % interval by documents. None
    for too few documents. nats: file of the model's, one a document. packed: folder of the pack stage."""
    theirs = 8 * math.log(2) * np.load(packed / PPMD)
    found = interval(np.load(nats) - theirs, Dataset.open(packed).splits[split].index["bytes"])
    return [round(value, 4) for value in found] if np.isfinite(found).all() else None


def best_ppmd(documents: Path, split: str) -> tuple[list[int], int]:
    """The bytes that PPMd makes of each text of a split after READ_BYTES of train, and the best of ORDERS."""
    known = BETWEEN.join(text.encode() for text in read_texts(documents, "train", READ_BYTES))
    order = min(ORDERS, key=lambda order: sum(ppmd(order, known, read_texts(documents, split, HELD_OUT_BYTES))))
    return ppmd(order, known, read_texts(documents, split)), order


def ppmd(order: int, known: bytes, texts: Iterable[str]) -> list[int]:
    """The bytes that PPMd makes of each text after what it knows."""
    encoder, sizes = pyppmd.Ppmd8Encoder(order, MEMORY, pyppmd.PPMD8_RESTORE_METHOD_CUT_OFF), list[int]()
    encoder.encode(known)
    for text in texts:
        encoder.encode(BETWEEN)
        sizes.append(len(encoder.encode(text.encode())))
    sizes[-1] += len(encoder.flush())
    return sizes
