"""A user's own folder of any files: a text is a document, and so is each row of a table (see readers.kinds)."""

import polars as pl

from data_contracts.contracts import Column, raw_rows
from data_contracts.readers import PLACE
from data_contracts.readers.kinds import FILES, describe, read

__all__ = ["FILES", "Raw", "describe", "documents", "read"]


# A row is a document; one without text is rejected later, as `empty`.
Raw = raw_rows(text=Column(str, nullable=True))


def documents(raw: pl.LazyFrame) -> pl.LazyFrame:
    """A row each, as it stands."""
    return raw.select(*PLACE, "text", metadata=pl.lit("{}"))
