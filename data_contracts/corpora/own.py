"""A user's own folder of any files: a text is a document, and so is each row of a table (see readers.kinds)."""

import polars as pl
from pandera.polars import Field

from data_contracts.contracts import RawRows
from data_contracts.readers import PLACE
from data_contracts.readers.kinds import FILES, describe, read

__all__ = ["FILES", "Raw", "describe", "documents", "read"]


class Raw(RawRows):
    """A row is a document; one without text is rejected later, as `empty`."""

    text: str = Field(nullable=True)


def documents(raw: pl.LazyFrame) -> pl.LazyFrame:
    """A row each, as it stands."""
    return raw.select(*PLACE, "text", metadata=pl.lit("{}"))
