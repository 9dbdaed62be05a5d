"""What stands word for word in the training text: the longest stretch of each sample of a model, and the share of a text.

Windows of one width are looked up by hashes, which are differences of a running sum (Karp and Rabin 1987): the hash of the
symbols from place i is x[i] B + x[i+1] B^2 + ... modulo 2^64; those with the same hash are then compared.

The training text is read once, in blocks. Memory does not grow with it: about 100 bytes for each symbol of a block, or of what
is looked for.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache, partial, reduce

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

BLOCK = 1 << 18  # symbols of training text at a time
# Behind each document and each text: no character, and a window with the one equals none with the other.
DOCUMENT_END, TEXT_END = np.array([[0xFFFFFFFF], [0xFFFFFFFE]], np.uint32)
BASE = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2^64


def overlaps(samples: Sequence[str], documents: Iterable[str]) -> list[str]:
    """The longest stretch of each sample that stands within one document, too."""
    own, longest = _Searched(samples), [""] * len(samples)
    starts = np.cumsum([0, *(len(sample) + 1 for sample in samples)]).tolist()
    for block in map(_Windows, _blocks(documents, max(map(len, samples), default=0))):
        found = cache(partial(own.found, block))
        for number, (start, sample) in enumerate(zip(starts, samples, strict=False)):
            place = slice(start, start + len(sample))
            while (windows := found(len(longest[number]) + 1)[place]).any():  # nearly never
                first = int(windows.argmax())
                longest[number] = sample[first : first + len(longest[number]) + 1]
    return longest


def repeated_share(texts: Sequence[str], documents: Iterable[str], width: int) -> float:
    """The share of the texts' UTF-8 bytes in stretches of `width` characters or more that stand within one document, too."""
    symbols, covered = repeated_characters(texts, documents, width)
    n_bytes = 1 + (symbols > 0x7F).astype(np.int64) + (symbols > 0x7FF) + (symbols > 0xFFFF)
    return int(n_bytes[covered].sum()) / max(1, int(n_bytes[symbols != TEXT_END].sum()))


def repeated_characters(texts: Sequence[str], documents: Iterable[str], width: int) -> tuple[np.ndarray, np.ndarray]:
    """The characters of the texts, with a TEXT_END behind each text, and for each whether it lies in such a stretch."""
    own = _Searched(texts)
    found = (own.found(block, width) for block in map(_Windows, _blocks(documents, width)))
    change = reduce(np.logical_or, found).astype(np.int64)  # 1 where a window begins that a document has
    change[width:] -= change[:-width].copy()
    return own.symbols, np.cumsum(change) > 0


class _Windows:
    """The windows of a row of symbols, by their hashes."""

    def __init__(self, symbols: np.ndarray):
        self.symbols, self.size = symbols, len(symbols)
        self._sums = np.zeros(self.size + 1, np.uint64)
        np.cumsum(symbols * np.cumprod(np.full(self.size, BASE, np.uint64)), out=self._sums[1:])
        self._inverse = np.cumprod(np.full(self.size, pow(BASE, -1, 2**64), np.uint64))

    def hashes(self, width: int) -> np.ndarray:
        """The hash of the window of this width that begins at each place, uint64; none if the row is shorter."""
        sums = self._sums[width:] - self._sums[:-width]
        return sums * self._inverse[: len(sums)]


class _Searched(_Windows):
    """The windows of texts that are searched for."""

    def __init__(self, texts: Sequence[str]):
        super().__init__(np.concatenate([DOCUMENT_END[:0], *(np.append(_symbols(text), TEXT_END) for text in texts)]))
        self._kinds = cache(self._different)

    def found(self, block: _Windows, width: int) -> np.ndarray:
        """For each place, whether the window that begins there stands in the block."""
        hashes, first, kind, is_likely, shift = self._kinds(width)
        theirs, is_there = block.hashes(width), np.zeros(len(hashes), bool)
        places = np.flatnonzero(is_likely[theirs >> shift])
        at = np.minimum(np.searchsorted(hashes, theirs[places]), len(hashes) - 1)
        at, places = at[same := hashes[at] == theirs[places]], places[same]
        if len(at):
            ours, rows = (sliding_window_view(row, width) for row in (self.symbols, block.symbols))
            is_there[at[(ours[first[at]] == rows[places]).all(1)]] = True
        found = np.zeros(self.size, bool)
        found[: len(kind)] = is_there[kind]
        return found

    def _different(self, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
        """The hashes, sorted; where each stands first, and which one each window has; those of their first bits that occur."""
        hashes, first, kind = np.unique(self.hashes(width), return_index=True, return_inverse=True)
        bits = min(26, len(hashes).bit_length() + 4)  # one in sixteen: few others are looked up
        is_likely = np.zeros(1 << bits, bool)
        is_likely[hashes >> (64 - bits)] = True
        return hashes, first, kind, is_likely, 64 - bits


def _blocks(documents: Iterable[str], overlap: int) -> Iterator[np.ndarray]:
    """The documents in rows of BLOCK symbols or more; long ones in pieces with `overlap` in common."""
    rows, size, stride = [DOCUMENT_END], 0, max(BLOCK, overlap)
    for document in documents:
        for start in range(0, max(len(document) - overlap, 1), stride):
            piece = _symbols(document[start : start + stride + overlap])
            rows += [piece, DOCUMENT_END]
            size += len(piece) + 1
            if size >= BLOCK:
                yield np.concatenate(rows)
                rows, size = [DOCUMENT_END], 0
    yield np.concatenate(rows)


def _symbols(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
