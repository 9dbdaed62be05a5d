r"""The measures of texts that the drop rules use, for many texts in one pass over their bytes.

Notable: a word becomes a number (from its first and last eight bytes and its length), and so do lines and sequences of words:
they are compared without making strings, and sorting the numbers finds the repeats. A sequence is looked at only where the
shorter ones within it occur again. Blocks are small enough to stay in the processor's cache, which halves the time: about 9 ns
a byte on one core (docs/log.md).

An example: the block of the texts "Hi you" and "a\nb", with a line end after each and PAD spaces around.

    place   0 ... 7  8   9  10  11  12  13  14  15  16  17  18  19  20 ... 27
    data     spaces  \n  H   i      y   o   u   \n  a   \n  b   \n   spaces

    starts = [9, 12, 16, 18], ends = [11, 15, 17, 19]: the words Hi, you, a, b
    first  = [0, 2, 4]: words 0 and 1 are the first text's, 2 and 3 the second's
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import polars as pl

NGRAM = 5
TOP, REPEATED = (2, 3, 4), range(NGRAM, 11)  # words of the sequences that Gopher counts
# The first character of each range of a script without spaces, and the one behind it: Thai and Lao, Burmese, Khmer, kana, Han.
UNSPACED = [
    0xE00,
    0xF00,
    0x1000,
    0x10A0,
    0x1780,
    0x1800,
    0x3041,
    0x30FB,
    0x30FC,
    0x3100,
    0x3400,
    0x4DC0,
    0x4E00,
    0xA000,
]
BULLETS, ELLIPSES = ([int.from_bytes(sign.encode(), "little") for sign in signs] for signs in ("•‣▪◦–-*", ("...", "…")))
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")

MEANINGS = {
    "n_chars": "characters",  # Unicode code points
    "n_bytes": "bytes of UTF-8",
    "n_words": "words: runs without white space, or characters of a script without spaces",  # white space of ASCII
    "word_chars": "mean length of a word",  # in characters
    "letter_words": "share of words with a letter",  # as which every character beyond ASCII counts
    "symbols": "number signs, or ellipses, a word",  # whichever are more
    "bullets": "share of lines that begin with a bullet",  # one of BULLETS
    "ellipses": "share of lines that end in an ellipsis",
    "stop_words": "how many of the eight commonest English words occur",  # STOP_WORDS
    "repeated_lines": "share of lines that repeat an earlier one",  # of the same text, by its words; blank ones aside
    "repeated_paragraphs": "the same of paragraphs",
    "top_ngrams": "share of characters in the most frequent sequence of 2, 3 or 4 words",
    "repeated_ngrams": "share of characters in sequences of 5 to 10 words that repeat an earlier one",
}
# Of the last four, Gopher publishes a limit for lines, one for their characters, and one for each length of a sequence. Each is
# the largest of these shares, each plus what its limit is below the first: one number says whether any limit is exceeded.
CHARS_OF_LINES, TOP_STEP, REPEATED_STEP = 0.1, 0.02, 0.01
COUNTS = ("n_chars", "n_bytes", "n_words", "stop_words")
COLUMNS = {name: pl.Int64 if name in COUNTS else pl.Float32 for name in MEANINGS}

BLOCK_BYTES = 256 << 10
PAD = 8
MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xFF51AFD7ED558CCD], np.uint64)


def measure(texts: pl.Series) -> pl.DataFrame:
    """COLUMNS, a row per text; a text without words has zeros. texts: strings without nulls."""
    text = pl.col("text")
    counts = texts.to_frame("text").select(
        n_chars=text.str.len_chars().cast(pl.Int64),
        n_bytes=text.str.len_bytes().cast(pl.Int64),
        signs=pl.max_horizontal(text.str.count_matches("#", literal=True), text.str.count_matches(r"\.\.\.|…")),
        stop_words=pl.sum_horizontal(text.str.contains(rf"(?i)\b{word}\b") for word in STOP_WORDS),
    )
    by_block = [_count(block) for block in blocks(texts)]
    of_words = {name: np.concatenate([block[name] for block in by_block]) for name in by_block[0]}
    symbols = pl.col("signs") / pl.col("n_words").clip(1)
    measured = pl.concat([counts, pl.DataFrame(of_words)], how="horizontal").with_columns(symbols=symbols)
    return measured.select(*COLUMNS).cast(pl.Schema(COLUMNS))


class Block(NamedTuple):
    """Some texts as one run of bytes, and where their words are. The top of the file has an example."""

    data: np.ndarray
    """uint8: the texts between two pads, a line end after each"""
    starts: np.ndarray
    """of words, in data; the words of a text stand together"""
    ends: np.ndarray
    first: np.ndarray
    """the number of each text's first word, and at the end the number of words"""

    def text_of_words(self) -> np.ndarray:
        """For each word the number of its text."""
        return np.repeat(np.arange(len(self.first) - 1), np.diff(self.first))


