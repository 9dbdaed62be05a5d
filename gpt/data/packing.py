"""How documents become sequences of T tokens: the layout of one epoch.

A layout is a list of pieces of documents on a line; sequence i is what lies at i*T..(i+1)*T. Two strategies:

concat      documents one after another, cut wherever a sequence ends. Nothing is lost, nothing padded but the very end.
best_fit    a document of up to T tokens is never cut, a longer one into pieces of T; pieces are put where the least room is
            left, longest first, and what stays free is padding. Worked out on the histogram of lengths (Krell 2021, "Efficient
            sequence packing without cross-contamination"), so millions of documents take as long as a thousand.

Each epoch lays the documents out anew, in an order that is a pure function of (seed, epoch); every token is a target of exactly
one position of exactly one sequence, and the number of sequences is the same in every epoch.
"""

from bisect import bisect_left, insort
from collections import defaultdict
from typing import Literal, NamedTuple

import numpy as np

Strategy = Literal["concat", "best_fit"]
PADDING = -1


class Layout(NamedTuple):
    """Pieces in the order in which they lie; P of them."""

    starts: np.ndarray
    """(P + 1,) where each begins on the line; the last is the end, a multiple of T"""
    offsets: np.ndarray
    """(P,) where its first token stands in the split; anything where it is padding"""
    documents: np.ndarray
    """(P,) the document that it is of, or PADDING"""
    order: np.ndarray
    """(n_sequences,) the sequences, in the order in which the epoch visits them"""


def lay_out(lengths: np.ndarray, T: int, strategy: Strategy, generator: np.random.Generator | None) -> Layout:
    """The layout of documents with these lengths (eos included), which stand one after another in their split.

    generator: of the epoch's order; None keeps that of the split, as evaluation wants it.
    """
    offsets = np.cumsum(lengths) - lengths
    documents = np.arange(len(lengths))
    if strategy == "best_fit":
        offsets, documents, lengths = _cut(offsets, documents, lengths, T)
    if generator is not None:
        shuffled = generator.permutation(len(lengths))
        offsets, documents, lengths = offsets[shuffled], documents[shuffled], lengths[shuffled]
    if strategy == "best_fit":
        slots = _slots(lengths, T)
        place = np.empty(len(slots), np.int64)
        place[np.flatnonzero(slots > 0)[np.argsort(-slots[slots > 0], kind="stable")]] = np.argsort(
            -lengths, kind="stable"
        )
        padding = slots < 0
        offsets = np.where(padding, 0, offsets[np.where(padding, 0, place)])
        documents = np.where(padding, PADDING, documents[np.where(padding, 0, place)])
        lengths = np.abs(slots)
    elif rest := -int(lengths.sum()) % T:
        offsets, documents, lengths = np.append(offsets, 0), np.append(documents, PADDING), np.append(lengths, rest)
    starts = np.concatenate(([0], np.cumsum(lengths)))
    n = int(starts[-1]) // T
    return Layout(starts, offsets, documents, np.arange(n) if generator is None else generator.permutation(n))


def _cut(offsets: np.ndarray, documents: np.ndarray, lengths: np.ndarray, T: int) -> tuple[np.ndarray, ...]:
    """Documents as pieces of at most T tokens. One of exactly T stays whole, and its eos is a piece of its own."""
    pieces = -(-lengths // T)
    number = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)  # of each within its document
    left = np.repeat(lengths, pieces) - number * T
    return np.repeat(offsets, pieces) + number * T, np.repeat(documents, pieces), np.minimum(left, T)


def _slots(lengths: np.ndarray, T: int) -> np.ndarray:
    """The lengths of pieces as they lie, sequence by sequence; the padding that ends a sequence as a negative length."""
    room: dict[int, list[tuple[int, tuple[int, ...]]]] = defaultdict(list)  # left -> (how many sequences, their pieces)
    lefts: list[int] = []  # those with sequences, ascending

    def put(count: int, pieces: tuple[int, ...], left: int) -> None:
        if count:
            if not room[left]:
                insort(lefts, left)
            room[left].append((count, pieces))

    for length, waiting in reversed(
        list(zip(*map(np.ndarray.tolist, np.unique(lengths, return_counts=True)), strict=True))
    ):
        while waiting:
            at = bisect_left(lefts, length)
            left = lefts[at] if at < len(lefts) else T
            count, pieces = room[left].pop() if at < len(lefts) else (waiting, ())
            if at < len(lefts) and not room[left]:
                del lefts[at]
            each = left // length  # once a piece is in, this sequence is the one with the least room
            full, rest = divmod(min(waiting, count * each), each)
            put(full, pieces + (length,) * each, left - each * length)
            put(int(rest > 0), pieces + (length,) * rest, left - rest * length)
            if pieces:
                put(count - full - (rest > 0), pieces, left)
            waiting -= full * each + rest
    groups = [group for left in lefts for group in ((count, pieces, left) for count, pieces in room[left])]
    return np.concatenate([np.tile(pieces + ((-left,) if left else ()), count) for count, pieces, left in groups])
