"""The kinds of files that a user may bring, and how each is read: as one text, as a table with a text in each row, as a chat.

Loads no pandera, so that a command can try the first file before anything else is started.
"""

import json
import tempfile
from functools import partial
from pathlib import Path

import polars as pl

from data_contracts.readers import chats, tables
from data_contracts.readers.plain_text import CUE, encoding_of, page_text, text
from data_contracts.readers.rows import UNDERSTOOD, reading, rows_of

# Names that the column with the text may have, best first.
TEXT_COLUMNS = [
    *("text", "body", "content", "comment_body", "comment", "selftext", "message", "document", "tweet", "line"),
    *("full_text", "contents", "messages", "conversations"),
]
TABLES = (".csv", ".json", ".jsonl", ".ndjson", ".parquet", ".tsv")
LAID_OUT = dict.fromkeys((".htm", ".html", ".xhtml"), page_text) | dict.fromkeys((".srt", ".vtt"), partial(CUE.sub, ""))
TEXTS = (".log", ".markdown", ".md", ".rst", ".text", ".txt")
FILES = (*(f"*{ending}" for ending in (*TEXTS, *TABLES, *LAID_OUT)), "*tweet*.js")
HEAD_BYTES, CHAT_BYTES = 1 << 20, 1 << 28  # of a large file that `probe` reads; a larger file is no chat
GUESSES = 5  # that are shown


def read(
    path: Path,
    name: str,
    text_column: str = "",
    encoding: str = "",
    delimiter: str = "",
    header: str = "",
    mask: str = "",
) -> pl.LazyFrame:
    """A text, the rows of a table, or the conversations of a chat. UNDERSTOOD says what the file was taken for.

    text_column: the column of a table that holds the text; by default the first of TEXT_COLUMNS that a file has. encoding: of
    texts and tables; by default it is found out. delimiter, header: of a .csv file ("false": it has no header). mask:
    "names" of the people in a chat.
    """
    ending, guess = path.suffix.lower(), ""
    if not encoding and ending != ".parquet":
        encoding, guess = encoding_of(path, name)
    kind, messages = "", chats.Messages()
    if ending in chats.ENDINGS and path.stat().st_size <= CHAT_BYTES:
        kind, messages = chats.find(text(path, name, encoding), ending)
    if kind:
        found = rows_of([*chats.conversations(messages, mask == "names")], "text", name).lazy()
    elif ending in TABLES:
        layout = {"header": header != "false"} | ({"delimiter": delimiter} if delimiter else {})
        found = tables.rows(path, name, TEXT_COLUMNS, text_column, encoding, None, **layout)
    else:
        found = rows_of([LAID_OUT.get(ending, str)(text(path, name, encoding))], "text", name).lazy()
    people = sorted({name for _, name, _ in messages} - {""})
    understood = json.dumps([name, kind or ending[1:], encoding, guess, people, len(messages)])
    return found.with_columns(pl.lit(understood).alias(UNDERSTOOD))


def describe(understood: dict[str, int]) -> list[str]:
    """Lines on what files were taken for, and on each guess. understood: by what `read` says of a file, its rows."""
    files, lines = [(*json.loads(about), rows) for about, rows in understood.items()], []
    for kind in dict.fromkeys(kind for _, kind, *_ in files):
        ours = [file for file in files if file[1] == kind]
        messages, rows = sum(file[5] for file in ours), sum(file[6] for file in ours)
        what = f"{len(ours):,} {kind} file{'s' * (len(ours) > 1)}, {rows:,} texts"
        if people := {person for file in ours for person in file[4]}:
            what = f"{kind} export, {len(people)} people, {messages:,} messages in {rows:,} conversations"
        lines.append(", ".join([what, *sorted({file[2] for file in ours} - {""})]))
    guesses = [file[3] for file in files if file[3]]
    return ["; ".join(lines), *guesses[:GUESSES], *["... and so for others"] * (len(guesses) > GUESSES)]


def probe(path: Path, name: str, **options: str) -> None:
    """Read a file, or the beginning of a large one, to raise DataError for what is wrong with it."""
    ending = path.suffix.lower()
    if ending == ".parquet" or path.stat().st_size <= HEAD_BYTES:
        with reading(name):
            read(path, name, **options).lazy().collect_schema()
    elif ending not in (".json", ".js"):  # one array, whose beginning is none
        with path.open("rb") as file, tempfile.NamedTemporaryFile(suffix=ending) as head:
            head.write(file.read(HEAD_BYTES).rpartition(b"\n")[0])
            head.flush()
            read(Path(head.name), name, **options)
