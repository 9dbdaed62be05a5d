r"""The measures of texts that the drop rules use, for many texts in one pass over their bytes.

Notable: a word becomes a number (from its first and last eight bytes and its length), and so do lines and sequences of words:
they are compared without making strings, and sorting the numbers finds the repeats. A sequence is looked at only where the
shorter ones within it occur again. Blocks are small enough to stay in the processor's cache, which halves the time: about 7 ns
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

from data_contracts.contracts import COLUMNS

Array = np.ndarray
NGRAM = 5
TOP, REPEATED = (2, 3, 4), range(NGRAM, 11)  # words of the sequences that Gopher counts
# The first character of each range of a script without spaces, and the one behind it: Thai and Lao, Burmese, Khmer, kana, Han.
SCRIPTS = (0xE00, 0xF00), (0x1000, 0x10A0), (0x1780, 0x1800), (0x3041, 0x30FB), (0x30FC, 0x3100), (0x3400, 0x4DC0)
UNSPACED = np.ravel((*SCRIPTS, (0x4E00, 0xA000)))
BULLETS, ELLIPSES = ([int.from_bytes(sign.encode(), "little") for sign in signs] for signs in ("•‣▪◦–-*", ("...", "…")))
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")

# Of repeats, Gopher publishes a limit for lines, one for their characters and one for each length of a sequence. A measure is
# the largest of these shares, each plus what its limit is below the first: one number says whether any limit is exceeded.
CHARS_OF_LINES, TOP_STEP, REPEATED_STEP = 0.1, 0.02, 0.01
BLOCK_BYTES = 512 << 10
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

    data: Array
    """uint8: the texts between two pads, a line end after each"""
    starts: Array
    """of words, in data; the words of a text stand together"""
    ends: Array
    first: Array
    """the number of each text's first word, and at the end the number of words"""

    def text_of_words(self) -> Array:
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
        joined = b"\n".join([b" " * PAD, *raw[a:b], b" " * PAD])
        data = np.frombuffer(joined.translate(table) if table else joined, np.uint8)
        blank = data <= 32
        begin, end = blank[:-1] > blank[1:], blank[:-1] < blank[1:]
        bounds = _unspaced(data)[:, None] + [0, 3]
        begin[bounds - 1] |= ~blank[bounds]
        end[bounds - 1] |= ~blank[bounds - 1]
        starts, ends = np.flatnonzero(begin) + 1, np.flatnonzero(end) + 1
        begins = PAD + 1 + np.concatenate([[0], np.cumsum(sizes[a:b] + 1)])
        yield Block(data, starts, ends, np.searchsorted(starts, begins))


def _unspaced(data: Array) -> Array:
    """Where characters of scripts without spaces begin. Each has three bytes, of which the first is 0xE0 to 0xE9."""
    lead = np.flatnonzero(data - 0xE0 <= 9)
    one, two, three = (data[lead + i].astype(np.int64) for i in range(3))
    code = (one & 0x0F) << 12 | (two & 0x3F) << 6 | three & 0x3F
    return lead[np.searchsorted(UNSPACED, code, side="right") % 2 == 1]


def words(block: Block) -> tuple[Array, Array]:
    """A number for each word, and the places of those without a letter (in their first and last eight bytes)."""
    lengths, n = block.ends - block.starts, len(block.data)
    eights = np.ndarray(n - 7, np.uint64, block.data, strides=(1,))  # the eight bytes from each place on
    tails = eights[block.ends - 8] >> np.maximum(64 - (lengths << 3), 0).view(np.uint64)  # a short word's are the whole
    ids = (tails * MIX[0]) ^ (lengths.view(np.uint64) * MIX[1])
    long = np.flatnonzero(lengths > 8)
    ids[long] ^= eights[block.starts[long]] * MIX[2]
    bare = np.flatnonzero(~_letters(block.data[block.starts]))  # few
    bare = bare[~_has_letter(tails[bare])]
    return ids, bare[(lengths[bare] <= 8) | ~_has_letter(eights[block.starts[bare]])]


def ngrams(words: Array, text: Array) -> Array:
    """A number for every NGRAM words in a row of one text. text: of each word."""
    n = max(0, len(words) - NGRAM + 1)
    found = words[:n].copy()
    for i in range(1, NGRAM):
        found *= MIX[2]
        found += words[i : i + n]
    return scramble(found[text[:n] == text[len(text) - n :]])


def scramble(ids: Array) -> Array:
    """Spread every bit over the upper ones."""
    return (ids ^ (ids >> np.uint64(33))) * MIX[3]


