"""English Wikipedia of October 2020 as plain text: 605 JSON arrays of about 10,000 articles; an article is a document.

The maker of the dataset turned markup into text, put every article on one line, and left much of the markup's debris
(reference: daveshap/PlainTextWikipedia). The rules bring back headings. They drop the debris, and what only refers to other
pages: references, links, categories.

While the rules work, a heading is written START == title END, with as many = as its level: "==Uses== Oak." is START==UsesEND
Oak. No text holds these two characters, since the rule control_characters has removed them.
"""

from contextlib import suppress
from pathlib import Path

import polars as pl

from data_contracts import readers
from data_contracts.contracts import Check, Column, raw_rows
from data_contracts.readers.rows import ROW, place
from data_contracts.rules import read_rules

FILES, COLUMNS = ("*.json",), ("id", "title", "text")
RULES = read_rules(__file__)

REASONS = {
    "disambiguation": "a list of what a title may mean, not an article",
    "no_title": "an article without a title cannot be told from a fragment",
}


# A row is an article. Titles may be followed by blank lines, and need not be unique.
Raw = raw_rows(id=Column(str, Check.str_matches(r"^\d+$")), title=Column(str), text=Column(str))


def read(path: Path, name: str) -> pl.DataFrame:
    """Articles. polars reads them in a third of the time; a file that it refuses is read again, to say what is wrong."""
    with suppress(pl.exceptions.PolarsError):
        rows = pl.read_json(path, schema=dict.fromkeys(COLUMNS, pl.String))
        if rows.height and not rows["id"].null_count():
            return rows.with_row_index(ROW).pipe(place, name)
    return readers.json_rows(path, name, COLUMNS)


def documents(raw: pl.LazyFrame) -> pl.LazyFrame:
    """The title, a blank line, the article; metadata: id, title."""
    title, text = pl.col("title").str.strip_chars(), pl.col("text")
    # A disambiguation page says so in its title, its first words or its last category.
    start, end = text.str.slice(0, 300), text.str.slice(-400)
    disambiguation = (
        title.str.ends_with("(disambiguation)")
        | start.str.contains(r" may (?:also )?refer to ?:|may stand for ?:")
        | end.str.contains("[Dd]isambiguation pages")
    )
    return raw.select(
        *readers.PLACE,
        text=pl.concat_str(title, pl.lit("\n\n"), text),
        source_id="id",
        metadata=pl.struct("id", title.alias("title")).struct.json_encode(),
        reason=pl.when(title == "").then(pl.lit("no_title")).when(disambiguation).then(pl.lit("disambiguation")),
    )
