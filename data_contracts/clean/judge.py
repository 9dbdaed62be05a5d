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
from data_contracts.contracts import COLUMNS
from data_contracts.rules import Rules

OTHER_REASONS = {
    "malformed": "a record that cannot be read",
    "leak": "a copy, or nearly, of a text on another side of the split: to train on it would be to learn the answer",
    "duplicate": "an exact copy of another text: it would be learned twice",
    "near_duplicate": "nearly the words of another text (MinHash)",
}
QUALITY = "Gopher: Rae et al. 2021, arXiv 2112.11446, appendix A.1.1, quality filtering"
REPETITION = "Gopher: Rae et al. 2021, arXiv 2112.11446, table A1, repetition"


class DropRule(NamedTuple):
    """A reason to reject a text: one of its measures is out of bounds."""

    name: str
    reason: str
    limits: dict[str, Any]
    """the settings that bound a measure, min_... or max_... of contracts.COLUMNS, or the languages allowed; without any, a text
    must have a word. What was not measured is never out of bounds. With each stands its published threshold"""
    source: str = ""
    """where that is published"""

    def on(self, rules: Rules) -> bool:
        return not self.limits or any(getattr(rules, limit) for limit in self.limits)

    def rejects(self, rules: Rules) -> pl.Expr:
        """Whether a text is rejected; only for a rule that is on."""
        broken = [_exceeds(limit, value) for limit in self.limits if (value := getattr(rules, limit))]
        return pl.any_horizontal(broken or pl.col("n_words") == 0)


def _exceeds(limit: str, value: float | tuple[str, ...]) -> pl.Expr:
    if isinstance(value, tuple):
        return ~pl.col("language").is_in(list(value))
    side, _, name = limit.partition("_")
    measure = pl.col(f"n_{name}" if f"n_{name}" in COLUMNS else name)
    return measure < value if side == "min" else measure > value


DROP_RULES = (
    DropRule("empty", "nothing but white space", {}),
    DropRule("too_short", "fewer than min_chars characters", {"min_chars": None}),
    DropRule("too_long", "more than max_chars characters", {"max_chars": None}),
    DropRule("few_words", "fewer than min_words words", {"min_words": 50}, QUALITY),
    DropRule("many_words", "more than max_words words", {"max_words": 100_000}, QUALITY),
    DropRule("word_length", "words of an odd mean length", {"min_word_chars": 3.0, "max_word_chars": 10.0}, QUALITY),
    DropRule("symbols", "number signs or ellipses: lists of tags, teasers", {"max_symbols": 0.1}, QUALITY),
    DropRule("bullets", "nearly every line begins with a bullet: lists", {"max_bullets": 0.9}, QUALITY),
    DropRule("ellipses", "lines that end in an ellipsis: teasers cut short", {"max_ellipses": 0.3}, QUALITY),
    DropRule("letters", "too few words with a letter: tables, codes", {"min_letter_words": 0.8}, QUALITY),
    DropRule("stop_words", "no running English text goes without them", {"min_stop_words": 2}, QUALITY),
    DropRule("repeated_lines", "lines over and over: menus, logs", {"max_repeated_lines": 0.3}, REPETITION),
    DropRule("repeated_paragraphs", "paragraphs over and over", {"max_repeated_paragraphs": 0.3}, REPETITION),
    DropRule("top_ngrams", "one phrase makes up much of it: spam", {"max_top_ngrams": 0.2}, REPETITION),
    DropRule("repeated_ngrams", "the same words over and over: boilerplate", {"max_repeated_ngrams": 0.15}, REPETITION),
    DropRule("language", "not one of the languages asked for", {"languages": None}),
)
# All that is published.
PUBLISHED = Rules(**{limit: value for rule in DROP_RULES for limit, value in rule.limits.items() if value})


# The settings that change no text and no measure.
DECIDED = {limit for rule in DROP_RULES for limit in rule.limits} | {"near_duplicates", "deduplicate", "max_malformed"}


def measure_all(texts: pl.Series, rules: Rules) -> pl.DataFrame:
    """All that the drop rules need to know of each text; its language only where it matters, else null."""
    no_language = pl.lit(None, pl.String)
    return measure(texts).with_columns(language=language(texts) if rules.languages else no_language)


def judge(pieces: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """The measured pieces with the reason to reject each (null: kept)."""
    active = [rule for rule in DROP_RULES if rule.on(rules)]
    first = pl.coalesce(*(pl.when(rule.rejects(rules)).then(pl.lit(rule.name)) for rule in active))
    return pieces.with_columns(reason=first)


def language(texts: pl.Series) -> pl.Series:
    """The likeliest language of each text (ISO 639-1), by its first 500 characters. For a text of a few words it is a guess."""
    import py3langid

    return pl.Series([py3langid.classify(text)[0] for text in texts.str.slice(0, 500)], dtype=pl.String)
