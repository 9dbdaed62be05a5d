"""How documents become sequences of T tokens: the layout of one epoch.

A layout puts pieces of documents on a line; sequence i is what lies at i*T..(i+1)*T. Two strategies:

concat      documents one after another, cut wherever a sequence ends. Nothing is lost; only the very end is padded.
best_fit    a document of up to T tokens is never cut, a longer one is cut into pieces of T. A piece goes where the least
            space is left, longest first; the space that stays free is padding. It works on the histogram of lengths (Krell
            2021, "Efficient sequence packing without cross-contamination"), so millions of documents take as long as thousands.

Each epoch lays the documents out anew, in an order that is a pure function of (seed, epoch). Every token is a target of exactly
one position of exactly one sequence, and every epoch has the same number of sequences.
"""

from bisect import bisect_left, bisect_right, insort_right
from operator import attrgetter
from typing import Literal, NamedTuple

import numpy as np

Strategy = Literal["concat", "best_fit"]
PADDING = -1


class Layout(NamedTuple):
    """Pieces in the order in which they lie; P of them."""

    starts: np.ndarray  # (P + 1,) where each begins on the line; the last is the end, a multiple of T
    offsets: np.ndarray  # (P,) where its first token stands in the split; 0 if it is padding
    documents: np.ndarray  # (P,) the document that it is part of, or PADDING
    order: np.ndarray  # (n_sequences,) the sequences, in the order in which the epoch visits them


def lay_out(lengths: np.ndarray, T: int, strategy: Strategy, generator: np.random.Generator | None) -> Layout:
    """The layout of documents with these lengths (eos included), which stand one after another in their split.

    generator: draws the epoch's order; None keeps the split's own order, for evaluation.
    """
    # (3, P): offset, document and length of each piece
    pieces = np.stack((np.cumsum(lengths) - lengths, np.arange(len(lengths)), lengths))
    if strategy == "best_fit":
        pieces = _cut(pieces, T)
    if generator is not None:
        pieces = pieces[:, generator.permutation(pieces.shape[1])]
    if strategy == "best_fit":
        pieces = _best_fit(pieces, T)
    elif rest := -int(lengths.sum()) % T:
        pieces = np.append(pieces, [[0], [PADDING], [rest]], axis=1)
    offsets, documents, lengths = pieces
    starts = np.concatenate(([0], np.cumsum(lengths)))
    n = int(starts[-1]) // T
    return Layout(starts, offsets, documents, np.arange(n) if generator is None else generator.permutation(n))


def _cut(pieces: np.ndarray, T: int) -> np.ndarray:
    """Documents cut into pieces of at most T tokens. One of T tokens and its eos becomes a piece of T and one of 1."""
    counts = -(-pieces[2] // T)
    offsets, documents, lengths = np.repeat(pieces, counts, axis=1)
    begins = (np.arange(len(documents)) - np.repeat(np.cumsum(counts) - counts, counts)) * T  # within each document
    return np.stack((offsets + begins, documents, np.minimum(lengths - begins, T)))


def _best_fit(pieces: np.ndarray, T: int) -> np.ndarray:
    """The pieces in their places, sequence by sequence, with padding where a sequence is not full."""
    slots = fill_sequences(pieces[2], T)
    placed = np.stack((np.zeros_like(slots), np.full_like(slots, PADDING), np.abs(slots)))
    # Longest first; among pieces of equal length, the first takes the first slot.
    taken = np.flatnonzero(slots > 0)
    placed[:, taken[np.argsort(-slots[taken], kind="stable")]] = pieces[:, np.argsort(-pieces[2], kind="stable")]
    return placed


class Group(NamedTuple):
    """Sequences that hold pieces of the same lengths."""

    n: int
    lengths: tuple[int, ...]
    free: int


def fill_sequences(lengths: np.ndarray, T: int) -> np.ndarray:
    """The lengths of pieces in their places, sequence by sequence; padding at the end of a sequence is a negative length.

    Best-fit decreasing, for all pieces of one length at once. For example T = 10 and the lengths 6, 6, 4, 3, 3:

        2 pieces of 6   no sequence is open, so each opens one          2 x [6], 4 free
        1 piece of 4    4 free are enough: it fills one of them         [6 4], 0 free       [6], 4 free
        2 pieces of 3   the first fits where 4 are free,                [6 4], 0 free       [6 3], 1 free
                        the second opens a sequence                                         [3], 7 free

    gives 6 4 | 6 3 -1 | 3 -7.
    """
    free, groups = attrgetter("free"), list[Group]()  # groups ascend by free space, the oldest first among equals
    distinct, counts = np.unique(lengths, return_counts=True)
    for length, waiting in zip(distinct[::-1].tolist(), counts[::-1].tolist(), strict=True):
        while waiting:
            fitting = bisect_left(groups, length, key=free)
            if fitting < len(groups):
                newest = bisect_right(groups, groups[fitting].free, key=free) - 1
                group = groups.pop(newest)
            else:
                group = Group(waiting, (), T)
            # Once it has a piece, a sequence is the one with the least space: it takes as many as fit.
            at_most = group.free // length
            placed = min(waiting, group.n * at_most)
            filled, rest = divmod(placed, at_most)
            untouched = group.n - filled - (rest > 0)
            for n, added in ((filled, at_most), (int(rest > 0), rest), (untouched, 0)):
                new = Group(n, group.lengths + (length,) * added, group.free - added * length)
                if new.n and new.lengths:
                    insort_right(groups, new, key=free)
            waiting -= placed
    padded = ((group.n, group.lengths + ((-group.free,) if group.free else ())) for group in groups)
    return np.concatenate([np.tile(slots, n) for n, slots in padded])
