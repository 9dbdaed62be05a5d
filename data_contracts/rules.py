"""The settings of cleaning, and what a rule that changes texts is made of: corpora and cleaning share both.

Nothing here loads polars, so that a recipe is read and checked quickly.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

from pydantic import Field

from data_contracts import DataError

if TYPE_CHECKING:
    import polars as pl

Normalize = Literal["none", "NFC"]
Policy = Literal["keep", "mask", "drop"]
Near = Literal["keep", "together", "drop"]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
LEAST_CHARS = 2000  # of a corpus: from fewer, no model learns anything
# What stands for what a setting masks.
MASKS = {"urls": "<url>", "emails": "<email>", "mentions": "<user>", "ip_addresses": "<ip>", "phones": "<phone>"}


@dataclass(frozen=True)
class Rules:
    """How texts are changed, which are rejected, and which are held out. Raises DataError for values that do not fit together;
    whether each is allowed is for pydantic to say, which reads recipes."""

    entities: bool = False
    """Turn HTML entities such as &amp; into their characters. Off where texts are about HTML."""
    normalize: Normalize = "none"
    """NFC gives every accented letter one spelling; none leaves texts as they are."""
    urls: Policy = "keep"
    """Web addresses, with https:// or without (bit.ly/x): kept, masked as <url>, or dropped."""
    emails: Policy = "keep"
    """E-mail addresses: kept, masked as <email>, or dropped."""
    mentions: Policy = "keep"
    """@names, and u/names of Reddit: kept, masked as <user>, or dropped. @10am and @4.20 are none."""
    ip_addresses: Policy = "keep"
    """Public addresses of machines: kept, masked as <ip>, or dropped. Off where version numbers have four parts."""
    phones: Policy = "keep"
    """Phone numbers: kept, masked as <phone>, or dropped. Off for prose, whose catalogue numbers look the same."""
    spaces: bool = False
    """One plain space for every run of spaces of any kind, no space at line ends, one blank line at most. Off where
    indentation has a meaning."""
    min_chars: Annotated[int, Field(ge=1)] = 1
    """Shorter texts are rejected as `too_short`. Characters are Unicode code points, after cleaning."""
    max_chars: Count = 0
    """Longer texts are rejected as `too_long`; 0 means no limit."""
    min_words: Count = 0
    """Texts with fewer words are rejected as `few_words`. Words are runs without white space; in Chinese, Japanese, Thai and
    other scripts without spaces each character is one. Gopher: 50."""
    max_words: Count = 0
    """Texts with more words: `many_words`; 0 means no limit. Gopher: 100,000."""
    min_word_chars: Annotated[float, Field(ge=0)] = 0.0
    """Shorter mean length of words: `word_length`. Gopher: 3."""
    max_word_chars: Annotated[float, Field(ge=0)] = 0.0
    """Longer mean length of words: `word_length`; 0 means no limit. Gopher: 10."""
    max_symbols: Annotated[float, Field(ge=0)] = 0.0
    """More number signs, or more ellipses, per word: `symbols`; 0 means no limit. Gopher: 0.1."""
    max_bullets: Share = 0.0
    """Larger share of lines that begin with a bullet: `bullets`; 0 means no limit. Gopher: 0.9."""
    max_ellipses: Share = 0.0
    """Larger share of lines that end in an ellipsis: `ellipses`; 0 means no limit. Gopher: 0.3."""
    min_letter_words: Share = 0.0
    """Smaller share of words with a letter: `letters`. Gopher: 0.8."""
    min_stop_words: Count = 0
    """Fewer of the eight commonest English words: `stop_words`. Gopher: 2."""
    max_repeated_lines: Share = 0.0
    """Larger share of lines that repeat an earlier one, or of their characters plus 0.1: `repeated_lines`; 0 means no limit.
    Gopher: 0.3."""
    max_repeated_paragraphs: Share = 0.0
    """The same of paragraphs: `repeated_paragraphs`. Gopher: 0.3."""
    max_top_ngrams: Share = 0.0
    """Larger share of characters in the most frequent sequence of 2 words, or of 3 plus 0.02, or of 4 plus 0.04: `top_ngrams`;
    0 means no limit. Gopher: 0.2."""
    max_repeated_ngrams: Share = 0.0
    """Larger share of characters in repeated sequences of 5 words, or of 6 plus 0.01, ... or of 10 plus 0.05:
    `repeated_ngrams`; 0 means no limit. Gopher: 0.15."""
    languages: tuple[str, ...] = ()
    """Keep only these languages (ISO 639-1, such as "en"), as py3langid detects them in the beginning of a text. None: all."""
    deduplicate: bool = True
    """Reject every exact copy of another text as `duplicate`."""
    near_duplicates: Near = "together"
    """Texts of nearly the same words (MinHash): keep them wherever they fall, keep those on one side of the split, or drop all
    but one, as `near_duplicate`."""
    split_chars: Count = 0
    """Cut longer texts at line ends into parts of about this many characters, each a document of its own; 0 means never."""
    max_malformed: Share = 0.0
    """Share of records that may be unreadable: they are rejected as `malformed`, and more of them stop the run."""
    val_fraction: float = 0.1
    """Share of documents held out to choose by: early stop, best checkpoint, settings. A side is drawn by the hash of the place
    that a text comes from, so no other rule and no growth of the corpus moves a document to another side."""
    test_fraction: float = 0.1
    """Share of documents held out to report and compare on: nothing is chosen by it."""
    seed: int = 0
    """A different seed holds out different documents."""

    def __post_init__(self) -> None:
        problems = []
        for name in ("chars", "words", "word_chars"):
            low, high = f"min_{name}", f"max_{name}"
            least, most = getattr(self, low), getattr(self, high)
            if most and most < least:
                problems.append(f"{high} {most} is less than {low} {least} (0 means no limit)")
        if unknown := [code for code in self.languages if len(code) != 2 or not code.islower()]:
            problems.append(f"languages {', '.join(map(repr, unknown))}: give ISO 639-1 codes such as 'en'")
        least = max(100, self.min_chars)
        if self.split_chars and self.split_chars < least:
            problems.append(f"split_chars {self.split_chars} is less than {least} (0 means never cut)")
        fractions = self.val_fraction, self.test_fraction
        if min(fractions) <= 0 or sum(fractions) >= 1:
            names = "val_fraction {} and test_fraction {}".format(*fractions)
            problems.append(f"{names} are not both above 0, and below 1 together")
        if problems:
            raise DataError("rules: " + "; ".join(problems))


