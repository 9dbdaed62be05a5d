"""A user's own folder, mixed and nested as it comes: a .txt file is a document, and so is a row of .jsonl, .csv or .parquet."""

import json
from pathlib import Path

import polars as pl
from pandera.polars import Field

from data_contracts import DataError, files, readers
from data_contracts.documents import RawRows

TITLE = "Your own texts, from a folder or a file"
LICENCE = "Yours to know"
FILES = ("*.txt", "*.jsonl", "*.csv", "*.parquet")

# Names that the column with the text goes by, best first; upper and lower case are the same.
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


def read(folder: Path, text_column: str = "") -> pl.LazyFrame:
    """Rows of every file, in the order of the files' names.

    text_column: the column of .jsonl, .csv and .parquet files that holds the text; by default the first of TEXT_COLUMNS that a
    file has. Raises DataError naming the file (and row, line or byte) that cannot be read, or its columns where none fits.
    """
    found = files.require(folder, FILES)
    plain = {name: readers.text(path, name) for name, path in found.items() if path.suffix.lower() == ".txt"}
    frames = [_texts(plain)] if plain else []
    frames += [_rows(path, name, text_column) for name, path in found.items() if name not in plain]
    return pl.concat(frames).sort("source_file", maintain_order=True)


def documents(raw: pl.LazyFrame) -> pl.LazyFrame:
    """A row each, as it stands."""
    return raw.with_columns(pl.col("text").fill_null(""), metadata=pl.lit("{}"))


def _texts(plain: dict[str, str]) -> pl.LazyFrame:
    """All text files as one frame: a frame a file would make a plan of thousands of nodes."""
    return pl.LazyFrame(
        {"text": list(plain.values()), "source_file": list(plain), "source_row": [0] * len(plain)},
        {"text": pl.String, "source_file": pl.String, "source_row": pl.Int64},
    )


def _rows(path: Path, name: str, text_column: str) -> pl.LazyFrame:
    ending = path.suffix.lower()
    if ending == ".jsonl":
        column = _choose(_first_keys(path, name), text_column, name)
        rows = readers.jsonl_rows(path, name, (column,))
    else:
        rows = readers.csv_rows(path, name) if ending == ".csv" else readers.parquet_rows(path, name)
        schema = rows.collect_schema()
        column = _choose([name for name in schema if name not in readers.PLACE], text_column, name)
        if schema[column] != pl.String:
            raise DataError(
                f"{name}: column {column!r} holds {schema[column]}, not text: name another with text_column"
            )
    return rows.select(pl.col(column).alias("text"), *readers.PLACE)


def _choose(columns: list[str], wanted: str, name: str) -> str:
    """The column with the text. Raises DataError with the columns that there are."""
    by_name = {column.strip().lower(): column for column in reversed(columns)}
    for candidate in (wanted,) if wanted else TEXT_COLUMNS:
        if candidate.lower() in by_name:
            return by_name[candidate.lower()]
    there = ", ".join(map(repr, columns))
    if wanted:
        raise DataError(f"{name} has no column {wanted!r}; it has {there}")
    raise DataError(f"{name}: which column holds the text? Name it with text_column; there are {there}")


def _first_keys(path: Path, name: str) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = next((line for line in file if line.strip()), "")
    try:
        return list(json.loads(first))
    except (ValueError, TypeError):
        # The whole file is checked with it, so the message names the line.
        readers.jsonl_rows(path, name, ())
        raise DataError(f"{name} holds no JSON object") from None
