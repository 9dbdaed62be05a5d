"""CSV files, by the standard library's parser.

pyarrow reads three times as fast, but accepts a file that ends inside a quote, text after a closing quote and NUL bytes, counts
rows instead of lines, and gives up a whole file for one field that exceeds its block.
"""

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import polars as pl

from data_contracts import DataError
from data_contracts.readers.plain_text import codec_of, not_text
from data_contracts.readers.rows import BROKEN, ROW, place, shown_columns

# Characters. A longer field is the rest of a file after a quote that nobody closed; the csv module holds it at four bytes each.
LONGEST_FIELD = 1 << 24
LOOKED_AHEAD = 1000  # lines behind a bad quote, at most, in which the end of its field is looked for
SNIFFED = 1 << 16  # characters
SEP = r"(?i)sep=(.)\s*"  # the first line of an export of Excel's
BATCH_ROWS = 2000  # 68 MB of tweets take 1.2 s; longer batches are slower, and hold more Python strings at a time


def sniff(path: Path, encoding: str, known: Iterable[str]) -> dict[str, Any]:
    """How a CSV file is written, by its beginning, in the words of csv.reader. A comma delimits if it makes one of the `known`
    names a column."""
    with path.open(encoding=codec_of(encoding), errors="replace", newline="") as file:
        first, head = file.readline(SNIFFED), file.read(SNIFFED)
    if sep := re.fullmatch(SEP, first):
        return {"delimiter": sep[1]}
    quote = "'" if first.startswith("'") else '"'
    columns = {one: next(csv.reader([first.lower()], delimiter=one, quotechar=quote), []) for one in ",;\t|"}
    comma = {name.strip().lower() for name in known} & {name.strip() for name in columns[","]}
    delimiter = "," if comma else max(columns, key=lambda one: len(columns[one]))
    escapes = '""' not in head and re.search(rf'\\"[^{re.escape(delimiter)}\r\n]', head)
    return {"delimiter": delimiter, "quotechar": quote, "escapechar": "\\" if escapes else None}


def csv_rows(
    path: Path, name: str, needed: Iterable[str] = (), encoding: str = "", header: bool = True, **how: Any
) -> pl.DataFrame:
    """Records of a CSV file with a header (BOM, CRLF and quoted line breaks understood): strings, null for an empty field.

    Blank lines are skipped; column names are stripped; a column without a name of its own is called by its number. needed:
    columns that must be there. encoding: "" if the corpus offers no choice; then it is UTF-8. how: of csv.reader. Raises
    DataError for a file that cannot be used: another encoding, no header, a column missing.
    """
    csv.field_size_limit(LONGEST_FIELD)  # of the whole process, and always the same
    try:
        with path.open(encoding=codec_of(encoding), newline="") as file:
            first = file.readline(LONGEST_FIELD)
            if not (sep := re.fullmatch(SEP, first)):
                file.seek(0)
            ahead = deque[str]()
            reader = csv.reader(iter(lambda: ahead.popleft() if ahead else file.readline(), ""), strict=True, **how)
            width = 0 if header else len(next(csv.reader([first], **how), []))
            names = [f"column {number}" for number in range(width)] or _header(reader, name, needed)
            schema = dict.fromkeys([*names, BROKEN], pl.String)
            records = _records(reader, len(names), 2 if sep else 1, file, ahead, how)
            frames = [pl.DataFrame(schema=schema)]
            while batch := list(islice(records, BATCH_ROWS)):
                columns = pl.DataFrame(list(zip(*batch, strict=True)), schema, orient="col")
                frames.append(columns.with_columns(pl.all().replace("", None)))
    except UnicodeError:
        raise not_text(path, name, encoding) from None
    return pl.concat(frames).with_row_index(ROW).pipe(place, name, malformed=BROKEN)


def _header(reader, name: str, needed: Iterable[str]) -> list[str]:
    try:
        header = [column.strip() for column in next(filter(None, reader), [])]
    except csv.Error as error:
        raise DataError(f"{name} line 1 is no CSV header: {error}") from None
    if not any(header):
        raise DataError(f"{name} has an empty header: its first line must name the columns")
    if missing := [column for column in needed if column not in header]:
        raise DataError(f"{name} has no column {shown_columns(missing)}; it has {shown_columns(header)}")
    return [f"column {number}" if column in ("", *header[:number]) else column for number, column in enumerate(header)]


def _records(reader, width: int, first_line: int, file: TextIO, ahead: deque[str], how: dict) -> Iterator[list]:
    """Of a good record its `width` fields and None; of a bad one that many None and what is wrong with it. ahead: lines of the
    file that were read before the reader asked for them."""
    while True:
        line = reader.line_num + first_line
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield [None] * width + [f"line {line}: {error}"]
            ahead.extend(islice(file, LOOKED_AHEAD - len(ahead)))
            first_line += (rest := _rest_of_field(ahead, how))
            for _ in range(rest):
                ahead.popleft()
            continue
        record = ",".join(fields)
        if len(fields) == width and "\0" not in record:
            yield [*fields, None]
        elif len(fields) > 1 or record.strip():
            short = record[:100].replace("\0", "\\0") + "..." * (len(record) > 100)
            wrong = "a NUL byte" if "\0" in record else f"{len(fields)} fields where the header has {width}"
            yield [None] * width + [f"line {line}: {wrong}: {short}"]


def _rest_of_field(lines: Iterable[str], how: dict) -> int:
    """How many of these lines, behind a bad quote, belong to its record: those to the one that closes the field. None, if
    a line comes first that cannot stand in a field."""
    for number, line in enumerate(lines, 1):
        try:
            next(csv.reader([(how.get("quotechar") or '"') + line], strict=True, **how))
            return number
        except csv.Error as error:
            if "unexpected end" not in str(error):
                break
    return 0
