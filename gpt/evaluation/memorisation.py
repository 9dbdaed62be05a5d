"""What a model repeats word for word: the longest stretch of each sample that also stands in the training text, exactly.

The training text is read once, as a stream; memory depends on the samples and on BLOCK alone. Notable: windows are compared by
64-bit hashes that running sums give for all places of a block at once (Karp and Rabin 1987, in numpy). Of a sample it is only
asked if a stretch one longer than its longest so far is in the block, after a filter by a narrower window that many of them
share; if so, bisection tells how much longer. All that counts as found was compared symbol by symbol: equal hashes of different
windows cannot invent an overlap (they could hide one, with odds of 2^-64 a pair).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gpt import GPTError

BLOCK = 1 << 20  # symbols hashed at a time: a few arrays of 8 MB
FACTOR = 0x9E3779B97F4A7C15  # of the hash: odd, and 2^64 over the golden ratio, so that products fill the upper bits
INVERSE = pow(FACTOR, -1, 1 << 64)
LEVELS = np.array(sorted({1} | {m << k for m in (2, 3) for k in range(40)}))  # widths of filters: few, to be shared
END, JOIN = np.array([[0xFFFFFFFF], [0xFFFFFFFE]], np.uint32)  # behind samples, and documents: no characters, no tokens

Text = str | np.ndarray


@dataclass(frozen=True)
class Overlap:
    """The longest stretch of a sample (its length, where it starts, its text or tokens) that stands in a training document too;
    and the share of the sample that is covered by such stretches of `at_least` and more."""

    length: int
    start: int
    text: Text
    covered: float


def overlaps(samples: Sequence[Text], documents: Iterable[Text], at_least: int = 50) -> list[Overlap]:
    """The overlap of each sample with documents; a stretch lies within one document.

    samples, documents: all str, lengths then being characters; or all 1-D arrays of token ids. A packed stream may come as one
    document: a sample without eos cannot overlap across it. at_least: for `covered` only.
    Raises GPTError for text among tokens or the reverse, or at_least below 1.
    """
    if at_least < 1:
        raise GPTError(f"at_least is {at_least}; an overlap has at least 1 symbol")
    if not samples:
        return []
    text = isinstance(samples[0], str)
    search = _Search([_symbols(sample, text) for sample in samples], at_least)
    for block in _blocks(documents, text, max(map(len, samples))):
        search.read(_Windows(block))
    found = zip(samples, search.longest.tolist(), search.start.tolist(), search.covered(), strict=True)
    return [Overlap(length, at, sample[at : at + length], share) for sample, length, at, share in found]


@lru_cache
def _powers(size: int) -> tuple[np.ndarray, ...]:
    """FACTOR to the 1, 2, 3 ... and to the 0, -1, -2 ..., modulo 2^64."""
    powers = np.multiply.accumulate(np.full(size, FACTOR, np.uint64))
    return powers, np.multiply.accumulate(np.r_[np.uint64(1), np.full(size - 1, INVERSE, np.uint64)])


class _Windows:
    """Hashes of the windows of a row of symbols: sum of symbol_k FACTOR^(k + 1) over a window's places k, modulo 2^64."""

    def __init__(self, symbols: np.ndarray):
        powers, self.inverses = _powers(1 << len(symbols).bit_length())
        self.symbols, self.sums = symbols, np.zeros(len(symbols) + 1, np.uint64)
        np.cumsum(symbols * powers[: len(symbols)], out=self.sums[1:])

    def hashes(self, at: np.ndarray, width: int) -> np.ndarray:
        return (self.sums[at + width] - self.sums[at]) * self.inverses[at]

    def hits(self, wanted: np.ndarray, width: int, at: np.ndarray | None = None) -> np.ndarray:
        """The places (of `at`, if given) where a window begins whose hash is wanted. wanted: ascending."""
        n = max(0, len(self.symbols) - width + 1)
        if at is None:  # most places are no hit: a table of the hashes' upper bits says so before the exact look-up
            shift = np.uint64(64 - 6 - wanted.size.bit_length())
            table = np.zeros(1 << (64 - int(shift)), bool)
            table[wanted >> shift] = True
            hashes = (self.sums[width:] - self.sums[:n]) * self.inverses[:n]
            at = np.flatnonzero(table.take((hashes >> shift).view(np.int64)))
        at = at[at < n]
        return at[_find(self.hashes(at, width), wanted)[1]]


