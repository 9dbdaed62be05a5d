"""Tiny Shakespeare: one file of speeches, `Speaker:` and lines, blank lines between; a speech is a document."""

import re
from pathlib import Path

import polars as pl

from data_contracts import readers
from data_contracts.contracts import Check, Column, raw_rows

FILES = ("*.txt",)


Raw = raw_rows(speech=Column(str, Check.str_length(min_value=1)))


def read(path: Path, name: str) -> pl.DataFrame:
    """Speeches."""
    play = readers.text(path, name).replace("\r\n", "\n")
    return readers.rows_of([speech for speech in re.split(r"\n{2,}", play.strip("\n")) if speech], "speech", name)


def documents(raw: pl.LazyFrame) -> pl.LazyFrame:
    """A speech each; metadata: its speaker, null where the text names none."""
    speaker = pl.col("speech").str.extract(r"\A([^\n:]+):(?:\n|\z)")
    return raw.select(*readers.PLACE, text="speech", metadata=pl.struct(speaker.alias("speaker")).struct.json_encode())
