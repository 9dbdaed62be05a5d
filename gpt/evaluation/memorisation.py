"""What stands word for word in the training text: the longest stretch of each of a model's samples, and the share of a text.

Windows of one width are compared by hashes, which are differences of a running sum (Karp and Rabin 1987): the hash of the
symbols from place i is x[i] B + x[i+1] B^2 + ... modulo 2^64. Windows that differ share a hash once in 10^19 pairs. A stretch
holds one of every smaller width, so bisection over widths gives the longest.

The training text is read once, in blocks. Memory does not grow with it: about 100 bytes for each symbol of a block.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gpt import GPTError

BLOCK = 1 << 18  # symbols of training text at a time
# Behind each document and each sample: no character and no token, and a window with the one equals none with the other.
DOCUMENT_END, SAMPLE_END = np.array([[0xFFFFFFFF], [0xFFFFFFFE]], np.uint32)
BASE = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2^64

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
    own = _Windows(np.concatenate([np.append(_symbols(sample, is_text), SAMPLE_END) for sample in samples]))
    ends = np.cumsum([len(sample) + 1 for sample in samples]) - 1
    places = [slice(end - len(sample), end) for sample, end in zip(samples, ends.tolist(), strict=True)]
    longest, starts = [0] * len(samples), [0] * len(samples)
    is_repeated = np.zeros(own.size, bool)  # where a window of at_least symbols begins that the training text has
    for block in map(_Windows, _blocks(documents, is_text, most)):
        found = _search(own, block)
        is_repeated |= found(at_least)
        for number, place in enumerate(places):
            length = _longest(found, place, longest[number])
            if length > longest[number]:
                longest[number], starts[number] = length, int(found(length)[place].argmax())
    covered = _covered(np.flatnonzero(is_repeated), own.size, at_least)
    return [
        Overlap(length, start, sample[start : start + length], int(covered[place].sum()) / max(1, len(sample)))
        for sample, place, length, start in zip(samples, places, longest, starts, strict=True)
    ]


def repeated(texts: Sequence[str], documents: Iterable[str], width: int) -> float:
    """The share of the texts' UTF-8 bytes in stretches of `width` characters or more that stand within one document, too.

    A window of a document is compared, character by character, with the one of the texts that has its hash. Memory: some 100
    bytes for each character of the texts.
    """
    own = np.concatenate([np.append(_symbols(text, True), SAMPLE_END) for text in texts])
    if len(own) < width:
        return 0.0
    hashes, first, kind = np.unique(_Windows(own).hashes(width), return_index=True, return_inverse=True)
    windows, found, is_likely = sliding_window_view(own, width), np.zeros(len(hashes), bool), np.zeros(1 << 24, bool)
    is_likely[hashes >> 40] = True  # by the first 24 bits, which leave few to look up
    for block in (block for block in _blocks(documents, True, width) if len(block) >= width):
        theirs = _Windows(block).hashes(width)
        places = np.flatnonzero(is_likely[theirs >> 40])
        at = np.minimum(np.searchsorted(hashes, theirs[places]), len(hashes) - 1)
        same = (hashes[at] == theirs[places]) & ~found[at]
        at, places = at[same], places[same]
        found[at[(windows[first[at]] == sliding_window_view(block, width)[places]).all(1)]] = True
    covered = _covered(np.flatnonzero(found[kind]), len(own), width)
    n_bytes = 1 + (own > 0x7F).astype(np.int64) + (own > 0x7FF) + (own > 0xFFFF)
    return int(n_bytes[covered].sum()) / max(1, int(n_bytes[own != SAMPLE_END].sum()))


def _covered(starts: np.ndarray, size: int, width: int) -> np.ndarray:
    """Which of `size` places lie in a window that begins at one of `starts`."""
    change = np.bincount(starts, minlength=size) - np.bincount(starts + width, minlength=size)[:size]
    covered: np.ndarray = np.cumsum(change) > 0
    return covered


class _Windows:
    """The hashes of the windows of a row of symbols."""

    def __init__(self, symbols: np.ndarray):
        self.size = len(symbols)
        self._sums = np.zeros(self.size + 1, np.uint64)
        np.cumsum(symbols * np.cumprod(np.full(self.size, BASE, np.uint64)), out=self._sums[1:])
        self._inverse = np.cumprod(np.full(self.size, pow(BASE, -1, 2**64), np.uint64))

    def hashes(self, width: int) -> np.ndarray:
        """The hash of the window of this width that begins at each place, uint64; none if the row is shorter."""
        sums: np.ndarray = self._sums[width:] - self._sums[:-width]
        return sums * self._inverse[: len(sums)]


def _search(own: _Windows, block: _Windows) -> Callable[[int], np.ndarray]:
    """A function of a width: for each place of `own`, whether the window that begins there stands in the block."""

    @cache
    def found(width: int) -> np.ndarray:
        ours, theirs = own.hashes(width), block.hashes(width)
        is_likely = np.zeros(1 << 20, bool)  # by the first 20 bits, which leave few to sort
        is_likely[ours >> 44] = True
        is_there = np.zeros(own.size, bool)
        is_there[: len(ours)] = np.isin(ours, theirs[is_likely[theirs >> 44]])
        return is_there

    return found


def _longest(found: Callable[[int], np.ndarray], place: slice, known: int) -> int:
    """The width of the longest window in this place that `found` finds; `known` if none is longer."""

    def is_missing(width: int) -> bool:
        return not found(width)[place].any()

    if is_missing(known + 1):  # nearly always
        return known
    return known + bisect_left(range(known + 1, place.stop - place.start + 1), True, key=is_missing)


def _blocks(documents: Iterable[Text], is_text: bool, overlap: int) -> Iterator[np.ndarray]:
    """The documents in rows of BLOCK symbols or more; long ones in pieces with `overlap` in common."""
    rows, size, stride = [DOCUMENT_END], 0, max(BLOCK, overlap)
    for document in documents:
        for start in range(0, max(len(document) - overlap, 1), stride):
            piece = _symbols(document[start : start + stride + overlap], is_text)
            rows += [piece, DOCUMENT_END]
            size += len(piece) + 1
            if size >= BLOCK:
                yield np.concatenate(rows)
                rows, size = [DOCUMENT_END], 0
    yield np.concatenate(rows)


def _symbols(sequence: Text, is_text: bool) -> np.ndarray:
    if isinstance(sequence, str) != is_text:
        raise GPTError("samples and documents must all be text, or all be arrays of tokens")
    if isinstance(sequence, str):
        sequence = np.frombuffer(sequence.encode("utf-32-le", "surrogatepass"), "<u4")
    return np.asarray(sequence, np.uint32)
