"""Which language a text is in, by py3langid: a linear model over byte sequences, its weights plain arrays."""

import polars as pl


def language(texts: pl.Series) -> pl.Series:
    """The likeliest language of each text (ISO 639-1), by its first 500 characters. A text of a few words is a guess."""
    import py3langid

    return pl.Series([py3langid.classify(text)[0] for text in texts.str.slice(0, 500)], dtype=pl.String)
