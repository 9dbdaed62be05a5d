"""From raw text to validated, clean documents: where data comes from, what it must look like, how it is cleaned.

    sources.resolve(source, corpus)             which bytes are meant (the identity an artifact's key is made of)
    sources.fetch(source, corpus, folder)       those bytes, as files in a folder
    shards.clean(corpus, folder, out, rules)    documents, rejects and report.json, by the rules of cleaning.py

Importing this package costs nothing: polars, pandera and kagglehub are loaded by the modules that need them.
"""


class DataError(ValueError):
    """Data, or what a user said about it, that cannot be used: one or two lines that name the thing and the mend.

    rows: where rows of data are what is wrong, some of them, as documents.check found them.
    """

    def __init__(self, message: str, rows: list[dict] | None = None):
        super().__init__(message)
        self.rows = rows or []


class Unreachable(DataError):
    """Where the data comes from does not answer, for now: no network, a server in trouble, silence."""
