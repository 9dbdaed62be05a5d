"""The rules of cleaning, each with a name, a reason, a polars expression, and the source of a threshold that is published.

Text rules change characters and never drop a text. Then every text is measured, once, and the first drop rule that holds
turns it away; the measures stay beside the texts, kept or rejected, so that another threshold can be judged without
another pass. Measure first, then decide. What the rules are applied to, shard by shard, is the affair of shards.py.

Speed is a matter of the expressions: a literal is found at memory speed, a pattern that begins with one nearly so, one that
begins with a class looks at every byte. So rules begin with a literal, or look only at texts that hold one.
"""

import html
import unicodedata
from collections.abc import Callable
from functools import partial
from html.entities import html5
from typing import NamedTuple

import polars as pl

from data_contracts.clean.settings import Rules


class TextRule(NamedTuple):
    """A change to the characters of a text."""

    name: str
    reason: str
    change: Callable[[pl.Expr, Rules], pl.Expr]
    only: str = ""
    """a pattern that a text must hold to be changed; the others are not looked at further. A literal costs next to nothing"""
    rare: bool = False
    """`only` is of characters that no rule makes: one search for all such patterns, before the first rule, clears most texts"""
    on: Callable[[Rules], bool] = lambda rules: True


class DropRule(NamedTuple):
    """A ground to reject a text: one of its measures is out of bounds."""

    name: str
    reason: str
    measure: str
    """a column of measures.COLUMNS, or `language`; null (not measured) is never out of bounds"""
    limits: tuple[str, ...] = ()
    """the settings that bound it: least (min_), most (max_), or what it must be one of; without, it must not be 0"""
    source: str = ""
    """where the threshold is published"""

    def on(self, rules: Rules) -> bool:
        return not self.limits or any(getattr(rules, limit) for limit in self.limits)

    def holds(self, rules: Rules) -> pl.Expr:
        """Whether a text is to be rejected; for rules that are on."""
        measure, found = pl.col(self.measure), []
        for limit in filter(partial(getattr, rules), self.limits):
            value = getattr(rules, limit)
            if limit.startswith("min_"):
                found.append(measure < value)
            else:
                found.append(measure > value if limit.startswith("max_") else ~measure.is_in(list(value)))
        return pl.any_horizontal(found or measure == 0)


GOPHER = "Gopher: Rae et al. 2021, arXiv 2112.11446, table A1"
# The thresholds of that table, all of them: what thresholds.py compares a corpus with.
PUBLISHED = Rules(
    min_words=50,
    min_word_chars=3.0,
    max_word_chars=10.0,
    max_symbols=0.1,
    min_letter_words=0.8,
    min_stop_words=2,
    max_repeated_lines=0.3,
    max_repeated_ngrams=0.15,
)

# Characters that look like a space, or like nothing. Not the joiners U+200C and U+200D, of which emoji and words are made.
SPACES = dict.fromkeys(["\t", "\u00a0", "\u1680", *map(chr, range(0x2000, 0x200B)), "\u202f", "\u205f", "\u3000"], " ")
SPACES |= dict.fromkeys(["\u00ad", "\u200b", "\u200e", "\u200f", "\u2060"], "")
CONTROL = r"[\x{00}-\x{08}\x{0B}-\x{1F}\x{7F}-\x{9F}\x{FEFF}]"
# Every character that NFC may change, join to the one before it or put in another order, in ranges a little too wide. A test
# asks unicodedata.
NOT_COMPOSED = (
    r"[\p{M}\x{374}\x{37E}\x{387}\x{958}-\x{FB9}\x{1161}-\x{11C2}\x{1F71}-\x{1F7D}\x{1FBB}\x{1FBE}\x{1FC9}-\x{1FCB}\x{1FD3}"
    r"\x{1FDB}\x{1FE3}\x{1FEB}-\x{1FEF}\x{1FF9}-\x{1FFD}\x{2000}\x{2001}\x{2126}\x{212A}\x{212B}\x{2329}\x{232A}\x{2ADC}"
    r"\x{F900}-\x{FAD9}\x{FB1D}-\x{FB4E}\x{1D15E}-\x{1D1C0}\x{2F800}-\x{2FA1D}]"
)
# What html.unescape may change: a number, or a name that it knows. The & of R&D; is none.
ENTITY = f"&(?:#|{'|'.join(sorted(html5))})"
# Without the punctuation after it; a parenthesis belongs to it when it is closed there: https://en.wikipedia.org/wiki/C_(x)
URL = r"(?:https?://|www\.)(?:[^\s<>\"()]|\([^\s<>\"()]*\))*(?:[^\s<>\"'.,;:!?()\]]|\([^\s<>\"()]*\))"
EMAIL = r"[A-Za-z0-9._%+\-]+@[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)+"
MENTION = r"(^|[^\w@/.])(?:@|/?u/)\w[\w\-]+"


def by_python(text: pl.Expr, change: Callable[[str], str]) -> pl.Expr:
    """Where the standard library knows best: for the few texts that hold what it is asked about."""
    return text.map_batches(
        lambda values: pl.Series(values.name, [change(value) for value in values], pl.String), return_dtype=pl.String
    )


def _policy(field: str, pattern: str, mask: str, prefix: str = "") -> Callable[[pl.Expr, Rules], pl.Expr]:
    return lambda text, rules: text.str.replace_all(pattern, prefix + (mask if getattr(rules, field) == "mask" else ""))