class _Search:
    """What is known so far. A place is a position in all samples, one after another with END behind each."""

    def __init__(self, samples: list[np.ndarray], at_least: int):
        self.at_least, self.lengths = at_least, np.array([len(sample) for sample in samples])
        self.longest, self.start = np.zeros_like(self.lengths), np.zeros_like(self.lengths)
        self.owner = np.repeat(np.arange(len(samples)), self.lengths + 1)
        self.room = np.concatenate(
            [np.arange(n, -1, -1) for n in self.lengths]
        )  # symbols from a place to its sample's end
        self.windows = _Windows(np.concatenate([np.append(sample, END) for sample in samples]))
        self.unseen = np.flatnonzero(self.room >= at_least)  # places whose window of at_least is yet to be met

    def read(self, block: _Windows) -> None:
        self.unseen = np.setdiff1d(self.unseen, self._meet(block, None, self.at_least, self.unseen)[0])
        places = np.flatnonzero(self.room > self.longest[self.owner])
        levels = LEVELS[np.searchsorted(LEVELS, self.longest[self.owner[places]] + 1, "right") - 1]
        for level, some in _groups(places, levels):
            at = block.hits(np.sort(self.windows.hashes(some, level)), level)
            for width, same in _groups(some, self.longest[self.owner[some]] + 1) if at.size else ():
                here = block.hits(np.sort(self.windows.hashes(same, width)), width, at)
                self._grow(block, here, width - 1, int(self.room[same].max()) + 1, 1, same)

    def covered(self) -> list[float]:
        met, n = np.setdiff1d(np.flatnonzero(self.room >= self.at_least), self.unseen), len(self.owner)
        change = np.bincount(met, minlength=n) - np.bincount(met + self.at_least, minlength=n)
        inside = np.bincount(self.owner, np.cumsum(change) > 0)  # END is never inside
        return (inside / np.maximum(self.lengths, 1)).tolist()

    def _grow(self, block: _Windows, at: np.ndarray, low: int, high: int, step: int, places: np.ndarray) -> None:
        """Raise the longest of samples by stretches of over low and under high symbols from these places, met at `at`."""
        if high - low < 2 or not places.size or not at.size:
            return
        width = low + min(step, (high - low) // 2)
        met, theirs = self._meet(block, at, width, places[self.room[places] >= width])
        found, first = np.unique(self.owner[met], return_index=True)
        self.longest[found], self.start[found] = width, self.lengths[found] - self.room[met[first]]
        self._grow(block, theirs, width, high, 2 * step, met)
        self._grow(block, at, low, width, width, places[~np.isin(self.owner[places], found)])

    def _meet(self, block: _Windows, at: np.ndarray | None, width: int, places: np.ndarray) -> tuple[np.ndarray, ...]:
        """Those of places whose window stands in the block at one of `at` (None: anywhere); and those of `at` where it does."""
        mine = self.windows.hashes(places, width)
        at = block.hits(np.sort(mine), width, at)
        at = at[np.argsort(block.hashes(at, width))]
        index, equal = _find(mine, block.hashes(at, width))
        places, partners = places[equal], at[index[equal]]
        for k in range(width if places.size else 0):  # what only hashes alike goes
            equal = self.windows.symbols[places + k] == block.symbols[partners + k]
            places, partners = places[equal], partners[equal]
        return places, at


def _blocks(documents: Iterable[Text], text: bool, overlap: int) -> Iterator[np.ndarray]:
    """The documents in rows of BLOCK symbols or more; long ones in pieces with `overlap` in common."""
    rows, size, stride = [JOIN], 0, max(BLOCK, overlap)
    for document in documents:
        for start in range(0, max(len(document) - overlap, 1), stride):
            piece = _symbols(document[start : start + stride + overlap], text)
            rows += [piece, JOIN]
            size += len(piece) + 1
            if size >= BLOCK:
                yield np.concatenate(rows)
                rows, size = [JOIN], 0
    yield np.concatenate(rows)


def _symbols(sequence: Text, text: bool) -> np.ndarray:
    if isinstance(sequence, str) != text:
        raise GPTError("samples and documents must all be text, or all be arrays of tokens")
    return np.array(
        np.frombuffer(sequence.encode("utf-32-le", "surrogatepass"), "<u4") if text else sequence, np.uint32
    )


def _groups(items: np.ndarray, keys: np.ndarray) -> list[tuple[int, np.ndarray]]:
    return [(int(key), items[keys == key]) for key in np.flatnonzero(np.bincount(keys))]


def _find(values: np.ndarray, ordered: np.ndarray) -> tuple[np.ndarray, ...]:
    """Index of each value in an ascending array, and whether it is there."""
    index = np.searchsorted(ordered[:-1], values)
    return index, ordered[index] == values if ordered.size else np.zeros(len(values), bool)
