"""The contracts that raw rows, documents and rejects must keep, and the check of a frame against one.

Notable: by default pandera checks only the names and types of a LazyFrame, and a bad frame passes. `check` always has it check
the data too, and a test feeds it a bad LazyFrame.
"""

from typing import TypeVar

import polars as pl
from pandera.config import ValidationDepth, config_context
from pandera.errors import SchemaErrors
from pandera.polars import Check, Column, DataFrameSchema, PolarsData

from data_contracts import DataError

SPLITS = ("train", "val", "test")  # in this order: of copies on several sides, the last one's stays

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)

SHOWN_ROWS = 5  # in the message
SHOWN_CHARS = 60


MEANINGS = {
    "n_chars": "characters",  # Unicode code points
    "n_bytes": "bytes of UTF-8",
    "n_words": "words: runs without white space, or characters of a script without spaces",  # white space of ASCII
    "word_chars": "mean length of a word",  # in characters
    "letter_words": "share of words with a letter",  # as which every character beyond ASCII counts
    "symbols": "number signs, or ellipses, a word",  # whichever are more
    "bullets": "share of lines that begin with a bullet",  # one of BULLETS
    "ellipses": "share of lines that end in an ellipsis",
    "stop_words": "how many of the eight commonest English words occur",  # STOP_WORDS
    "repeated_lines": "share of lines that repeat an earlier one",  # of the same text, by its words; blank ones aside
    "repeated_paragraphs": "the same of paragraphs",
    "top_ngrams": "share of characters in the most frequent sequence of 2, 3 or 4 words",
    "repeated_ngrams": "share of characters in sequences of 5 to 10 words that repeat an earlier one",
}
COUNTS, RATES = ("n_chars", "n_bytes", "n_words", "stop_words"), ("word_chars", "symbols")  # the others are shares
COLUMNS = {name: pl.Int64 if name in COUNTS else pl.Float32 for name in MEANINGS}


def _measures(nullable: bool = False) -> dict[str, Column]:
    checks = {name: Check.in_range(0, 1) for name in COLUMNS if name not in (*COUNTS, *RATES) and not nullable}
    return {name: Column(kind, checks.get(name), nullable=nullable) for name, kind in COLUMNS.items()}


def lengths_are_those_of_the_text(data: PolarsData) -> pl.LazyFrame:
    text = pl.col("text").str
    return data.lazyframe.select((pl.col("n_bytes") == text.len_bytes()) & (pl.col("n_chars") == text.len_chars()))


ID = Check.str_matches(r"^[0-9a-f]{32}$")
ROW = {"source_file": Column(str), "source_row": Column(int, Check.ge(0))}
PLACE = ROW | {"metadata": Column(str)}
# Clean documents, as every later stage reads them: the text, where it comes from, its measures. place: of the text in the raw
# data (see clean.split.identify), the same under all rules.
Documents = DataFrameSchema(
    {
        "doc_id": Column(str, ID, unique=True),
        "text": Column(str, Check.str_length(min_value=1)),
        "split": Column(str, Check.isin(SPLITS)),
        "place": Column(str, ID),
    }
    | PLACE
    | _measures(),
    checks=Check(lengths_are_those_of_the_text),
    strict=True,
    name="Documents",
)
# Rejected texts and the reason for each, kept for a look. Measures are null where a text was rejected before measuring.
Rejects = DataFrameSchema(
    {"text": Column(str)} | PLACE | {"reason": Column(str, Check.str_matches(r"^[a-z_]+$"))} | _measures(nullable=True),
    strict=True,
    name="Rejects",
)


def raw_rows(**columns: Column) -> DataFrameSchema:
    """The contract of a corpus's raw rows, of the columns that it needs. Others are welcome."""
    return DataFrameSchema(ROW | columns, name="RawRows")


def check(frame: Frame, contract: DataFrameSchema, what: str = "") -> Frame:
    """Return the frame if it keeps the contract, its data included.

    what: the frame's name in messages; by default the contract's. Raises DataError with every broken rule, how many rows break
    it, and SHOWN_ROWS of those rows, with their file and row if the frame has these columns.
    """
    what = what or str(contract.name)
    found = frame.collect_schema().names()
    if missing := [name for name in contract.columns if name not in found]:
        raise DataError(f"{what}: no column {', '.join(map(repr, missing))}; found {', '.join(map(repr, found))}")
    with config_context(validation_depth=ValidationDepth.SCHEMA_AND_DATA):
        try:
            contract.validate(frame, lazy=True)
        except SchemaErrors as errors:
            raise _broken(what, frame, errors.failure_cases) from None
    return frame


def _broken(what: str, frame: pl.DataFrame | pl.LazyFrame, cases: pl.DataFrame) -> DataError:
    """The error of a frame that breaks its contract. cases: pandera's; those about names and types have no row."""
    counts = cases.group_by("column", "check", maintain_order=True).len()
    broken = ", ".join(f"{column}: {rule} ({n} rows)" for column, rule, n in counts.iter_rows())
    shown = cases.head(SHOWN_ROWS)
    places: dict[int, str] = {}
    if {"source_file", "source_row"} <= set(frame.collect_schema().names()):
        numbered = frame.lazy().select(pl.format("{} row {}", "source_file", "source_row")).with_row_index()
        failing = shown["index"].drop_nulls().unique().to_list()
        places = dict(numbered.filter(pl.col("index").is_in(failing)).collect().iter_rows())
    lines = [f"{what} breaks its contract: {broken}"]
    for case, column, index in shown.select("failure_case", "column", "index").iter_rows():
        value = repr(case)
        value = value[:SHOWN_CHARS] + "..." * (len(value) > SHOWN_CHARS)
        place = "" if index is None else places.get(index, f"row {index}")
        lines.append(f"  {place}  {column} = {value}")
    return DataError("\n".join(lines))
