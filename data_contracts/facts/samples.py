"""What a sample of texts shows: changes by the rules, languages, and a few of the texts themselves.

What leads to a person is veiled in every text that is shown: people did not agree to it.
"""

import difflib
import re

import polars as pl

from data_contracts.clean.change import apply_rule
from data_contracts.clean.judge import language
from data_contracts.clean.personal import veil
from data_contracts.clean.shard import SAMPLE_CHARS
from data_contracts.rules import Rules, TextRule

Parts = list[tuple[str, str]]  # ("same" | "gone" | "new", text): how a text was changed

SHOWN_KEPT, SHOWN_REJECTED, SHOWN_CHARS = 5, 3, 300  # texts; texts of each reason; characters of each
PLACE = pl.format("{} row {}", "source_file", "source_row").alias("place")
LATE_REASONS = ("leak", "duplicate", "near_duplicate")  # known only when all shards are cleaned


def changed(before: pl.Series, active: list[TextRule], counts: dict[str, int], rules: Rules) -> list[dict]:
    """One row per text rule that changed something: why, how many texts, and an example from a short text of the sample."""
    whole = before.filter(before.str.len_chars() < SAMPLE_CHARS)
    text = whole.gather_every(max(1, len(whole) // 1000)).rename("text")
    rows = []
    for rule in active:
        new = apply_rule(text, rule)
        both = pl.DataFrame({"old": text, "new": new}).filter(pl.col("old") != pl.col("new"))
        size = pl.col("old").str.len_chars()  # a short text is the clearest example, but not one of two words
        both = both.sort(size < 60, size, maintain_order=True).head(1)
        both = both.select(veil(pl.col(name), rules) for name in ("old", "new"))
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


def languages(texts: pl.Series) -> list[dict]:
    some = texts.gather_every(max(1, -(-len(texts) // 500)))
    counts = sorted(language(some).value_counts().rows(), key=lambda item: (-item[1], item[0]))
    return [{"language": name, "texts": count, "share": count / len(some)} for name, count in counts]


def kept(drawn: pl.DataFrame, rules: Rules) -> list[dict]:
    """A few texts and how cleaning changed them."""
    few = drawn.sample(min(SHOWN_KEPT, drawn.height), seed=0)
    rows = few.select(PLACE, *(veil(pl.col(name), rules) for name in ("before", "text"))).iter_rows()
    return [{"place": place, "text": changes(old, new, chars=SHOWN_CHARS)} for place, old, new in rows]


def rejected(sample: pl.DataFrame, rejects: pl.LazyFrame, rules: Rules) -> list[dict]:
    """A few texts of each reason."""
    columns = ("reason", PLACE, veil(pl.col("text"), rules))
    late = [rejects.filter(reason=name).select(columns).head(SHOWN_REJECTED).collect() for name in LATE_REASONS]
    early = sample.filter(pl.col("reason").is_not_null()).select(columns).sample(fraction=1, shuffle=True, seed=0)
    few = pl.concat([early, *late]).group_by("reason", maintain_order=True).head(SHOWN_REJECTED)
    return [
        {"reason": reason, "place": place, "text": visible(text[:SHOWN_CHARS]) + "…" * (len(text) > SHOWN_CHARS)}
        for reason, place, text in few.sort("reason", maintain_order=True).iter_rows()
    ]


def visible(text: str, line_end: str = "\n") -> str:
    """Invisible characters as signs: often they are all that changed. No control sequence reaches a terminal."""
    return "".join(
        line_end if char == "\n" else char if char.isprintable() or char in "\t\u200d" else f"⟨U+{ord(char):04X}⟩"
        for char in text
    )
