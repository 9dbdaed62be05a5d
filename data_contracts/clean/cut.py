"""Long texts are cut into parts at line ends, so that one book can be split into train and val, and no document is endless.

Nothing is lost or added: the parts of a text, put together, are the text.
"""

import re
from functools import partial
from io import StringIO
from itertools import accumulate, groupby

import polars as pl


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
