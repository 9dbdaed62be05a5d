"""Tables of which only one thing is known: a column holds text. It is found by its name, or named by the user."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from data_contracts import DataError
from data_contracts.readers.csv_files import csv_rows, sniff
from data_contracts.readers.json_files import json_array, jsonl_rows, objects, table_of, turns
from data_contracts.readers.plain_text import codec_of, text
from data_contracts.readers.rows import MALFORMED, PLACE, ROW, place, shown_columns

HEAD_CHARS = 1 << 24  # the first record of a JSON file is looked for in these
LOOSE_BYTES = 1 << 28  # of a JSON file that is read as a whole, where it is not laid out as its ending says


def rows(
    path: Path, name: str, names: Sequence[str], wanted: str, encoding: str, keep: Sequence[str] | None, **layout: Any
) -> pl.LazyFrame:
    """Rows of a .csv, .tsv, .json, .jsonl or .parquet file: `text`, the columns of `keep` that it has, and where each is from.

    names: what the column with the text may be called, best first; upper and lower case are the same. wanted: the one that the
    user named, or "". keep: None for all of a .csv, .tsv or .parquet file, but of each value only whether it is null. A .json
    file is an array, or JSON Lines. layout: of a .csv file, where it is not to be found out. Raises DataError with the
    columns found if none fits.
    """
    ending, choose = path.suffix.lower(), partial(_choose, names=names, wanted=wanted, name=name)
    if ending in (".json", ".jsonl", ".ndjson"):
        table = _json(path, name, encoding, choose, keep or ()).lazy()
    elif ending == ".parquet":
        table = pl.scan_parquet(path, glob=False, row_index_name=ROW).pipe(place, name)
    else:
        known = {"delimiter": "\t"} if ending == ".tsv" else sniff(path, encoding, [wanted] if wanted else names)
        table = csv_rows(path, name, encoding=encoding, **(known | layout)).lazy()
    schema = table.collect_schema()
    ours = [column for column in (*PLACE, MALFORMED) if column in schema]
    column = choose([column for column in schema if column not in ours])
    content = _as_text(pl.col(column), schema[column])
    if content is None:
        mend = "name another with --set options.text_column=NAME"
        raise DataError(f"{name}: column {column!r} holds {schema[column]}, not text: {mend}")
    others = [other for other in schema if other not in (column, "text", *ours)]
    if keep is None:
        kept = [pl.when(pl.col(other).is_not_null()).then(pl.lit("")).alias(other) for other in others]
    else:
        kept = [pl.col(other) for other in others if other in keep]
    return table.select(content.alias("text"), *kept, *ours)


def _as_text(column: pl.Expr, kind: Any) -> pl.Expr | None:
    """A column of any kind that can be read as text: lists as lines, and {role, content} as turns; None for others."""
    if kind == pl.List and kind.inner in (pl.String, pl.Struct):
        return column.map_elements(lambda values: turns(values.to_list()), return_dtype=pl.String)
    return column.cast(pl.String) if kind in (pl.String, pl.Binary, pl.Categorical, pl.Enum) else None


def _json(path: Path, name: str, encoding: str, choose: Callable, keep: Sequence[str]) -> pl.DataFrame | pl.LazyFrame:
    """As the ending has it; a file that is laid out otherwise is read as a whole."""
    try:
        first, keys = _first_record(path, encoding)
        columns = [choose(keys), *(key for key in keys if key in keep)] if keys else ["text"]
        if path.suffix.lower() == ".json" and first == "[":
            return json_array(path, name, columns)
        return jsonl_rows(path, name, columns, encoding)
    except DataError as error:
        try:
            found = objects(text(path, name, encoding) if path.stat().st_size < LOOSE_BYTES else "", name)
            keys = list(dict.fromkeys(key for one in found for key in one))
            return table_of(found, [choose(keys), *(key for key in keys if key in keep)], name)
        except DataError:
            raise error from None


def _choose(columns: list[str], names: Sequence[str], wanted: str, name: str) -> str:
    by_name = {column.strip().lower(): column for column in reversed(columns)}
    for candidate in (wanted,) if wanted else names:
        if candidate.strip().lower() in by_name:
            return by_name[candidate.strip().lower()]
    which = ": which column holds the text? Name it: --set options.text_column=NAME"
    raise DataError(f"{name}{f' has no column {wanted!r}' if wanted else which}; it has {shown_columns(columns)}")


def _first_record(path: Path, encoding: str) -> tuple[str, list[str]]:
    """The first character of a JSON file, and the keys of its first object: none if it is damaged, which its reader reports."""
    with path.open(encoding=codec_of(encoding), errors="replace") as file:
        head = file.read(HEAD_CHARS).lstrip()
    try:
        return head[:1], list(json.JSONDecoder().raw_decode(head, head.index("{"))[0])
    except (ValueError, RecursionError):
        return head[:1], []
