"""Tables of which only one thing is known: a column holds text. It is found by its name, or named by the user."""

from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from data_contracts import DataError
from data_contracts.readers.csv_files import csv_rows, sniff
from data_contracts.readers.json_files import json_rows, objects, turns
from data_contracts.readers.rows import MALFORMED, PLACE, ROW, place, shown_columns

JSON = (".js", ".json", ".jsonl", ".ndjson")
NAME_IT = "Name it with --set options.text_column=NAME"
GONE = ["[deleted]", "[removed]"]  # what stands for a text in dumps of Reddit
FIRST_OBJECTS = 1000  # whose keys are the columns of a JSON file


def rows(
    path: Path, name: str, names: Sequence[str], wanted: str, encoding: str, keep: Sequence[str] | None, **layout: Any
) -> pl.LazyFrame:
    """Rows of a .csv, .tsv, .json, .jsonl or .parquet file: `text`, the columns of `keep` that it has, and where each is from.

    names: what the column with the text may be called, best first; upper and lower case are the same. wanted: the one that the
    user named, or "". keep: None for all of a .csv, .tsv or .parquet file, but of each value only whether it is null. layout:
    of a .csv file, where it is not to be found out. Raises DataError with the columns found if none fits.
    """
    ending = path.suffix.lower()
    if ending in JSON:
        columns = json_columns(path, name, names, wanted, encoding, keep or ())
        table = json_rows(path, name, columns, encoding).lazy()
    elif ending == ".parquet":
        table = pl.scan_parquet(path, glob=False, row_index_name=ROW).pipe(place, name)
    else:
        known = {"delimiter": "\t"} if ending == ".tsv" else sniff(path, encoding, [wanted] if wanted else names)
        table = csv_rows(path, name, encoding=encoding, **(known | layout)).lazy()
    schema = table.collect_schema()
    ours = [column for column in (*PLACE, MALFORMED) if column in schema]
    column = _choose([column for column in schema if column not in ours], names, wanted, name)
    kind: Any = schema[column]
    if kind == pl.List and kind.inner in (pl.String, pl.Struct):
        content = pl.col(column).map_elements(lambda values: turns(values.to_list()), return_dtype=pl.String)
    elif kind in (pl.String, pl.Binary, pl.Categorical, pl.Enum):
        content = pl.col(column).cast(pl.String)
    else:
        raise DataError(f"{name}: column {column!r} holds {kind}, not text. {NAME_IT}")
    if keep is None:
        content = pl.when(~content.is_in(GONE)).then(content)
        title = [pl.col("title")] if column == "selftext" and "title" in schema else []
        content = pl.concat_str(*title, content, separator="\n\n", ignore_nulls=bool(title))
    others = [other for other in schema if other not in (column, "text", *ours)]
    if keep is None:
        kept = [pl.when(pl.col(other).is_not_null()).then(pl.lit("")).alias(other) for other in others]
    else:
        kept = [pl.col(other) for other in others if other in keep]
    return table.select(content.alias("text"), *kept, *ours)


def json_columns(path: Path, name: str, names: Sequence[str], wanted: str, encoding: str, keep: Any) -> list[str]:
    """The column with the text, and those to keep, of those that the first objects of a JSON file have."""
    keys: dict[str, None] = {}
    with suppress(DataError):  # what is damaged, the reading of the rows tells
        for _, record in islice(objects(path, name, encoding), FIRST_OBJECTS):
            keys |= dict.fromkeys(record)
    column = _choose(list(keys), names, wanted, name) if keys else "text"
    title = ("title",) if column == "selftext" and "title" in keys and not keep else ()
    return [column, *title, *(key for key in keys if key in keep)]


def _choose(columns: list[str], names: Sequence[str], wanted: str, name: str) -> str:
    by_name = {column.strip().lower(): column for column in reversed(columns)}
    for candidate in (wanted,) if wanted else names:
        if candidate.strip().lower() in by_name:
            return by_name[candidate.strip().lower()]
    if wanted:
        raise DataError(f"{name} has no column {wanted!r}; it has {shown_columns(columns)}")
    raise DataError(f"{name}: which column holds the text? {NAME_IT}; it has {shown_columns(columns)}")
