"""From raw text to validated, clean documents: where data comes from, what it must look like, how it is cleaned.

    sources.source.resolve(source, corpus)             which bytes are meant: they decide an artifact's key
    sources.source.fetch(source, corpus, folder)       those bytes, as files in a folder
    clean.clean_corpus(corpus, folder, out, rules)     documents, rejects and report.json
    facts.describe(out, sample, counts, rules, about)  what a data card shows

Importing this package costs nothing: polars, pandera and kagglehub are loaded by the modules that need them.
"""


class DataError(ValueError):
    """Data or a setting of the user's that cannot be used: one or two lines that name the thing and the mend."""


class Unreachable(DataError):
    """The source of the data does not answer for now: no network, a server in trouble, silence."""
