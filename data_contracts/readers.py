"""Raw files -> lazy rows, the mechanics that the corpora share: each row knows its file and its place in it.

Values stay strings: inference from the first rows has turned real columns into numbers. polars fills a CSV row that is too
short with nulls and says nothing, so a cut file would pass as whole; hence `_check_csv`.
"""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from data_contracts import DataError

PLACE = ("source_file", "source_row")
ROW = "\0row"  # a name that no file has for a column


def csv_rows(path: Path, name: str) -> pl.LazyFrame:
    """Rows of a UTF-8 CSV file with a header (BOM, CRLF and quoted line breaks understood), every column a string.

    Column names are stripped. Raises DataError naming the row for bytes that are not UTF-8 and for rows with more or fewer
    fields than the header, which is how a file cut short shows.
    """
    _check_csv(path, name)
    rows = pl.scan_csv(path, infer_schema=False, row_index_name=ROW)
    header = [column for column in rows.collect_schema().names() if column != ROW]
    return rows.rename({column: column.strip() for column in header if column != column.strip()}).pipe(_place, name)


def jsonl_rows(path: Path, name: str, columns: tuple[str, ...]) -> pl.LazyFrame:
    """Objects of a JSON Lines file: only `columns`, as strings, null where an object lacks one. Blank lines do not count.

    Raises DataError naming the line for whatever is not a JSON object in UTF-8.
    """
    _check_jsonl(path, name)
    schema = dict.fromkeys(columns, pl.String)
    return pl.scan_ndjson(path, schema=schema, row_index_name=ROW).pipe(_place, name)


def parquet_rows(path: Path, name: str) -> pl.LazyFrame:
    """Rows of a parquet file with the types it has. Raises DataError for a file that polars cannot open."""
    try:
        rows = pl.scan_parquet(path, row_index_name=ROW)
        rows.collect_schema()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{name} cannot be read as parquet: {str(error).splitlines()[0]}") from None
    return rows.pipe(_place, name)


def text(path: Path, name: str) -> str:
    """A whole text file, without BOM. Raises DataError naming byte and line of what is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _not_utf8(path, name) from None


def rows_of(texts: list[str], column: str, name: str) -> pl.LazyFrame:
    """Rows out of pieces of one file that Python has cut: `column`, source_file, source_row."""
    return pl.LazyFrame({column: texts}, {column: pl.String}).with_row_index(ROW).pipe(_place, name)


def _place(rows: pl.LazyFrame, name: str) -> pl.LazyFrame:
    return rows.select(pl.exclude(ROW, *PLACE), source_file=pl.lit(name), source_row=pl.col(ROW).cast(pl.Int64))


def _check_csv(path: Path, name: str) -> None:
    """One pass with the csv module, which unlike polars tells a missing field from an empty one (about 100 MB/s)."""
    limit = csv.field_size_limit(sys.maxsize)  # a book in one field is fine
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            twice = {column for column in header if header.count(column) > 1}
            if twice:
                raise DataError(
                    f"{name} has the column {', '.join(map(repr, sorted(twice)))} more than once: rename one"
                )
            odd = next(
                ((row, len(fields)) for row, fields in enumerate(reader) if len(fields) not in (0, len(header))), None
            )
    except UnicodeDecodeError:
        raise _not_utf8(path, name) from None
    except csv.Error as error:
        raise DataError(
            f"{name} line {reader.line_num} is not CSV ({error}): is the file cut, or a quote not doubled?"
        ) from None
    finally:
        csv.field_size_limit(limit)
    if odd:
        raise DataError(
            f"{name} row {odd[0]} has {odd[1]} fields where the header has {len(header)}: is the file cut or not CSV?"
        )


def _check_jsonl(path: Path, name: str) -> None:
    for number, line in enumerate(_lines(path, name), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise DataError(f"{name} line {number} is not JSON ({error}): is the file cut?") from None
        if not isinstance(value, dict):
            raise DataError(
                f"{name} line {number} is a JSON {type(value).__name__}, not an object {{...}} of named values"
            )


def _lines(path: Path, name: str) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            yield from file
    except UnicodeDecodeError:
        raise _not_utf8(path, name) from None


def _not_utf8(path: Path, name: str) -> DataError:
    """Says where the first byte that is not UTF-8 stands, reading the file again by lines: only failures pay for it."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return DataError(
                    f"{name} is not UTF-8: byte 0x{line[error.start]:02x} at offset {offset + error.start} (line {number})\n"
                    "save it as UTF-8, for example: iconv -f WINDOWS-1252 -t UTF-8"
                )
            offset += len(line)
    return DataError(f"{name} is not UTF-8: save it as UTF-8")