def blocks(texts: pl.Series, table: bytes | None = None) -> Iterator[Block]:
    """The texts, in order, in blocks of about BLOCK_BYTES. table: a byte for each byte.

    A word is a run without white space, or a character of a script without spaces.
    """
    sizes = texts.str.len_bytes().to_numpy().astype(np.int64)
    cuts = np.flatnonzero(np.diff(np.cumsum(sizes) // BLOCK_BYTES)) + 1
    raw = texts.cast(pl.Binary)
    for a, b in pairwise([0, *cuts.tolist(), len(sizes)]):
        data = np.frombuffer(b"\n".join([b" " * PAD, *raw[a:b], b" " * PAD]).translate(table), np.uint8)
        blank = data <= 32
        edges = np.flatnonzero(blank[1:] != blank[:-1]) + 1
        starts, ends = np.ascontiguousarray(edges[::2]), np.ascontiguousarray(edges[1::2])
        if (at := _unspaced(data)).size:
            bounds = np.union1d(at, at + 3)
            starts, ends = _insert(starts, bounds[~blank[bounds]]), _insert(ends, bounds[~blank[bounds - 1]])
        begins = PAD + 1 + np.concatenate([[0], np.cumsum(sizes[a:b] + 1)])
        yield Block(data, starts, ends, np.searchsorted(starts, begins))


def _unspaced(data: np.ndarray) -> np.ndarray:
    """Where characters of scripts without spaces begin. Each has three bytes, of which the first is 0xE0 to 0xE9."""
    lead = np.flatnonzero(data >= 0xE0)
    lead = lead[data[lead] <= 0xE9]
    one, two, three = (data[lead + i].astype(np.int64) for i in range(3))
    code = (one & 0x0F) << 12 | (two & 0x3F) << 6 | three & 0x3F
    return lead[np.searchsorted(UNSPACED, code, side="right") % 2 == 1]


def _insert(places: np.ndarray, more: np.ndarray) -> np.ndarray:
    """Both, sorted, each once: quicker than sorting them together."""
    at = np.searchsorted(places, more)
    new = places[np.minimum(at, len(places) - 1)] != more
    return np.insert(places, at[new], more[new])


def words(block: Block) -> tuple[np.ndarray, np.ndarray]:
    """A number for each word, and whether it has a letter (in its first or last eight bytes)."""
    lengths, n = block.ends - block.starts, len(block.data)
    eights = np.ndarray(n - 7, np.uint64, block.data, strides=(1,))  # the eight bytes from each place on
    bits_after = (np.maximum(8 - lengths, 0) * 8).astype(np.uint64)
    heads = eights[block.starts] << bits_after >> bits_after  # of a short word, without the bytes that follow it
    ids, has_letter = (heads * MIX[0]) ^ (lengths.astype(np.uint64) * MIX[1]), _letter(heads)
    long = np.flatnonzero(lengths > 8)
    tails = eights[block.ends[long] - 8]
    ids[long] ^= tails * MIX[2]
    has_letter[long] |= _letter(tails)
    return ids, has_letter


def ngrams(words: np.ndarray, text: np.ndarray) -> np.ndarray:
    """A number for every NGRAM words in a row of one text. text: of each word."""
    n = max(0, len(words) - NGRAM + 1)
    found = words[:n].copy()
    for i in range(1, NGRAM):
        found *= MIX[2]
        found += words[i : i + n]
    return scramble(found[text[:n] == text[len(text) - n :]])


def scramble(ids: np.ndarray) -> np.ndarray:
    """Spread every bit over the upper ones."""
    return (ids ^ (ids >> np.uint64(33))) * MIX[3]


def _count(block: Block) -> dict[str, np.ndarray]:
    """The measures that are taken of words: for each text of the block, 0 where it has none."""
    n, text, n_words = len(block.first) - 1, block.text_of_words(), np.diff(block.first)
    ids, has_letter = words(block)
    within = np.flatnonzero((block.data & 0xC0) == 0x80)  # bytes that do not begin a character
    inner = np.bincount(np.searchsorted(block.starts, within, side="right") - 1, minlength=len(ids))
    before = np.append(0, np.cumsum(block.ends - block.starts - inner))  # characters of the words before each

    after = np.searchsorted(block.starts, np.flatnonzero(block.data == 10))  # the word after each line end
    breaks = np.bincount(after, minlength=len(ids) + 1)[:-1]
    breaks[block.first[:-1][n_words > 0]] = 2  # a text begins a paragraph
    line, paragraph = np.flatnonzero(breaks), np.flatnonzero(breaks > 1)  # the first word of each
    last = np.append(line[1:], len(ids))[: len(line)] - 1
    places = (block.starts[line], block.ends[last] - 3)
    heads, tails = (block.data[at[:, None] + [0, 1, 2]] @ [1, 1 << 8, 1 << 16] for at in places)
    lines = np.maximum(np.bincount(text[line], minlength=n), 1)
    in_order = ids.copy()  # each word, with the one before it
    in_order[1:] += ids[:-1] * MIX[2]
    in_order = scramble(in_order)

    top, repeated = _sequences(ids, block, text, before)
    return {
        "n_words": n_words,
        "word_chars": np.diff(before[block.first]) / np.maximum(n_words, 1),
        "letter_words": np.bincount(text, has_letter, n) / np.maximum(n_words, 1),
        "bullets": np.bincount(text[line], np.isin(heads, BULLETS) | np.isin(heads & 0xFF, BULLETS), n) / lines,
        "ellipses": np.bincount(text[line], np.isin(tails, ELLIPSES), n) / lines,
        "repeated_lines": _repeated(line, ids, in_order, text, before, n),
        "repeated_paragraphs": _repeated(paragraph, ids, in_order, text, before, n),
        "top_ngrams": top,
        "repeated_ngrams": repeated,
    }


def _repeated(
    first: np.ndarray, ids: np.ndarray, in_order: np.ndarray, text: np.ndarray, before: np.ndarray, n: int
) -> np.ndarray:
    """Of n texts, the share of lines that repeat an earlier one (see CHARS_OF_LINES). first: the first word of each line.

    Of each word: its number, one for it and the one before it, its text, the characters before it.
    """
    if not len(first):
        return np.zeros(n)
    of, chars = text[first], np.diff(before[np.append(first, len(text))])
    lines = np.add.reduceat(in_order, first) - in_order[first] + ids[first]
    again = _pairs(lines + of.astype(np.uint64) * MIX[1])[2]
    share = np.bincount(of[again], minlength=n) / np.maximum(np.bincount(of, minlength=n), 1)
    of_chars = np.bincount(of[again], chars[again], n) / np.maximum(np.bincount(of, chars, n), 1)
    return np.maximum(share, _raised(of_chars, CHARS_OF_LINES))


def _sequences(ids: np.ndarray, block: Block, text: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The measures top_ngrams and repeated_ngrams. ids, text: of each word. before: characters before each word."""
    n, of_text = len(block.first) - 1, np.maximum(np.diff(before[block.first]), 1)
    top, repeated, chars = np.zeros(n), np.zeros(n), np.diff(before)
    at = np.flatnonzero(text[1:] == text[:-1])  # the first words of sequences that may occur twice in their text
    grams = (ids[at] + text[at].astype(np.uint64) * MIX[1]) * MIX[2] + ids[at + 1]
    for size in range(TOP[0], REPEATED[-1] + 1):
        pairs, places, again = _pairs(grams)
        if not pairs.size:
            break
        places, again = at[places], at[again]
        if size in TOP:
            begins = np.flatnonzero(np.diff(pairs, prepend=-2) > 1)  # of the pairs of one sequence
            one, times = places[begins], np.diff(begins, append=len(pairs)) + 1
            most = np.zeros(n, np.int64)
            np.maximum.at(most, text[one], times << 32 | before[one + size] - before[one])
            share = (most >> 32) * (most & 0xFFFFFFFF) / of_text
            top = np.maximum(top, _raised(share, TOP_STEP * (size - TOP[0])))
        else:
            covered = np.zeros(len(ids), bool)
            covered[again[:, None] + np.arange(size)] = True
            covered = np.flatnonzero(covered)
            share = np.bincount(text[covered], chars[covered], n) / of_text
            repeated = np.maximum(repeated, _raised(share, REPEATED_STEP * (size - NGRAM)))
        # A longer one occurs twice only if both shorter ones in it do. None reaches into the next text, since no two words do.
        occurs = np.zeros(len(ids) + 1, bool)
        occurs[places] = occurs[again] = True
        longer = np.flatnonzero(occurs[at] & occurs[at + 1])
        at = at[longer]
        grams = grams[longer] * MIX[2] + ids[at + size]
    return top, repeated


def _raised(share: np.ndarray, step: float) -> np.ndarray:
    """With a step added, at most 1; 0 stays 0."""
    return np.where(share > 0, np.minimum(share + step, 1), 0)


def _pairs(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where a number occurs, and where it occurs next, for each two such places; and a count that has no gap between the pairs
    of one number. A place takes the lower bits of a key, as many as are needed, and what identifies a number the others."""
    bits = np.uint64(max(1, len(numbers).bit_length()))
    keys = scramble(numbers)
    keys >>= bits
    keys <<= bits
    keys |= np.arange(len(keys), dtype=np.uint64)
    keys.sort()
    pairs = np.flatnonzero((keys[1:] ^ keys[:-1]) >> bits == 0)
    mask = (np.uint64(1) << bits) - np.uint64(1)
    return pairs, (keys[pairs] & mask).astype(np.int64), (keys[pairs + 1] & mask).astype(np.int64)


def _letter(eight: np.ndarray) -> np.ndarray:
    """Whether any of the eight bytes of each number is an ASCII letter or beyond ASCII.

    All eight at once: adding 0x80 - 0x61 to a byte below 0x80 sets its top bit if it is "a" or more, adding 0x80 - 0x7B if
    it is more than "z".
    """
    each = np.uint64(0x0101010101010101)
    lower = (eight | each * np.uint64(0x20)) & each * np.uint64(0x7F)
    from_a, after_z = lower + each * np.uint64(0x80 - 0x61), lower + each * np.uint64(0x80 - 0x7B)
    return ((from_a & ~after_z | eight) & each * np.uint64(0x80)) != 0
