"""Reddit's comments on Donald Trump, each a document."""

from pathlib import Path

import polars as pl
from pandera.polars import Field

from data_contracts import readers
from data_contracts.contracts import RawRows
from data_contracts.corpora import _reddit

FILES = ("*.csv",)

RULES, REASONS, documents = _reddit.RULES, _reddit.REASONS, _reddit.documents


class Raw(RawRows):
    """A row is a comment."""

    body: str = Field(nullable=True)


def read(path: Path, name: str, text_column: str = "content", encoding: str = "utf-8") -> pl.DataFrame:
    """Comments. text_column: the column that holds them, while the comments that they answer stand in another."""
    rows = readers.csv_rows(path, name, (text_column,), encoding)
    return rows.rename({text_column: "body"}).with_columns(title=pl.lit(None, pl.String))
