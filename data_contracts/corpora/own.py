"""A user's own folder, mixed and nested as it comes: a .txt file is a document, and so is a row of .jsonl, .csv or .parquet."""

from pathlib import Path

import polars as pl
from pandera.polars import Field

from data_contracts import readers
from data_contracts.corpora import _tables
from data_contracts.documents import RawRows

TITLE = "Your own texts, from a folder or a file"
LICENCE = "Yours to know"
FILES = ("*.txt", "*.jsonl", "*.csv", "*.parquet")

# Names that the column with the text goes by, best first.
TEXT_COLUMNS = (
    "text",
    "body",
    "content",
    "comment_body",
    "comment",
    "selftext",
    "message",
    "document",
    "tweet",
    "line",
)


class Raw(RawRows):
    """A row is a document; one without text is rejected later, by name."""

    text: str = Field(nullable=True)


def read(found: dict[str, Path], text_column: str = "", encoding: str = "utf-8") -> pl.LazyFrame:
    """Rows of every file, in the order of the files' names.

    text_column: the column of .jsonl, .csv and .parquet files that holds the text; by default the first of TEXT_COLUMNS that a
    file has. encoding: of .txt and .csv files. Raises DataError naming the file (and line or byte) that cannot be read.
    """
    plain = {name: readers.text(path, name, encoding) for name, path in found.items() if path.suffix.lower() == ".txt"}
    frames = [_texts(plain)] if plain else []
    frames += [
        _tables.rows(path, name, TEXT_COLUMNS, text_column, encoding)
        for name, path in found.items()
        if name not in plain
    ]
    return pl.concat(frames, how="diagonal").sort("source_file", maintain_order=True)


def documents(raw: pl.LazyFrame) -> pl.LazyFrame:
    """A row each, as it stands."""
    return raw.select(*readers.PLACE, pl.col("text").fill_null(""), metadata=pl.lit("{}"))


def _texts(plain: dict[str, str]) -> pl.LazyFrame:
    """All text files as one frame: a frame a file would make a plan of thousands of nodes."""
    return pl.LazyFrame(
        {"text": list(plain.values()), "source_file": list(plain), "source_row": [0] * len(plain)},
        {"text": pl.String, "source_file": pl.String, "source_row": pl.Int64},
    )
