"""The contracts that raw rows, documents and rejects must keep, and the check of a frame against one.

Notable: by default pandera checks only the names and types of a LazyFrame, and a bad frame passes. `check` always has it check
the data too, and a test feeds it a bad LazyFrame.
"""

from typing import TypeVar

import polars as pl
from pandera.config import ValidationDepth, config_context
from pandera.errors import SchemaErrors
from pandera.polars import DataFrameModel, Field, PolarsData, dataframe_check

from data_contracts import DataError

SPLITS = ("train", "val", "test")  # in this order: of copies on several sides, the last one's stays

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)

SHOWN_ROWS = 5  # in the message
CARRIED_ROWS = 100  # by the error itself
SHOWN_CHARS = 60


class RawRows(DataFrameModel):
    """The columns of every corpus's raw rows; each corpus adds those that it needs. Others are welcome."""

    source_file: str
    source_row: int = Field(ge=0)


class Documents(DataFrameModel):
    """Clean documents, as every later stage reads them: the text, where it comes from, its measures.

    place: of the text in the raw data (see clean.split.identify), the same under all rules.
    """

    doc_id: str = Field(unique=True, str_matches=r"^[0-9a-f]{32}$")
    text: str = Field(str_length={"min_value": 1})
    split: str = Field(isin=SPLITS)
    place: str = Field(str_matches=r"^[0-9a-f]{32}$")
    source_file: str
    source_row: int = Field(ge=0)
    metadata: str
    n_chars: int = Field(ge=1)
    n_bytes: int = Field(ge=1)
    n_words: int = Field(ge=1)
    word_chars: pl.Float32
    letter_words: pl.Float32 = Field(in_range={"min_value": 0, "max_value": 1})
    symbols: pl.Float32 = Field(ge=0)
    stop_words: int = Field(ge=0)
    repeated_lines: pl.Float32 = Field(in_range={"min_value": 0, "max_value": 1})
    repeated_ngrams: pl.Float32 = Field(in_range={"min_value": 0, "max_value": 1})

    class Config:
        strict = True

    @dataframe_check
    @classmethod
    def lengths_are_those_of_the_text(cls, data: PolarsData) -> pl.LazyFrame:
        text = pl.col("text").str
        return data.lazyframe.select((pl.col("n_bytes") == text.len_bytes()) & (pl.col("n_chars") == text.len_chars()))


class Rejects(DataFrameModel):
    """Rejected texts and the reason for each, kept for a look. Measures are null where a text was rejected before measuring."""

    text: str
    source_file: str
    source_row: int = Field(ge=0)
    metadata: str
    reason: str = Field(str_matches=r"^[a-z_]+$")
    n_chars: int = Field(nullable=True)
    n_bytes: int = Field(nullable=True)
    n_words: int = Field(nullable=True)
    word_chars: pl.Float32 = Field(nullable=True)
    letter_words: pl.Float32 = Field(nullable=True)
    symbols: pl.Float32 = Field(nullable=True)
    stop_words: int = Field(nullable=True)
    repeated_lines: pl.Float32 = Field(nullable=True)
    repeated_ngrams: pl.Float32 = Field(nullable=True)

    class Config:
        strict = True


def check(frame: Frame, schema: type[DataFrameModel], what: str = "") -> Frame:
    """Return the frame if it keeps the contract, its data included.

    what: the frame's name in messages; by default the schema's. Raises DataError with every broken rule, how many rows break
    it, and SHOWN_ROWS of those rows, with their file and row if the frame has these columns. The error's `rows` has up to
    CARRIED_ROWS: file, row, column, value, check.
    """
    what = what or schema.__name__
    found = frame.collect_schema().names()
    if missing := [name for name in schema.to_schema().columns if name not in found]:
        raise DataError(f"{what}: no column {', '.join(map(repr, missing))}; found {', '.join(map(repr, found))}")
    with config_context(validation_depth=ValidationDepth.SCHEMA_AND_DATA):
        try:
            schema.validate(frame, lazy=True)
        except SchemaErrors as errors:
            raise _broken(what, frame, errors.failure_cases) from None
    return frame


def _broken(what: str, frame: pl.DataFrame | pl.LazyFrame, cases: pl.DataFrame) -> DataError:
    """The error of a frame that breaks its contract. cases: pandera's; those about names and types have no row."""
    counts = cases.group_by("column", "check", maintain_order=True).len()
    broken = ", ".join(f"{column}: {rule} ({n} rows)" for column, rule, n in counts.iter_rows())
    carried = cases.head(CARRIED_ROWS)
    places: dict[int, list] = {}
    if {"source_file", "source_row"} <= set(frame.collect_schema().names()):
        numbered = frame.lazy().select("source_file", "source_row").with_row_index()
        failing = carried["index"].drop_nulls().unique().to_list()
        places = {n: place for n, *place in numbered.filter(pl.col("index").is_in(failing)).collect().iter_rows()}
    rows, lines = [], [f"{what} breaks its contract: {broken}"]
    for case, column, rule, index in carried.select("failure_case", "column", "check", "index").iter_rows():
        file, row = places.get(index, ("", index))
        value = repr(case)
        value = value[:SHOWN_CHARS] + "..." * (len(value) > SHOWN_CHARS)
        rows.append({"file": file, "row": row, "column": column, "value": value, "check": rule})
        place = "" if row is None else f"{file} row {row}".strip()
        lines.append(f"  {place}  {column} = {value}")
    return DataError("\n".join(lines[: 1 + SHOWN_ROWS]), rows)
