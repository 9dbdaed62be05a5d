"""Reddit's comments on Donald Trump, each a document.

The names, columns and encoding of the files were unknown when this was written. So every table in the dataset is read, and the
column with the comments is found by its name.
"""

from pathlib import Path
from typing import Literal

import polars as pl

from data_contracts.contracts import Column, raw_rows
from data_contracts.corpora import _reddit
from data_contracts.readers import tables

FILES = ("*.csv", "*.tsv", "*.json", "*.jsonl")

# What the column with the comment may be called, best first.
BODY_COLUMNS = ("body", "comment_body", "comment", "content", "text", "selftext")

RULES, REASONS, documents = _reddit.RULES, _reddit.REASONS, _reddit.documents


# A row is a comment, or a post where it has a title and titles are kept.
Raw = raw_rows(body=Column(str, nullable=True))


def read(
    path: Path, name: str, text_column: str = "", encoding: str = "utf-8", titles: Literal["drop", "first"] = "drop"
) -> pl.LazyFrame:
    """Comments.

    text_column: the column that holds them; by default the first of BODY_COLUMNS that a file has. encoding: of .csv and .tsv
    files, such as cp1252. titles: "drop" a column `title`, or "first": it stands before the text, as in a post.
    """
    kept = (*_reddit.IDS, *_reddit.NUMBERS)
    keep = ("title", *kept) if titles == "first" else kept
    rows = tables.rows(path, name, BODY_COLUMNS, text_column, encoding, keep).rename({"text": "body"})
    return rows if "title" in rows.collect_schema() else rows.with_columns(title=pl.lit(None, pl.String))
