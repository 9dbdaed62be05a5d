"""Long texts are cut into parts where lines, sentences or words end, so that no document is endless, and into zones, so that
one book can be split.

Nothing is lost or added: the parts of a text, put together, are the text.

A zone belongs to one side of the split. It is cut out of the raw text, before any rule, at places that depend on nothing else:
in each octave, which ends at twice the characters at which it begins, the last ones are of val and of test. So zones stay where
they are under other rules, and when text is added behind, and there are few of them. Between a half and the whole of the
fractions is held out, as an unfinished octave is all of train.
"""

import hashlib
import json
import re
from functools import partial
from itertools import accumulate, groupby, pairwise

import polars as pl

from data_contracts.contracts import SPLITS
from data_contracts.rules import Rules

ENOUGH = 20  # sources of a corpus: each is drawn as a whole. Of fewer, zones decide
SMALLEST = 10  # a text of 2**10 characters has zones
FIRST = 13  # the first octave ends at 2**13 characters, or at what a shorter text has
WITHIN = 500  # characters in which a line end, or else a space or the end of a sentence, is looked for
SENTENCE_END = r"(?:[.!?…؟।][\"'”’»)\]]*\s+|[。！？][”’」』）]*)"
LINES, SENTENCES, WORDS = r"[^\n]*\n|[^\n]+", rf"(?s).+?(?:{SENTENCE_END}|\Z)", "[^ ]* |[^ ]+"


def zones(texts: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """Each long text as its zones, if texts may be cut and are of few sources. zone: a place in SPLITS, null if there is none.

    metadata gains "at", the character at which a zone begins; section is 16 hex digits of the layout and the zone.
    """
    whole = {"zone": pl.lit(None, pl.UInt8), "section": pl.lit("0" * 16)}
    if not rules.split_chars or texts["source_id"].n_unique() >= ENOUGH:
        return texts.with_columns(**whole)
    shares, rows = (1, rules.val_fraction + rules.test_fraction, rules.test_fraction), []
    for row in texts.with_columns(**whole).iter_rows(named=True):
        text, octave = row["text"], len(row["text"]).bit_length()
        first = min(FIRST, octave - 1)
        if first < SMALLEST:
            rows.append(row)
            continue
        octaves = pairwise([0, *(1 << end for end in range(first, octave + 1))])
        starts = [_break(text, end - round(share * (end - begin))) for begin, end in octaves for share in shares]
        layout = hashlib.sha256(f"{first}:{shares}".encode()).hexdigest()[:8]
        for number, (here, there) in enumerate(pairwise([*starts, len(text)])):
            about = json.dumps(json.loads(row["metadata"]) | {"at": here}, ensure_ascii=False, separators=(",", ":"))
            zone = {"zone": number % len(SPLITS), "section": f"{layout}{number:08x}"}
            rows += [row | zone | {"text": text[here:there], "metadata": about}] if here < there else []
    return pl.DataFrame(rows, texts.clear().with_columns(**whole).schema)


def cut(texts: pl.LazyFrame, limit: int) -> pl.LazyFrame:
    """Each text longer than `limit` characters as parts of about equal length, in order; the others as they are.

    metadata of a part gains "part" (from 1) and "parts". limit 0 cuts nothing.
    """
    if not limit:
        return texts
    parts = pl.col("text").map_elements(partial(_parts, limit=limit), return_dtype=pl.List(pl.String))
    opened = pl.col("metadata").str.strip_suffix("}")
    comma = pl.when(opened == "{").then(pl.lit("")).otherwise(pl.lit(","))
    numbered = pl.format('{}{}"part":{},"parts":{}}}', opened, comma, "part", "parts")
    return (
        texts.with_columns(text=parts)
        .with_columns(parts=pl.col("text").list.len())
        .with_columns(part=pl.int_ranges(1, pl.col("parts") + 1))
        .explode("text", "part")
        .with_columns(metadata=pl.when(pl.col("parts") > 1).then(numbered).otherwise("metadata"))
        .drop("part", "parts")
    )


def _break(text: str, start: int) -> int:
    """Where the line, or else the word or the sentence, ends that stands at `start`; 0 for the beginning."""
    within = start, start + WITHIN
    if found := start and (text.find("\n", *within) + 1 or text.find(" ", *within) + 1):
        return found
    sentence = re.compile(SENTENCE_END).search(text, *within) if start else None
    return sentence.end() if sentence else min(start, len(text))


def _parts(text: str, limit: int) -> list[str]:
    """A part ends where a line ends, or a sentence in a text without line ends; in longer ones, where a word or, at last, a
    character ends. So it may exceed its share by one.

    Shares are equal: a short rest would be rejected as `too_short`, and lost.
    """
    if len(text) <= limit:
        return [text]
    shares = -(-len(text) // limit)
    units = [text]
    for pattern in (LINES if "\n" in text else SENTENCES, WORDS, rf"(?s).{{1,{limit}}}"):
        units = [unit for long in units for unit in ([long] if len(long) <= limit else re.findall(pattern, long))]
    starts = accumulate(map(len, units), initial=0)
    placed = groupby(zip(starts, units, strict=False), key=lambda unit: unit[0] * shares // len(text))
    return ["".join(unit for _, unit in part) for _, part in placed]