class TextRule(NamedTuple):
    """A change to the characters of a text. It never drops a text."""

    name: str
    reason: str
    change: "Callable[[pl.Expr], pl.Expr]"
    only: str = ""
    """a pattern: texts without a match are left alone, quickly. It costs next to nothing where it begins with a literal"""
    rare: str = ""
    """the same, of characters that no rule makes: one search for all such patterns, before the first rule, is enough"""
    setting: str = ""
    """the field of Rules that turns it on; without one it is always on"""

    def on(self, rules: Rules) -> bool:
        return not self.setting or getattr(rules, self.setting) not in (False, "none", "keep")


def read_rules(module: str) -> tuple[TextRule, ...]:
    """Those in the .toml file beside a module: each `replace` is a list of patterns, and of what stands for what they find. A
    pattern may hold <NAME>, one of the `pieces`, and a piece those above it."""
    table = tomllib.loads(Path(module).with_suffix(".toml").read_text(encoding="utf-8"))
    pieces = table.get("pieces", {})

    def whole(pattern: str) -> str:
        for name in reversed(pieces):
            pattern = pattern.replace(f"<{name}>", pieces[name])
        return pattern

    def rule(replace: list[tuple[str, str]], only: str = "", **about: str) -> TextRule:
        steps = [(whole(pattern), by) for pattern, by in replace]
        return TextRule(change=partial(_replace, steps=steps), only=whole(only), **about)

    return tuple(rule(**one) for one in table["rules"])


def _replace(text: "pl.Expr", steps: list[tuple[str, str]]) -> "pl.Expr":
    for pattern, by in steps:
        text = text.str.replace_all(pattern, by)
    return text