FIRST_RULES = (
    TextRule(
        "entities",
        "&amp; is how a web page writes &",
        lambda text, _: by_python(text, html.unescape),
        only=ENTITY,
        rare=True,
        on=lambda rules: rules.entities,
    ),
    TextRule(
        "line_ends",
        "a line ends in \\n whatever system wrote it: three spellings of one thing would be learned three times",
        lambda text, _: text.str.replace_all(r"\r\n?", "\n"),
        only=r"\r",
        rare=True,
    ),
    TextRule(
        "control_characters",
        "NUL, other control characters (but not \\n and \\t) and byte-order marks are leftovers of files, not of language",
        lambda text, _: text.str.replace_all(CONTROL, ""),
        only=CONTROL,
        rare=True,
    ),
)

LAST_RULES = (
    TextRule(
        "normalize",
        "one spelling of each accented letter",
        lambda text, _: by_python(text, partial(unicodedata.normalize, "NFC")),
        only=NOT_COMPOSED,
        rare=True,
        on=lambda rules: rules.normalize == "NFC",
    ),
    TextRule(
        "urls",
        "addresses are noise to a small model, and lead to people",
        _policy("urls", URL, "<url>"),
        only=r"://|www\.",
        on=lambda rules: rules.urls != "keep",
    ),
    TextRule(
        "emails",
        "private data: an address belongs to somebody who was not asked",
        _policy("emails", EMAIL, "<email>"),
        only="@",
        on=lambda rules: rules.emails != "keep",
    ),
    TextRule(
        "mentions",
        "private data: a name that leads to an account",
        _policy("mentions", MENTION, "<user>", "${1}"),
        only="@|u/",
        on=lambda rules: rules.mentions != "keep",
    ),
    TextRule(
        "odd_spaces",
        "a space is a space, whatever its width; what takes no place at all says nothing",
        lambda text, _: text.str.replace_many(SPACES),
        only="|".join(SPACES),
        rare=True,
        on=lambda rules: rules.spaces,
    ),
    TextRule(
        "spaces",
        "runs of spaces, spaces at line ends and runs of blank lines cost tokens",
        # Runs first: then at most one space stands before a line end.
        lambda text, _: (
            text.str.replace_all(r"  +", " ").str.replace_all(r" \n", "\n").str.replace_all(r"\n\n\n+", "\n\n")
        ),
        only=r"  | \n|\n\n\n",
        on=lambda rules: rules.spaces,
    ),
    TextRule(
        "low_block",
        "U+2581 is SentencePiece's own mark for a space and would come back as one: it becomes the low line it looks like",
        lambda text, _: text.str.replace_all("\u2581", "_", literal=True),
        only="\u2581",
        rare=True,
    ),
    TextRule(
        "edges",
        "blank lines before a text and white space after it say nothing; indentation of its first line does",
        lambda text, _: text.str.replace(r"\A(?:[^\S\n]*\n)+", "").str.strip_chars_end(),
    ),
)

DROP_RULES = (
    DropRule("empty", "nothing but white space", "n_words"),
    DropRule("too_short", "fewer than min_chars characters", "n_chars", ("min_chars",)),
    DropRule("too_long", "more than max_chars characters", "n_chars", ("max_chars",)),
    DropRule("few_words", "fewer than min_words words", "n_words", ("min_words",), GOPHER),
    DropRule(
        "word_length",
        "words shorter or longer, on average, than language has them",
        "word_chars",
        ("min_word_chars", "max_word_chars"),
        GOPHER,
    ),
    DropRule(
        "symbols", "number signs and ellipses: lists of tags, teasers cut short", "symbols", ("max_symbols",), GOPHER
    ),
    DropRule("letters", "too few words with a letter: tables, codes", "letter_words", ("min_letter_words",), GOPHER),
    DropRule("stop_words", "no running English text goes without them", "stop_words", ("min_stop_words",), GOPHER),
    DropRule("repeated_lines", "lines over and over: menus, logs", "repeated_lines", ("max_repeated_lines",), GOPHER),
    DropRule(
        "repeated_ngrams",
        "the same words over and over: boilerplate, spam",
        "repeated_ngrams",
        ("max_repeated_ngrams",),
        GOPHER,
    ),
    DropRule("language", "not one of the languages asked for", "language", ("languages",)),
)

# What shards.py rejects for, beside the rules above and a corpus's own reasons.
OTHER_REASONS = {
    "malformed": "a record that cannot be read",
    "duplicate": "an exact copy of an earlier text: it would be learned twice, or stand in train and val",
    "near_duplicate": "nearly the words of an earlier text (MinHash)",
}


def text_rules(own: tuple[TextRule, ...], rules: Rules) -> list[TextRule]:
    """The rules that change a text and are on, in order: the first common ones, the corpus's own, the last common ones."""
    return [rule for rule in (*FIRST_RULES, *own, *LAST_RULES) if rule.on(rules)]


def reason(rules: Rules) -> pl.Expr:
    """The name of the first drop rule that holds; null for a text that is kept."""
    return pl.coalesce(
        *(pl.when(rule.holds(rules)).then(pl.lit(rule.name)) for rule in DROP_RULES if rule.on(rules)),
        pl.lit(None, pl.String),
    )
