"""What a model repeats word for word: the longest stretch of each sample that also stands in the training text, exactly.

Windows of symbols are compared by their names (Karp, Miller and Rosenberg 1972). Every distinct window of 1, 2, 4 ... symbols
of the samples gets a number; a window of the training text gets the number of its equal, or 0 if it has none. A window of 2n
symbols is named by the pair of its halves' names. One of any other width is identified by the names of the two windows of a
power of two that cover it: "memory" by those of "memo" and "mory". Equal pairs mean equal windows, so nothing is found by
chance, as it could be by hashes. Bisection over widths then gives the longest stretch of each sample.

The training text is read once, in blocks. Memory does not grow with it: for each power of two up to the longest sample's
length, at most 44 bytes for each symbol of a block and 12 for each of the samples (120 MB for samples of 1,000 symbols).
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gpt import GPTError

BLOCK = 1 << 18  # symbols of training text at a time
SEPARATOR = np.array([0xFFFFFFFF], np.uint32)  # behind samples and documents: no character and no token

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
    is_text, most = isinstance(samples[0], str), max(map(len, samples))
    windows = _Windows(np.concatenate([np.append(_symbols(sample, is_text), SEPARATOR) for sample in samples]), most)
    ends = np.cumsum([len(sample) + 1 for sample in samples]) - 1
    own_places = [slice(end - len(sample), end) for sample, end in zip(samples, ends.tolist(), strict=True)]
    longest, starts = [0] * len(samples), [0] * len(samples)
    repeated = np.zeros(windows.size, bool)  # where a window of at_least symbols begins that the training text has
    for block in _blocks(documents, is_text, most):
        search = _Search(windows, _Windows(block, most, windows.tables))
        repeated |= search.found(at_least)
        for number, own in enumerate(own_places):
            length = search.longest(own, longest[number])
            if length > longest[number]:
                longest[number], starts[number] = length, int(search.found(length)[own].argmax())
    edges = np.flatnonzero(repeated), np.flatnonzero(repeated) + at_least
    change = np.bincount(edges[0], minlength=windows.size) - np.bincount(edges[1], minlength=windows.size)
    covered = np.cumsum(change) > 0
    return [
        Overlap(length, start, sample[start : start + length], int(covered[own].sum()) / max(1, len(sample)))
        for sample, own, length, start in zip(samples, own_places, longest, starts, strict=True)
    ]


class _Search:
    """Which windows of the samples stand in a block of training text."""

    def __init__(self, samples: "_Windows", block: "_Windows"):
        self._samples, self._block = samples, block
        self._found: dict[int, np.ndarray] = {}

    def found(self, width: int) -> np.ndarray:
        """For each place of the samples, whether the window of this width that begins there stands in the block."""
        if width not in self._found:
            places, keys = self._samples.named(width)
            self._found[width] = np.zeros(self._samples.size, bool)
            self._found[width][places] = np.isin(keys, self._block.named(width)[1])
        return self._found[width]

    def longest(self, places: slice, known: int) -> int:
        """The width of the longest window between these places that stands in the block; `known` if none is longer."""

        def is_missing(width: int) -> bool:
            return not self.found(width)[places].any()

        if is_missing(known + 1):
            return known
        return known + bisect_left(range(known + 1, places.stop - places.start + 1), True, key=is_missing)


class _Windows:
    """The names of all windows of 1, 2, 4 ... symbols, up to `longest`, in a row of symbols.

    tables: those of another row, whose windows then give the names. Without, every window between separators gets one.
    """

    def __init__(self, symbols: np.ndarray, longest: int, tables: "list[_Table] | None" = None):
        self.size, self.tables = len(symbols), tables or []
        self._levels: list[
            tuple[np.ndarray, np.ndarray]
        ] = []  # where named windows begin; the name at every place, or 0
        places = np.flatnonzero(symbols != SEPARATOR)
        keys = symbols[places].astype(np.int64)
        for level in range(longest.bit_length()):
            if tables is None:
                self.tables.append(_Table(keys))
            found = self.tables[level].names(keys)
            places = places[found > 0]
            names = np.zeros(self.size, np.int32)
            names[places] = found[found > 0]
            self._levels.append((places, names))
            places, keys = self._pairs(level, 1 << level)

    def named(self, width: int) -> tuple[np.ndarray, np.ndarray]:
        """The places where a named window of this width begins, and a key for each: equal keys mean equal windows."""
        level = width.bit_length() - 1
        if level >= len(self._levels):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return self._pairs(level, width - (1 << level))

    def _pairs(self, level: int, distance: int) -> tuple[np.ndarray, np.ndarray]:
        """Where a named window has another at this distance, and the two names as one number."""
        places, names = self._levels[level]
        places = places[places < self.size - distance]
        second = names[places + distance]
        places, second = places[second > 0], second[second > 0]
        return places, names[places].astype(np.int64) * self.tables[level].size + second


class _Table:
    """Names for distinct keys: numbers from 1, in the order of the keys."""

    def __init__(self, keys: np.ndarray):
        self._keys = np.append(np.unique(keys), np.iinfo(np.int64).max)
        self.size = len(self._keys)
        self._by_key = np.empty(0, np.int32)
        if self.size > 1 and self._keys[-2] < 8 * BLOCK:  # a table of all possible keys is quicker than bisection
            self._by_key = np.zeros(self._keys[-2] + 2, np.int32)
            self._by_key[self._keys[:-1]] = np.arange(1, self.size)

    def names(self, keys: np.ndarray) -> np.ndarray:
        """The name of each key, 0 where it has none."""
        if self._by_key.size:
            names: np.ndarray = self._by_key[np.minimum(keys, len(self._by_key) - 1)]
            return names
        index = np.searchsorted(self._keys[:-1], keys)
        return np.where(self._keys[index] == keys, index + 1, 0)


def _blocks(documents: Iterable[Text], is_text: bool, overlap: int) -> Iterator[np.ndarray]:
    """The documents in rows of BLOCK symbols or more; long ones in pieces with `overlap` in common."""
    rows, size, stride = [SEPARATOR], 0, max(BLOCK, overlap)
    for document in documents:
        for start in range(0, max(len(document) - overlap, 1), stride):
            piece = _symbols(document[start : start + stride + overlap], is_text)
            rows += [piece, SEPARATOR]
            size += len(piece) + 1
            if size >= BLOCK:
                yield np.concatenate(rows)
                rows, size = [SEPARATOR], 0
    yield np.concatenate(rows)


def _symbols(sequence: Text, is_text: bool) -> np.ndarray:
    if isinstance(sequence, str) != is_text:
        raise GPTError("samples and documents must all be text, or all be arrays of tokens")
    if isinstance(sequence, str):
        sequence = np.frombuffer(sequence.encode("utf-32-le", "surrogatepass"), "<u4")
    return np.asarray(sequence, np.uint32)
