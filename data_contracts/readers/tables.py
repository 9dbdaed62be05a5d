"""Tables of which only one thing is known: a column holds text. It is found by its name, or named by the user."""

import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from data_contracts import DataError
from data_contracts.readers.csv_files import csv_rows
from data_contracts.readers.json_files import json_array, jsonl_rows
from data_contracts.readers.rows import MALFORMED, PLACE, ROW, place, shown_columns

HEAD_CHARS = 1 << 24  # the first record of a JSON file is looked for in these


def rows(
    path: Path, name: str, names: Sequence[str], wanted: str, encoding: str, keep: Sequence[str] | None
) -> pl.LazyFrame:
    """Rows of a .csv, .tsv, .json, .jsonl or .parquet file: `text`, the columns of `keep` that it has, and where each is from.

    names: what the column with the text may be called, best first; upper and lower case are the same. wanted: the one that the
    user named, or "". keep: None for all of a .csv, .tsv or .parquet file, but of each value only whether it is null. A .json
    file is an array, or JSON Lines. Raises DataError with the columns found if none fits.
    """
    ending = path.suffix.lower()
    if ending in (".json", ".jsonl", ".ndjson"):
        first, keys = _first_record(path)
        kept_keys = [key for key in keys if key in (keep or ())]
        columns = (_choose(keys, names, wanted, name), *kept_keys) if keys else ("text",)
        read = json_array if ending == ".json" and first == "[" else jsonl_rows
        table = read(path, name, columns).lazy()
    elif ending == ".parquet":
        table = pl.scan_parquet(path, glob=False, row_index_name=ROW).pipe(place, name)
    else:
        delimiter = "\t" if ending == ".tsv" else ","
        table = csv_rows(path, name, encoding=encoding, delimiter=delimiter).lazy()
    schema = table.collect_schema()
    ours = [column for column in (*PLACE, MALFORMED) if column in schema]
    column = _choose([column for column in schema if column not in ours], names, wanted, name)
    if schema[column] != pl.String:
        raise DataError(f"{name}: column {column!r} holds {schema[column]}, not text: name another with text_column")
    others = [other for other in schema if other not in (column, "text", *ours)]
    if keep is None:
        kept = [pl.when(pl.col(other).is_not_null()).then(pl.lit("")).alias(other) for other in others]
    else:
        kept = [pl.col(other) for other in others if other in keep]
    return table.select(pl.col(column).alias("text"), *kept, *ours)


def _choose(columns: list[str], names: Sequence[str], wanted: str, name: str) -> str:
    by_name = {column.strip().lower(): column for column in reversed(columns)}
    for candidate in (wanted,) if wanted else names:
        if candidate.strip().lower() in by_name:
            return by_name[candidate.strip().lower()]
    if wanted:
        raise DataError(f"{name} has no column {wanted!r}; it has {shown_columns(columns)}")
    raise DataError(f"{name}: which column holds the text? Name it with text_column; it has {shown_columns(columns)}")


def _first_record(path: Path) -> tuple[str, list[str]]:
    """The first character of a JSON file, and the keys of its first object: none if it is damaged, which its reader reports."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.read(HEAD_CHARS).lstrip()
    try:
        return head[:1], list(json.JSONDecoder().raw_decode(head, head.index("{"))[0])
    except (ValueError, RecursionError):
        return head[:1], []
