"""Long texts are cut into parts at line ends, so that no document is endless, and into zones, so that one book can be split.

Nothing is lost or added: the parts of a text, put together, are the text.

A zone belongs to one side of the split. It is cut out of the raw text, before any rule, at places that depend on nothing else:
in each octave, which ends at twice the characters at which it begins, the last ones are of val and of test. So zones stay where
they are under other rules, and when text is added behind, and there are few of them. Between a half and the whole of the
fractions is held out, as an unfinished octave is all of train.
"""

import hashlib
import re
from functools import partial
from io import StringIO
from itertools import accumulate, groupby, pairwise

import polars as pl

from data_contracts.contracts import SPLITS
from data_contracts.rules import Rules

ENOUGH = 20  # sources of a corpus: each is drawn as a whole. Of fewer, zones decide
SMALLEST, FIRST = (
    10,
    13,
)  # a text of 2**10 characters has zones; the first octave ends at 2**13, or at what a shorter text has
WITHIN = 500  # characters in which a line end, or else a space, is looked for


def zones(texts: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """Each long text as its zones, if texts may be cut and are of few sources. zone: a place in SPLITS, null if there is none.

    metadata gains "at", the character at which a zone begins; section is 16 hex digits of the layout and the zone.
    """
    whole = {"zone": pl.lit(None, pl.UInt8), "section": pl.lit("0" * 16)}
    if not rules.split_chars or texts["source_id"].n_unique() >= ENOUGH:
        return texts.with_columns(**whole)
    held_out = rules.val_fraction + rules.test_fraction
    rows = [texts.clear().with_columns(**whole)]
    for row, text in enumerate(texts["text"]):
        first = min(FIRST, len(text).bit_length() - 1)
        if first < SMALLEST:
            rows.append(texts[row].with_columns(**whole))
            continue
        starts, begin, end = list[int](), 0, 1 << first
        while begin < len(text):
            shares = 1, held_out, rules.test_fraction
            starts += [end - round(share * (end - begin)) for share in shares]
            begin, end = end, 2 * end
        layout = hashlib.sha256(f"{first}:{rules.val_fraction}:{rules.test_fraction}".encode()).hexdigest()[:8]
        cuts = [*(_break(text, start) for start in starts), len(text)]
        found = [
            {"text": text[here:there], "at": here, "zone": number % len(SPLITS), "section": f"{layout}{number:08x}"}
            for number, (here, there) in enumerate(pairwise(cuts))
            if here < there
        ]
        columns = pl.DataFrame(found, schema_overrides={"zone": pl.UInt8})
        metadata = _extended(pl.lit(texts["metadata"][row]), '"at":{}', "at")
        rows.append(
            texts[row].drop("text", "metadata").join(columns.select(pl.exclude("at"), metadata=metadata), how="cross")
        )
    return pl.concat([frame.select(rows[0].columns) for frame in rows])


def cut(texts: pl.LazyFrame, limit: int) -> pl.LazyFrame:
    """Each text longer than `limit` characters as parts of about equal length, in order; the others as they are.

    metadata of a part gains "part" (from 1) and "parts". limit 0 cuts nothing.
    """
    if not limit:
        return texts
    parts = pl.col("text").map_elements(partial(_parts, limit=limit), return_dtype=pl.List(pl.String))
    numbered = _extended(pl.col("metadata"), '"part":{},"parts":{}', "part", "parts")
    return (
        texts.with_columns(text=parts)
        .with_columns(parts=pl.col("text").list.len())
        .with_columns(part=pl.int_ranges(1, pl.col("parts") + 1))
        .explode("text", "part")
        .with_columns(metadata=pl.when(pl.col("parts") > 1).then(numbered).otherwise("metadata"))
        .drop("part", "parts")
    )


def _extended(metadata: pl.Expr, members: str, *values: str) -> pl.Expr:
    """A JSON object with more members."""
    opened = metadata.str.strip_suffix("}")
    comma = pl.when(opened == "{").then(pl.lit("")).otherwise(pl.lit(","))
    return pl.format("{}{}" + members + "}}", opened, comma, *values)


def _break(text: str, start: int) -> int:
    """Where the line, or else the word, ends that stands at `start`; 0 for the beginning."""
    within = start, start + WITHIN
    return start and (text.find("\n", *within) + 1 or text.find(" ", *within) + 1 or min(start, len(text)))


def _parts(text: str, limit: int) -> list[str]:
    """A part ends where a line ends (where a word ends, in lines longer than `limit`), so it may exceed its share by one.

    Shares are equal: a short rest would be rejected as `too_short`, and lost.
    """
    if len(text) <= limit:
        return [text]
    shares = -(-len(text) // limit)
    units: list[str] = []
    for line in StringIO(text, newline="\n"):
        units += [line] if len(line) <= limit else re.findall("[^ ]* |[^ ]+", line)
    starts = accumulate(map(len, units), initial=0)
    placed = groupby(zip(starts, units, strict=False), key=lambda unit: unit[0] * shares // len(text))
    return ["".join(unit for _, unit in part) for _, part in placed]
