"""A mixture of corpora: the clean documents of each part (sources.mixture), on the sides that they have there.

Leaks are looked for anew, as a text of one part may stand in another.
"""

from pathlib import Path

import polars as pl

from data_contracts.contracts import SPLITS, Check, Column, raw_rows
from data_contracts.readers import PLACE

FILES = ("*.parquet",)
Raw = raw_rows(text=Column(str), split=Column(str, Check.isin(SPLITS)), place=Column(str), metadata=Column(str))
DRAWN = dict(zip(SPLITS, (0.5, 0.0, 1.0), strict=True))  # what split.side_of takes for the side, whatever the shares


def read(path: Path, name: str) -> pl.LazyFrame:
    """The documents of a part. Their files are called by its name: wsb/reddit_wsb.csv."""
    part = name.removesuffix(".parquet")
    named = pl.format("{}/{}", pl.lit(part), "source_file")
    return pl.scan_parquet(path, glob=False).with_columns(source_file=named, malformed=pl.lit(None, pl.String))


def documents(raw: pl.LazyFrame) -> pl.LazyFrame:
    source_id = pl.format("{}:{}", "source_file", "place")
    drawn = pl.col("split").replace_strict(DRAWN, return_dtype=pl.Float64)
    return raw.select(*PLACE, "text", "metadata", source_id=source_id, drawn=drawn)