def _count(block: Block) -> dict[str, Array]:
    """The measures that are taken of words: for each text of the block, 0 where it has none."""
    n, text, n_words = len(block.first) - 1, block.text_of_words(), np.diff(block.first)
    ids, bare = words(block)
    ids += text.astype(np.uint64) * MIX[1]  # so that nothing is like something of another text
    twos = np.zeros(len(ids), np.uint64)  # a number for each word with the next one
    np.add(ids[:-1] * MIX[2], ids[1:], out=twos[:-1])
    twos = scramble(twos)
    within = np.flatnonzero(block.data.view(np.int8) < -64)  # bytes that do not begin a character
    inner = np.bincount(np.searchsorted(block.starts, within, side="right") - 1, minlength=len(ids))
    before = np.zeros(len(ids) + 1, np.int64)  # characters of the words before each
    np.cumsum(block.ends - block.starts - inner, out=before[1:])

    # The word after each line end. A text begins a paragraph, and so does a word behind two line ends.
    line, breaks = np.unique(np.searchsorted(block.starts, np.flatnonzero(block.data == 10)), return_counts=True)
    line = line[line < len(ids)]
    breaks = breaks[: len(line)]
    breaks[np.searchsorted(line, block.first[:-1][n_words > 0])] = 2
    places = (block.starts[line], block.ends[np.append(line[1:], len(ids))[: len(line)] - 1] - 3)
    heads, tails = (block.data[at[:, None] + [0, 1, 2]] @ [1, 1 << 8, 1 << 16] for at in places)
    lines = np.maximum(np.bincount(text[line], minlength=n), 1)
    chars = np.diff(before[block.first])
    repeats = [_repeated(first, ids, twos, text, before, n) for first in (line, line[breaks > 1])]
    top, repeated = _sequences(ids, twos, text, before, np.maximum(chars, 1))
    return {
        "n_words": n_words,
        "word_chars": chars / np.maximum(n_words, 1),
        "letter_words": (n_words - np.bincount(text[bare], minlength=n)) / np.maximum(n_words, 1),
        "bullets": np.bincount(text[line], np.isin(heads, BULLETS) | np.isin(heads & 0xFF, BULLETS), n) / lines,
        "ellipses": np.bincount(text[line], np.isin(tails, ELLIPSES), n) / lines,
        "repeated_lines": repeats[0],
        "repeated_paragraphs": repeats[1],
        "top_ngrams": top,
        "repeated_ngrams": repeated,
    }


def _repeated(first: Array, ids: Array, twos: Array, text: Array, before: Array, n: int) -> Array:
    """Of n texts, the share of lines that repeat an earlier one (see CHARS_OF_LINES). first: the first word of each line."""
    if not len(first):
        return np.zeros(n)
    of, ends = text[first], np.append(first[1:], len(ids))
    chars = before[ends] - before[first]
    numbers = scramble(np.add.reduceat(twos, first) - twos[ends - 1] + ids[first])
    _, again = _pairs(numbers, np.arange(len(first)))[1:]
    share = np.bincount(of[again], minlength=n) / np.maximum(np.bincount(of, minlength=n), 1)
    of_chars = np.bincount(of[again], chars[again], n) / np.maximum(np.bincount(of, chars, n), 1)
    return np.maximum(share, _raised(of_chars, CHARS_OF_LINES))


def _sequences(ids: Array, twos: Array, text: Array, before: Array, of_text: Array) -> tuple[Array, Array]:
    """The measures top_ngrams and repeated_ngrams. of_text: the characters of each text's words."""
    n = len(of_text)
    top, repeated, chars = np.zeros(n), np.zeros(n), np.diff(before)
    at = np.arange(len(ids) - 1)  # the first words of the sequences that may occur twice
    grams = twos  # a number for each sequence, by its first word
    numbers = grams[:-1]
    for size in range(TOP[0], REPEATED[-1] + 1):
        pairs, places, again = _pairs(numbers, at)
        if not pairs.size:
            break
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
        # A longer one occurs twice only if both shorter ones in it do.
        occurs = np.zeros(len(ids) + 1, bool)
        occurs[places] = occurs[again] = True
        at = np.flatnonzero(occurs[:-1] & occurs[1:])
        grams[at] = grams[at] * MIX[2] + ids[at + size]
        numbers = scramble(grams[at])
    return top, repeated


def _raised(share: Array, step: float) -> Array:
    """With a step added, at most 1; 0 stays 0."""
    return np.where(share > 0, np.minimum(share + step, 1), 0)


def _pairs(numbers: Array, at: Array) -> tuple[Array, Array, Array]:
    """Where a number occurs, and where it occurs next, for each two such places; and a count that has no gap between the pairs
    of one number. A place takes the lower bits of a key, as many as are needed, and what identifies a number the others.

    numbers: scrambled ones; at: their places, in order."""
    mask = np.uint64((1 << int(at[-1]).bit_length()) - 1) if len(at) else np.uint64(0)
    keys = numbers & ~mask
    keys |= at.view(np.uint64)
    keys.sort()
    pairs = np.flatnonzero((keys[1:] ^ keys[:-1]) <= mask)
    return pairs, (keys[pairs] & mask).view(np.int64), (keys[pairs + 1] & mask).view(np.int64)


def _letters(data: Array) -> Array:
    """Which bytes are ASCII letters, or beyond ASCII."""
    return ((data | 32) - 97 < 26) | (data >= 128)


def _has_letter(eights: Array) -> Array:
    """The same of any of the eight bytes of each number."""
    return _letters(eights.view(np.uint8)).view(np.uint64) != 0
