"""The settings of cleaning, apart from the rules themselves: a recipe is read and checked without loading polars."""

from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

from data_contracts import DataError

Normalize = Literal["none", "NFC"]
Policy = Literal["keep", "mask", "drop"]
Near = Literal["keep", "together", "drop"]
FROM_0 = ("min_words", "min_stop_words", "max_chars", "max_symbols", "min_word_chars")
SHARES = ("min_letter_words", "max_repeated_lines", "max_repeated_ngrams", "max_malformed")


@dataclass(frozen=True)
class Rules:
    """What a document must be, and which documents are held out. Raises DataError that lists every problem at once."""

    entities: bool = False
    """Turn HTML entities such as &amp; into their characters. Off where texts are about HTML."""
    normalize: Normalize = "none"
    """NFC writes accents and the like in one way; none leaves them as they came."""
    urls: Policy = "keep"
    """Web addresses: kept, masked as <url>, or dropped."""
    emails: Policy = "keep"
    """E-mail addresses: kept, masked as <email>, or dropped."""
    mentions: Policy = "keep"
    """@names, and u/names of Reddit: kept, masked as <user>, or dropped."""
    spaces: bool = False
    """One plain space for every run of spaces of any kind, no space at line ends, one blank line at most. Off where
    indentation means something."""
    min_chars: int = 1
    """Shorter texts are rejected as `too_short`. Characters are Unicode code points, after cleaning."""
    max_chars: int = 0
    """Longer texts are rejected as `too_long`; 0 means no limit."""
    min_words: int = 0
    """Fewer words (runs without white space): `few_words`. Gopher takes 50."""
    min_word_chars: float = 0.0
    """Mean length of words below this: `word_length`. Gopher takes 3."""
    max_word_chars: float = 0.0
    """Mean length of words above this: `word_length`; 0 means no limit. Gopher takes 10."""
    max_symbols: float = 0.0
    """More number signs and ellipses a word than this: `symbols`; 0 means no limit. Gopher takes 0.1."""
    min_letter_words: float = 0.0
    """Smaller share of words with a letter: `letters`. Gopher takes 0.8."""
    min_stop_words: int = 0
    """Fewer of the eight commonest English words: `stop_words`. Gopher takes 2."""
    max_repeated_lines: float = 0.0
    """Larger share of lines that repeat an earlier one: `repeated_lines`; 0 means no limit. Gopher takes 0.3."""
    max_repeated_ngrams: float = 0.0
    """Larger share of five-word sequences that repeat an earlier one: `repeated_ngrams`; 0 means no limit. Gopher takes 0.15,
    of characters."""
    languages: tuple[str, ...] = ()
    """Keep only these languages (ISO 639-1, such as "en"), by py3langid on the beginning of a text; none means all."""
    deduplicate: bool = True
    """Reject every exact copy of an earlier text as `duplicate`."""
    near_duplicates: Near = "together"
    """Texts of nearly the same words (MinHash): kept wherever they fall, kept together in train or in val, or dropped but
    for the first as `near_duplicate`."""
    split_chars: int = 0
    """Cut longer texts at line ends into parts of about this length, each a document of its own; 0 means never."""
    max_malformed: float = 0.0
    """Share of records that may be unreadable; more of them stop the run. Such records are rejected as `malformed`."""
    val_fraction: float = 0.1
    """Share of documents held out. Each is drawn by its own hash, so that a corpus that grows keeps its split."""
    seed: int = 0
    """Another seed holds out other documents."""

    def __post_init__(self) -> None:
        problems = []
        if self.min_chars < 1:
            problems.append(f"min_chars {self.min_chars} is less than 1")
        for low, high in (("min_chars", "max_chars"), ("min_word_chars", "max_word_chars")):
            least, most = getattr(self, low), getattr(self, high)
            if most and most < least:
                problems.append(f"{high} {most} is less than {low} {least} (0 means no limit)")
        for name, kind in get_type_hints(type(self)).items():
            known, value = get_args(kind), getattr(self, name)
            if get_origin(kind) is Literal and value not in known:
                problems.append(f"{name} {value!r} is not one of {', '.join(known)}")
            elif name in SHARES and not 0 <= value <= 1:
                problems.append(f"{name} {value} is not between 0 and 1")
            elif name in FROM_0 and value < 0:
                problems.append(f"{name} {value} is below 0")
        if unknown := [code for code in self.languages if len(code) != 2 or not code.islower()]:
            problems.append(f"languages {', '.join(map(repr, unknown))}: give ISO 639-1 codes such as 'en'")
        least = max(100, self.min_chars)
        if self.split_chars and self.split_chars < least:
            problems.append(f"split_chars {self.split_chars} is less than {least} (0 means never cut)")
        if not 0 < self.val_fraction < 1:
            problems.append(f"val_fraction {self.val_fraction} is not between 0 and 1")
        if problems:
            raise DataError("rules: " + "; ".join(problems))
