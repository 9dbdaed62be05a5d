"""The rules that change the characters of texts, each with a name and a reason, and how they are applied.

The rules of every corpus come first and last, a corpus's own (RULES in corpora/) between them. None drops a text: see judge.py.

Notable: a literal is found at memory speed, a pattern that begins with one nearly so, and one that begins with a class looks at
every byte. So patterns begin with a literal, or are tried only on the texts that contain one (`only`).
"""

import html
from html.entities import html5

import polars as pl

from data_contracts.clean.personal import personal_rules
from data_contracts.rules import Rules, TextRule

# Characters that look like a space, or like nothing. Not the joiners U+200C and U+200D, of which emoji and words are made.
SPACES = dict.fromkeys(["\t", "\u00a0", "\u1680", *map(chr, range(0x2000, 0x200B)), "\u202f", "\u205f", "\u3000"], " ")
SPACES |= dict.fromkeys(["\u00ad", "\u200b", "\u200e", "\u200f", "\u2060"], "")
# The C1 control characters are what cp1252's own become if they are read as latin-1: \x92 is an apostrophe.
CP1252 = {chr(number): bytes([number]).decode("cp1252", "ignore") for number in range(0x80, 0xA0)}
LINE_END = r"\r\n?|[\x{0B}\x{0C}\x{85}\x{2028}\x{2029}]"
CONTROL = r"[\x{00}-\x{08}\x{0B}-\x{1F}\x{7F}-\x{9F}\x{FEFF}]"
# Every character that NFC may change, combine with the one before it or reorder, in ranges a little too wide. A test compares
# them with unicodedata.
NOT_COMPOSED = (
    r"[\p{M}\x{374}\x{37E}\x{387}\x{958}-\x{FB9}\x{1161}-\x{11C2}\x{1F71}-\x{1F7D}\x{1FBB}\x{1FBE}\x{1FC9}-\x{1FCB}\x{1FD3}"
    r"\x{1FDB}\x{1FE3}\x{1FEB}-\x{1FEF}\x{1FF9}-\x{1FFD}\x{2000}\x{2001}\x{2126}\x{212A}\x{212B}\x{2329}\x{232A}\x{2ADC}"
    r"\x{F900}-\x{FAD9}\x{FB1D}-\x{FB4E}\x{1D15E}-\x{1D1C0}\x{2F800}-\x{2FA1D}]"
)
# What html.unescape may change: a number, or a name that it knows. The &D of R&D is none.
ENTITY = f"&(?:#|{'|'.join(sorted(html5))})"


def unescape(text: str) -> str:
    """Without entities, also those that were escaped once or twice more: &amp;#x200B;"""
    for _ in range(3):
        text = html.unescape(text)
    return text


FIRST_RULES = (
    TextRule(
        "entities",
        "&amp; is how a web page writes &",
        lambda text: text.map_elements(unescape, return_dtype=pl.String),
        rare=ENTITY,
        setting="entities",
    ),
    TextRule(
        "line_ends",
        "a line, and a page, ends in \\n whatever system wrote it: seven spellings of one thing would be learned seven times",
        lambda text: text.str.replace_all(LINE_END, "\n"),
        rare=LINE_END,
    ),
    TextRule(
        "cp1252",
        "Windows's quotes and dashes, read in another encoding, become control characters",
        lambda text: text.str.replace_many(CP1252),
        rare=r"[\x{80}-\x{9F}]",
    ),
    TextRule(
        "control_characters",
        "NUL, other control characters (but not \\n and \\t) and byte-order marks are leftovers of files, not of language",
        lambda text: text.str.replace_all(CONTROL, ""),
        rare=CONTROL,
    ),
)

NORMALIZE = TextRule(
    "normalize",
    "one spelling of each accented letter",
    lambda text: text.str.normalize("NFC"),
    rare=NOT_COMPOSED,
    setting="normalize",
)

LAST_RULES = (
    TextRule(
        "odd_spaces",
        "a space is a space, whatever its width; what takes no place at all says nothing",
        lambda text: text.str.replace_many(SPACES),
        rare="|".join(SPACES),
        setting="spaces",
    ),
    TextRule(
        "spaces",
        "runs of spaces, spaces at line ends and runs of blank lines cost tokens",
        # Runs first: then at most one space stands before a line end.
        lambda text: (
            text.str.replace_all(r"  +", " ").str.replace_all(r" \n", "\n").str.replace_all(r"\n\n\n+", "\n\n")
        ),
        only=r"  | \n|\n\n\n",
        setting="spaces",
    ),
    TextRule(
        "edges",
        "blank lines before a text and white space after it say nothing; indentation of its first line does",
        lambda text: text.str.replace(r"\A(?:[^\S\n]*\n)+", "").str.strip_chars_end(),
    ),
)


def text_rules(own: tuple[TextRule, ...], rules: Rules) -> list[TextRule]:
    """The rules that the settings turn on, in the order in which they are applied. own: the corpus's."""
    every = (*FIRST_RULES, *own, NORMALIZE, *personal_rules(rules), *LAST_RULES)
    return [rule for rule in every if rule.on(rules)]


def apply_rules(texts: pl.Series, active: list[TextRule]) -> tuple[pl.Series, dict[str, int]]:
    """The texts after the rules, one after another, and how many of them each rule changed."""
    rare = texts.str.contains("|".join(rule.rare for rule in active if rule.rare)).arg_true()
    changed = {}
    for rule in active:
        rows: pl.Series | None = None  # all
        if rule.rare:
            rows = rare.gather(texts.gather(rare).str.contains(rule.rare).arg_true())
        elif rule.only:
            rows = texts.str.contains(rule.only).arg_true()
        before = texts if rows is None else texts.gather(rows)
        after = before.to_frame("text").select(rule.change(pl.col("text"))).to_series() if len(before) else before
        changed[rule.name] = int((after != before).sum())
        if changed[rule.name]:
            # `scatter` writes into its Series: the clone keeps the caller's as it was.
            texts = after if rows is None else texts.clone().scatter(rows, after)
    return texts, changed
