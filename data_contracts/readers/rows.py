"""What the rows of every reader have in common: where each is from, and how to list columns in a message."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import polars as pl

from data_contracts import DataError

PLACE = ("source_file", "source_row")
MALFORMED = "malformed"
ROW, BROKEN, UNDERSTOOD = "\0row", "\0malformed", "\0understood"  # names that no file has for a column

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)


def place(rows: Frame, name: str, **more: str) -> Frame:
    """Rows with source_file, source_row (from the column ROW) and `more`, which replace columns of the same names."""
    ours = {"source_file": pl.lit(name), "source_row": pl.col(ROW).cast(pl.Int64)}
    return rows.select(pl.exclude(ROW, BROKEN, MALFORMED, *PLACE), **ours, **more)


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Raise DataError for what polars cannot read of a file."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{name} cannot be read: {str(error).splitlines()[0]}: is the file cut?") from None


def rows_of(texts: list[str], column: str, name: str) -> pl.DataFrame:
    """One row for each text out of the file `name`: `column`, source_file, source_row."""
    places = {"source_file": [name] * len(texts), "source_row": range(len(texts))}
    return pl.DataFrame({column: texts} | places, {column: pl.String, "source_file": pl.String, "source_row": pl.Int64})


def shown_columns(columns: Sequence[str]) -> str:
    """Names of columns for a message, shortened, and a question if they look like data."""
    shown = ", ".join(repr(column[:30]) for column in columns[:12]) + (", ..." if len(columns) > 12 else "")
    data = any(len(column) > 40 or re.search(r"\d{3}|^\d+$|://|\n", column) for column in columns)
    return shown + (": these look like data, is the first line a header?" if data else "")
