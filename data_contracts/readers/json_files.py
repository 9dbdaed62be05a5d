"""JSON files: one object on each line (JSON Lines), or one array of objects."""

import codecs
import io
import json
from collections.abc import Iterable
from math import isfinite
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
    schema = _schema(columns)
    try:
        _check_jsonl(path, name, schema)
    except UnicodeDecodeError:
        raise not_text(path, name) from None
    with path.open("rb") as file:
        source = io.BytesIO(file.read()) if file.read(3) == codecs.BOM_UTF8 else path
    return pl.scan_ndjson(source, schema=schema, row_index_name=ROW).pipe(place, name)


def json_array(path: Path, name: str, columns: Iterable[str] | dict, inside: str = "") -> pl.DataFrame:
    """Objects of a file that is one JSON array: only `columns`, as strings (or of the types given), null where one is missing.

    Numbers and truth values become strings too. inside: in a file that is an object, the key of the array. Only a file that
    polars refuses is read again, so that DataError can say where the damage is.
    """
    schema = _schema(columns)
    with path.open("rb") as file:
        wrapped = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"
    if wrapped and not inside:
        raise DataError(f"{name} is one JSON object {{...}}, not an array [...] of records: is it another file?")
    try:
        rows = pl.read_json(path, schema={inside: pl.List(pl.Struct(schema))} if wrapped else schema)
    except pl.exceptions.PolarsError as error:
        raise _damage(path, name, schema, inside if wrapped else "", error) from None
    if wrapped:
        rows = rows.explode(inside).drop_nulls(inside).unnest(inside)
    if rows.is_empty():
        raise DataError(f"{name} holds no record{f' under {inside!r}' * wrapped}: is it another file?")
    return rows.with_row_index(ROW).pipe(place, name)


def _schema(columns: Iterable[str] | dict) -> dict:
    return columns if isinstance(columns, dict) else dict.fromkeys(columns, pl.String)


def _number(text: str) -> float:
    """Raises ValueError for NaN, Infinity and 1e999, which Python reads and polars does not."""
    if not isfinite(number := float(text)):
        raise ValueError(f"{text} is no number of JSON")
    return number


STRICT = json.JSONDecoder(parse_constant=_number, parse_float=_number)


def _check_jsonl(path: Path, name: str, schema: dict) -> None:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if not line.strip(" \t\r\n"):
                continue
            try:
                value = STRICT.decode(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{name} line {number} is not JSON ({error}): is the file cut?") from None
            if not isinstance(value, dict):
                kind = type(value).__name__
                raise DataError(f"{name} line {number} is a JSON {kind}, not an object {{...}} of named values")
            if wrong := _not_text(value, schema):
                raise DataError(f"{name} line {number}: {wrong}")


def _not_text(record: dict, schema: dict) -> str:
    """What is wrong with a record that holds a list or an object where there should be a string; empty if none is."""
    for column, value in record.items():
        if isinstance(value, dict | list) and schema.get(column) == pl.String:
            return f"{column!r} holds a {type(value).__name__}, not text"
    return ""


def _damage(path: Path, name: str, schema: dict, inside: str, error: Exception) -> DataError:
    """What is wrong with a JSON array that polars refused, as the standard library finds it."""
    content = text(path, name)
    try:
        found = STRICT.decode(content)
    except (ValueError, RecursionError) as problem:
        return DataError(f"{name} is not JSON ({problem}): is the file cut?")
    records = found[inside] if inside else found
    if not isinstance(records, list):
        return DataError(f"{name} holds no array [...] of records: is it another file?")
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            return DataError(f"{name}: record {number} is no object {{...}}")
        if wrong := _not_text(record, schema):
            return DataError(f"{name}: record {number} {wrong}")
    return DataError(f"{name} cannot be read as JSON: {str(error).splitlines()[0]}")
