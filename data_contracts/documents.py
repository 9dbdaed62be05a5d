"""The contracts that documents and rejects keep, and the check that really looks at the data.

pandera looks at the names and types of a LazyFrame only, unless told otherwise, and says nothing: a bad frame passes. `check`
always asks for the data too, and a test feeds it a bad LazyFrame to see that it does.
"""

from typing import TypeVar

import polars as pl
from pandera.config import ValidationDepth, config_context
from pandera.errors import SchemaErrors
from pandera.polars import DataFrameModel, Field, PolarsData, dataframe_check

from data_contracts import DataError

# Why a text can be rejected, in the order in which it is asked: the first that holds is the reason.
REASONS = ("empty", "too_short", "too_long", "duplicate")
SPLITS = ("train", "val")

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)

SHOWN_ROWS = 5
SHOWN_CHARS = 60


class RawRows(DataFrameModel):
    """What every corpus's raw rows have; each corpus adds the columns that it relies on. More columns are welcome."""

    source_file: str
    source_row: int = Field(ge=0)


class Documents(DataFrameModel):
    """Clean documents, as everything downstream reads them."""

    doc_id: str = Field(unique=True, str_matches=r"^[0-9a-f]{32}$")
    text: str = Field(str_length={"min_value": 1})
    n_chars: int = Field(ge=1)
    n_bytes: int = Field(ge=1)
    split: str = Field(isin=SPLITS)
    source_file: str
    source_row: int = Field(ge=0)
    metadata: str

    class Config:
        strict = True

    @dataframe_check
    def n_bytes_is_utf8_length(cls, data: PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(pl.col("n_bytes") == pl.col("text").str.len_bytes())

    @dataframe_check
    def n_chars_is_length(cls, data: PolarsData) -> pl.LazyFrame:
        return data.lazyframe.select(pl.col("n_chars") == pl.col("text").str.len_chars())


class Rejects(DataFrameModel):
    """Texts that a rule turned away, and which one: kept so that somebody can look."""

    text: str
    source_file: str
    source_row: int = Field(ge=0)
    metadata: str
    reason: str = Field(isin=REASONS)

    class Config:
        strict = True


def check(frame: Frame, schema: type[DataFrameModel], what: str = "") -> Frame:
    """Give the frame back if it keeps the contract, its data included.

    what: how to call the frame in messages; the schema's name by default. Raises DataError with every broken rule, how many
    rows break it, and a short table of those rows with their file and row where the frame knows them.
    """
    what = what or schema.__name__
    missing = [name for name in schema.to_schema().columns if name not in (found := frame.collect_schema().names())]
    if missing:
        raise DataError(f"{what}: no column {', '.join(map(repr, missing))}; found {', '.join(map(repr, found))}")
    with config_context(validation_depth=ValidationDepth.SCHEMA_AND_DATA):
        try:
            schema.validate(frame, lazy=True)
        except SchemaErrors as errors:
            raise DataError(_explain(what, frame, errors.failure_cases)) from None
    return frame


def _explain(what: str, frame: pl.DataFrame | pl.LazyFrame, failures: pl.DataFrame) -> str:
    rules = failures.group_by("column", "check", maintain_order=True).len()
    broken = ", ".join(f"{column}: {rule} ({count} rows)" for column, rule, count in rules.iter_rows())
    return "\n".join([f"{what} breaks its contract: {broken}", *_table(frame, failures.head(SHOWN_ROWS))])


def _table(frame: pl.DataFrame | pl.LazyFrame, failures: pl.DataFrame) -> list[str]:
    """A line for each failing row: where it is and what it holds. Errors of names and types have no row."""
    known = {"source_file", "source_row"} <= set(frame.collect_schema().names())
    lines = []
    for case, column, index in failures.select("failure_case", "column", "index").iter_rows():
        place = "" if index is None else f"row {index}"
        if index is not None and known:
            file, row = frame.lazy().slice(index, 1).select("source_file", "source_row").collect().row(0)
            place = f"{file} row {row}"
        value = repr(case)
        lines.append(f"  {place}  {column} = {value[:SHOWN_CHARS]}{'...' if len(value) > SHOWN_CHARS else ''}")
    return lines
