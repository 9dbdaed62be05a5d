"""A user's own folder of any files: a .txt file is a document, and so is each row of a .jsonl, .csv or .parquet file."""

from pathlib import Path

import polars as pl
from pandera.polars import Field

from data_contracts import readers
from data_contracts.contracts import RawRows
from data_contracts.readers import tables

TITLE = "Your own texts, from a folder or a file"
LICENCE = "Yours to know"
FILES = ("*.txt", "*.jsonl", "*.csv", "*.parquet")

# Names that the column with the text may have, best first.
TEXT_COLUMNS = "text body content comment_body comment selftext message document tweet line"


class Raw(RawRows):
    """A row is a document; one without text is rejected later, as `empty`."""

    text: str = Field(nullable=True)


def read(path: Path, name: str, text_column: str = "", encoding: str = "utf-8") -> pl.DataFrame | pl.LazyFrame:
    """A text, or the rows of a table.

    text_column: the column of .jsonl, .csv and .parquet files that holds the text; by default the first of TEXT_COLUMNS that a
    file has. encoding: of .txt and .csv files.
    """
    if path.suffix.lower() == ".txt":
        return readers.rows_of([readers.text(path, name, encoding)], "text", name)
    return tables.rows(path, name, TEXT_COLUMNS.split(), text_column, encoding, keep=None)


def documents(raw: pl.LazyFrame) -> pl.LazyFrame:
    """A row each, as it stands."""
    return raw.select(*readers.PLACE, "text", metadata=pl.lit("{}"))
