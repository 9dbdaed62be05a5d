"""Tweets with #covid19 of summer 2020, each a document. The columns about their authors are not used."""

from pathlib import Path

import polars as pl

from data_contracts import readers
from data_contracts.contracts import Column, raw_rows
from data_contracts.rules import read_rules

FILES = ("*.csv",)
RULES = read_rules(__file__)

REASONS = {
    "blank_row": "a record without a value in any column, as spreadsheets leave them behind",
    "retweet": "RT @somebody: another's words, most of them here already",
}

# A row is a tweet. Its other columns are not checked, since a spreadsheet may have mangled their dates.
Raw = raw_rows(text=Column(str, nullable=True))


def read(path: Path, name: str, encoding: str = "utf-8") -> pl.DataFrame:
    """Tweets. The file must have a column `text`."""
    return readers.csv_rows(path, name, ("text",), encoding)


def documents(raw: pl.LazyFrame) -> pl.LazyFrame:
    """The text of each tweet, and nothing about its author."""
    blank = pl.all_horizontal(pl.exclude(*readers.PLACE, readers.MALFORMED).is_null())
    retweet = pl.col("text").str.contains(r"\A\s*RT @")
    reason = pl.when(blank).then(pl.lit("blank_row")).when(retweet).then(pl.lit("retweet"))
    return raw.select(*readers.PLACE, "text", metadata=pl.lit("{}"), reason=reason)
