"""Where a text is rejected, and why. Every reject has one reason, the first of these that applies:

    malformed                   shard.py       the raw record cannot be read
    a corpus's own REASONS      corpora/       its `documents` returns the reason
    DROP_RULES, below           judge          a measure of the text is out of bounds
    leak                        split.py       a text on another side of the split has the same, or nearly the same, words
    duplicate, near_duplicate   split.py       a text on the same side has

Measure first, then decide: every text is measured once, and another threshold can be judged from the measures alone.
"""

from typing import NamedTuple

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


class DropRule(NamedTuple):
    """A reason to reject a text: one of its measures is out of bounds."""

    name: str
    reason: str
    limits: tuple[str, ...]
    """the settings that bound a measure, min_... or max_... of contracts.COLUMNS, or the languages allowed; without any, a text
    must have a word. What was not measured is never out of bounds"""

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


# From few_words on they are Gopher's (Rae et al. 2021, arXiv 2112.11446, appendix A.1.1, and of repeats table A1), but for the
# last. Its thresholds stand with the settings.
DROP_RULES = (
    DropRule("empty", "nothing but white space", ()),
    DropRule("too_short", "fewer than min_chars characters", ("min_chars",)),
    DropRule("too_long", "more than max_chars characters", ("max_chars",)),
    DropRule("few_words", "fewer than min_words words", ("min_words",)),
    DropRule("many_words", "more than max_words words", ("max_words",)),
    DropRule("word_length", "words of an odd mean length", ("min_word_chars", "max_word_chars")),
    DropRule("symbols", "number signs or ellipses: lists of tags, teasers", ("max_symbols",)),
    DropRule("bullets", "nearly every line begins with a bullet: lists", ("max_bullets",)),
    DropRule("ellipses", "lines that end in an ellipsis: teasers cut short", ("max_ellipses",)),
    DropRule("letters", "too few words with a letter: tables, codes", ("min_letter_words",)),
    DropRule("stop_words", "no running English text goes without them", ("min_stop_words",)),
    DropRule("repeated_lines", "lines over and over: menus, logs", ("max_repeated_lines",)),
    DropRule("repeated_paragraphs", "paragraphs over and over", ("max_repeated_paragraphs",)),
    DropRule("top_ngrams", "one phrase makes up much of it: spam", ("max_top_ngrams",)),
    DropRule("repeated_ngrams", "the same words over and over: boilerplate", ("max_repeated_ngrams",)),
    DropRule("language", "not one of the languages asked for", ("languages",)),
)
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
