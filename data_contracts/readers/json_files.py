"""JSON files: one object on each line (JSON Lines), or one array of objects."""

import json
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from data_contracts import DataError
from data_contracts.readers.plain_text import not_text, text
from data_contracts.readers.rows import ROW, place


def jsonl_rows(path: Path, name: str, columns: Iterable[str] | dict) -> pl.LazyFrame:
    """Objects of a JSON Lines file: only `columns`, as strings (or of the types given), null where an object lacks one.

    Blank lines and a BOM are skipped. Raises DataError naming the line that is not a JSON object in UTF-8, or that holds a list
    or an object instead of a string.
    """
    schema, rows = _schema(columns), []
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, 1):
                if line.strip(" \t\r\n"):
                    rows.append(_values(_decode(line, f"{name} line {number}"), schema, f"{name} line {number}"))
        frame = pl.DataFrame(rows, schema, orient="row", strict=False)
    except UnicodeError:
        raise not_text(path, name) from None
    return frame.with_row_index(ROW).pipe(place, name).lazy()


def json_array(path: Path, name: str, columns: Iterable[str] | dict, inside: str = "") -> pl.DataFrame:
    """Objects of a file that is one JSON array: only `columns`, as strings (or of the types given), null where one is missing.

    Numbers and truth values become strings too. inside: in a file that is an object, the key of the array. polars reads it in a
    third of the time; what it refuses is read again, so that DataError can say where the damage is.
    """
    schema = _schema(columns)
    with path.open("rb") as file:
        wrapped = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"
    if wrapped and not inside:
        raise DataError(f"{name} is one JSON object {{...}}, not an array [...] of records: is it another file?")
    try:
        rows = pl.read_json(path, schema={inside: pl.List(pl.Struct(schema))} if wrapped else schema)
    except pl.exceptions.PolarsError as error:
        found = _decode(text(path, name), name)
        found = found.get(inside) if isinstance(found, dict) else found
        if not isinstance(found, list):
            raise DataError(f"{name} holds no array [...] of records: is it another file?") from None
        for number, record in enumerate(found):
            _values(record, schema, f"{name}: record {number}")
        raise DataError(f"{name} cannot be read as JSON: {str(error).splitlines()[0]}") from None
    if wrapped:
        rows = rows.explode(inside).drop_nulls(inside).unnest(inside)
    if rows.is_empty():
        raise DataError(f"{name} holds no record{f' under {inside!r}' * wrapped}: is it another file?")
    return rows.with_row_index(ROW).pipe(place, name)


def _schema(columns: Iterable[str] | dict) -> dict:
    return columns if isinstance(columns, dict) else dict.fromkeys(columns, pl.String)


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


# Numbers stay as they are written.
DECODER = json.JSONDecoder(parse_constant=_no_number, parse_float=str, parse_int=str)


def _decode(content: str, where: str) -> object:
    try:
        return DECODER.decode(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON ({error}): is the file cut?") from None


def _values(record: object, schema: dict, where: str) -> list:
    """The values of an object's columns. Raises DataError for one of another kind than it should be."""
    if not isinstance(record, dict):
        raise DataError(f"{where} is not an object {{...}} of named values")
    for column, kind in schema.items():
        if kind == pl.String and isinstance(record.get(column), dict | list):
            raise DataError(f"{where}: {column!r} holds a {type(record[column]).__name__}, not text")
    return [record.get(column) for column in schema]
