"""What a sample of texts shows: changes by the rules, characters, languages, words, and a few of the texts themselves.

E-mail addresses and @names are masked in every text that is shown: they belong to people who did not agree to it.
"""

import difflib
import re
import unicodedata
from collections import Counter

import polars as pl

from data_contracts.clean.change import apply_rule
from data_contracts.clean.judge import language
from data_contracts.clean.personal import EMAIL, MENTION
from data_contracts.clean.shard import SAMPLE_CHARS
from data_contracts.rules import Rules, TextRule

Parts = list[tuple[str, str]]  # ("same" | "gone" | "new", text): how a text was changed

SHOWN_KEPT, SHOWN_REJECTED, SHOWN_CHARS = 5, 3, 300  # texts; texts of each reason; characters of each
COUNTED_CHARS = 1000  # of each text, for frequencies
PLACE = pl.format("{} row {}", "source_file", "source_row").alias("place")
LATE_REASONS = ("leak", "duplicate", "near_duplicate")  # known only when all shards are cleaned

# The commonest English words, without those of one letter: they say nothing about a corpus.
COMMON_WORDS = (
    "about after all also an and any are as at be because been being but by can could did do does even for from get "
    "had has have he her him his how if in into is it its just like many me more most much my no not now of on one "
    "only or other our out over she should so some still such than that the their them then there these they this to "
    "up us very was we were what when where which who why will with would you your"
)


def changed(before: pl.Series, active: list[TextRule], counts: dict[str, int], rules: Rules) -> list[dict]:
    """One row per text rule that changed something: why, how many texts, and an example from a short text of the sample."""
    whole = before.filter(before.str.len_chars() < SAMPLE_CHARS)
    text = whole.gather_every(max(1, len(whole) // 1000)).rename("text")
    rows = []
    for rule in active:
        new = apply_rule(text, rule)
        both = pl.DataFrame({"old": text, "new": new}).filter(pl.col("old") != pl.col("new"))
        size = pl.col("old").str.len_chars()  # a short text is the clearest example, but not one of two words
        both = both.sort(size < 60, size, maintain_order=True).select(masked("old", rules), masked("new", rules))
        example = changes(*both.row(0), chars=120, around=True) if len(both) else []
        rows.append({"rule": rule.name, "texts": counts.get(rule.name, 0), "example": example, "why": rule.reason})
        text = new
    return [row for row in rows if row["texts"]]


def changes(old: str, new: str, *, chars: int, around: bool = False) -> Parts:
    """The difference of two texts, word by word, about `chars` characters of it.

    around: begin shortly before the first difference, instead of at the beginning.
    """
    first = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, first - chars // 4) if around else 0
    before, after = (re.findall(r"\s+|\w+|[^\w\s]", text[start : start + 4 * chars]) for text in (old, new))
    parts: Parts = [("same", "…")] if start else []
    remaining = chars
    for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        pieces = [("same", before[a:b])] if kind == "equal" else [("gone", before[a:b]), ("new", after[c:d])]
        for name, piece in pieces:
            if text := "".join(piece)[: max(remaining, 0)]:
                parts.append((name, visible(text, "\n" if name == "same" else "⏎")))
                remaining -= len(text)
    return [*parts, ("same", "…")] if remaining <= 0 else parts


def characters(texts: pl.Series) -> dict:
    """`frequent`: (character, group, share) of the commonest; `groups`: the share of each, and its commonest characters."""
    counts = Counter("".join(texts.str.slice(0, COUNTED_CHARS)))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    total = max(1, counts.total())
    groups: Counter[str] = Counter()
    members: dict[str, list[str]] = {}
    for char, count in ordered:
        kind = character_group(char)
        groups[kind] += count
        members.setdefault(kind, []).append(char)
    frequent = [(char, character_group(char), count / total) for char, count in ordered[:50]]
    rows = []
    for kind, count in groups.most_common():
        rows.append({"group": kind, "share": count / total, "most_frequent": " ".join(members[kind][:12]).strip()})
    return {"frequent": frequent, "groups": rows}


def character_group(char: str) -> str:
    """White space, letters, digits, ...; letters beyond ASCII by their script."""
    kind = unicodedata.category(char)[0]
    if char.isspace():
        return "white space"
    if char.isascii():
        return {"L": "letters", "N": "digits"}.get(kind, "punctuation")
    if kind == "L":  # GREEK SMALL LETTER ALPHA, CJK UNIFIED IDEOGRAPH-4E00
        return f"{re.split('[ -]', unicodedata.name(char, 'other'))[0].title()} letters beyond ASCII"
    beyond = {"M": "combining marks", "N": "numbers beyond ASCII", "P": "punctuation beyond ASCII", "S": "symbols"}
    return beyond.get(kind, "other")


def languages(texts: pl.Series) -> list[dict]:
    some = texts.gather_every(max(1, -(-len(texts) // 500)))
    counts = sorted(language(some).value_counts().rows(), key=lambda item: (-item[1], item[0]))
    return [{"language": name, "texts": count, "share": count / len(some)} for name, count in counts]


def words(texts: pl.Series) -> list[tuple[str, int]]:
    """The 40 most frequent, without COMMON_WORDS, contractions and the masks of addresses."""
    heads = texts.str.slice(0, COUNTED_CHARS).str.to_lowercase().str.replace_all("<(?:url|email|user)>", " ")
    found = heads.str.extract_all(r"\p{L}[\p{L}'’]+").explode().drop_nulls()
    counts = found.filter(~found.is_in(COMMON_WORDS.split()) & ~found.str.contains("['’]")).value_counts().rows()
    return sorted(counts, key=lambda item: (-item[1], item[0]))[:40]


def kept(drawn: pl.DataFrame, rules: Rules) -> list[dict]:
    """A few texts and how cleaning changed them."""
    few = drawn.sample(min(SHOWN_KEPT, drawn.height), seed=0)
    rows = few.select(PLACE, masked("before", rules), masked("text", rules)).iter_rows()
    return [{"place": place, "text": changes(old, new, chars=SHOWN_CHARS)} for place, old, new in rows]


def rejected(sample: pl.DataFrame, rejects: pl.LazyFrame, rules: Rules) -> list[dict]:
    """A few texts of each reason."""
    columns = ("reason", PLACE, masked("text", rules))
    late = [rejects.filter(reason=name).select(columns).head(SHOWN_REJECTED).collect() for name in LATE_REASONS]
    early = sample.filter(pl.col("reason").is_not_null()).select(columns).sample(fraction=1, shuffle=True, seed=0)
    few = pl.concat([early, *late]).group_by("reason", maintain_order=True).head(SHOWN_REJECTED)
    return [
        {"reason": reason, "place": place, "text": visible(text[:SHOWN_CHARS]) + "…" * (len(text) > SHOWN_CHARS)}
        for reason, place, text in few.sort("reason", maintain_order=True).iter_rows()
    ]


def masked(column: str, rules: Rules) -> pl.Expr:
    """Without addresses. Without @names too, unless the rules keep mentions: then they may be Python's decorators."""
    text = pl.col(column).str.replace_all(EMAIL, "•••@•••")
    return text if rules.mentions == "keep" else text.str.replace_all(MENTION, "${1}@•••")


def visible(text: str, line_end: str = "\n") -> str:
    """Invisible characters as signs: often they are all that changed. No control sequence reaches a terminal."""
    return "".join(
        line_end if char == "\n" else char if char.isprintable() or char in "\t\u200d" else f"⟨U+{ord(char):04X}⟩"
        for char in text
    )
