"""The kinds of files that a user may bring, and how each is read: as one text, or as a table with a text in each row.

Loads no pandera, so that a command can try the first file before anything else is started.
"""

import json
import tempfile
from collections import Counter
from pathlib import Path

import polars as pl

from data_contracts.readers import tables
from data_contracts.readers.plain_text import encoding_of, text
from data_contracts.readers.rows import UNDERSTOOD, reading, rows_of

# Names that the column with the text may have, best first.
TEXT_COLUMNS = [
    *("text", "body", "content", "comment_body", "comment", "selftext", "message", "document", "tweet", "line"),
    *("full_text", "contents", "messages", "conversations"),
]
TABLES = (*tables.JSON, ".csv", ".parquet", ".tsv")
TEXTS = (".log", ".markdown", ".md", ".rst", ".text", ".txt")
FILES = (*(f"*{ending}" for ending in (*TEXTS, *TABLES) if ending != ".js"), "*tweet*.js")
HEAD_BYTES = 1 << 20  # of a large file that `probe` reads
GUESSES = 5  # that are shown


def read(
    path: Path, name: str, text_column: str = "", encoding: str = "", delimiter: str = "", header: str = ""
) -> pl.LazyFrame:
    """A text, or the rows of a table. UNDERSTOOD says what the file was taken for.

    text_column: the column of a table that holds the text; by default the first of TEXT_COLUMNS that a file has. encoding: by
    default it is found out. delimiter, header: of a .csv file ("false": it has no header).
    """
    ending, guess = path.suffix.lower(), ""
    if not encoding and ending != ".parquet":
        encoding, guess = encoding_of(path, name)
    if ending in TABLES:
        layout = {"header": header != "false"} | ({"delimiter": delimiter} if delimiter else {})
        found = tables.rows(path, name, TEXT_COLUMNS, text_column, encoding, None, **layout)
    else:
        found = rows_of([text(path, name, encoding)], "text", name).lazy()
    understood = json.dumps([f"{ending[1:]} files {encoding and f'in {encoding}'}".strip(), guess])
    return found.with_columns(pl.lit(understood).alias(UNDERSTOOD))


def describe(understood: dict[str, int]) -> list[str]:
    """Lines on what files were taken for, and on each guess. understood: by what `read` says of a file, its texts."""
    files = [(*json.loads(about), texts) for about, texts in sorted(understood.items())]
    kinds, guesses = Counter[str](), [guess for _, guess, _ in files if guess]
    for kind, _, texts in files:
        kinds[kind] += texts
    line = ", ".join(f"{texts:,} texts of {kind}" for kind, texts in kinds.items())
    return [line, *guesses[:GUESSES], *["... and so for others"] * (len(guesses) > GUESSES)]


def probe(path: Path, name: str, **options: str) -> None:
    """Read a file, or the beginning of a large one, to raise DataError for what is wrong with it."""
    ending = path.suffix.lower()
    if ending == ".parquet" or path.stat().st_size <= HEAD_BYTES:
        with reading(name):
            read(path, name, **options).lazy().collect_schema()
    elif ending not in (".json", ".js"):  # the beginning of an array is none
        with path.open("rb") as file, tempfile.NamedTemporaryFile(suffix=ending) as head:
            head.write(file.read(HEAD_BYTES).rpartition(b"\n")[0])
            head.flush()
            if ending in tables.JSON:  # an object may go on behind the beginning
                wanted, encoding = options.get("text_column", ""), options.get("encoding", "")
                tables.json_columns(Path(head.name), name, TEXT_COLUMNS, wanted, encoding, ())
            else:
                read(Path(head.name), name, **options)
