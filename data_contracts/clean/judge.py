"""Where a text is rejected, and why. Every reject has one reason, the first of these that applies:

    malformed                   shard.py       the raw record cannot be read
    a corpus's own REASONS      corpora/       its `documents` returns the reason
    DROP_RULES, below           judge          a measure of the text is out of bounds
    leak                        split.py       a text on another side of the split has the same, or nearly the same, words
    duplicate, near_duplicate   split.py       a text on the same side has

Measure first, then decide: every text is measured once, and another threshold can be judged from the measures alone.
"""

from typing import Any, NamedTuple

import polars as pl

from data_contracts.clean.measures import measure
from data_contracts.rules import Rules

OTHER_REASONS = {
    "malformed": "a record that cannot be read",
    "leak": "a copy, or nearly, of a text on another side of the split: to train on it would be to learn the answer",
    "duplicate": "an exact copy of another text: it would be learned twice",
    "near_duplicate": "nearly the words of another text (MinHash)",
}
GOPHER = "Gopher: Rae et al. 2021, arXiv 2112.11446, table A1"


class DropRule(NamedTuple):
    """A reason to reject a text: one of its measures is out of bounds."""

    name: str
    reason: str
    measure: str
    """a column of measures.COLUMNS, or `language`; null (not measured) is never out of bounds"""
    limits: dict[str, Any]
    """the settings that bound the measure: min_..., max_..., or a list of allowed values. Without any, it must not be 0.
    With each stands the threshold that GOPHER publishes"""

    def on(self, rules: Rules) -> bool:
        return not self.limits or any(getattr(rules, limit) for limit in self.limits)

    def rejects(self, rules: Rules) -> pl.Expr:
        """Whether a text is rejected; only for a rule that is on."""
        measure = pl.col(self.measure)
        broken = [_exceeds(measure, limit, value) for limit in self.limits if (value := getattr(rules, limit))]
        return pl.any_horizontal(broken or measure == 0)


def _exceeds(measure: pl.Expr, limit: str, value: float | tuple[str, ...]) -> pl.Expr:
    if isinstance(value, tuple):
        return ~measure.is_in(list(value))
    return measure < value if limit.startswith("min_") else measure > value


DROP_RULES = (
    DropRule("empty", "nothing but white space", "n_words", {}),
    DropRule("too_short", "fewer than min_chars characters", "n_chars", {"min_chars": None}),
    DropRule("too_long", "more than max_chars characters", "n_chars", {"max_chars": None}),
    DropRule("few_words", "fewer than min_words words", "n_words", {"min_words": 50}),
    DropRule(
        "word_length",
        "words shorter or longer, on average, than language has them",
        "word_chars",
        {"min_word_chars": 3.0, "max_word_chars": 10.0},
    ),
    DropRule("symbols", "number signs and ellipses: lists of tags, teasers cut short", "symbols", {"max_symbols": 0.1}),
    DropRule("letters", "too few words with a letter: tables, codes", "letter_words", {"min_letter_words": 0.8}),
    DropRule("stop_words", "no running English text goes without them", "stop_words", {"min_stop_words": 2}),
    DropRule("repeated_lines", "lines over and over: menus, logs", "repeated_lines", {"max_repeated_lines": 0.3}),
    DropRule(
        "repeated_ngrams",
        "the same words over and over: boilerplate, spam",
        "repeated_ngrams",
        {"max_repeated_ngrams": 0.15},
    ),
    DropRule("language", "not one of the languages asked for", "language", {"languages": None}),
)
# All that is published: a data card compares the corpus with it.
PUBLISHED = Rules(**{limit: value for rule in DROP_RULES for limit, value in rule.limits.items() if value})


def judge(pieces: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """The pieces with their measures and the reason to reject each (null: kept)."""
    measured = pl.concat([pieces, measure(pieces["text"])], how="horizontal")
    if rules.languages:
        measured = measured.with_columns(language=language(measured["text"]))
    return measured.with_columns(reason=first_reason(rules)).drop("language", strict=False)


def first_reason(rules: Rules) -> pl.Expr:
    """The name of the first drop rule that rejects a text; null for a text that is kept."""
    active = [rule for rule in DROP_RULES if rule.on(rules)]
    return pl.coalesce(*(pl.when(rule.rejects(rules)).then(pl.lit(rule.name)) for rule in active))


def language(texts: pl.Series) -> pl.Series:
    """The likeliest language of each text (ISO 639-1), by its first 500 characters. For a text of a few words it is a guess."""
    import py3langid

    return pl.Series([py3langid.classify(text)[0] for text in texts.str.slice(0, 500)], dtype=pl.String)
