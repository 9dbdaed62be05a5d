"""The facts of a data card: what a cleaned corpus is, what became of its texts, what it looks like.

Plain values, as card.json holds them. Texts are read in a sample of a few thousand, numbers from columns, so the facts of a
large corpus cost little more than those of a small one. Equal documents give equal facts. What leads to a person is veiled in
every text that is shown: people did not agree to it.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import polars as pl

from data_contracts import corpora
from data_contracts.clean.change import text_rules
from data_contracts.clean.judge import DROP_RULES, OTHER_REASONS, language
from data_contracts.clean.personal import veil
from data_contracts.clean.shard import SAMPLE_CHARS
from data_contracts.contracts import COLUMNS, MEANINGS
from data_contracts.rules import Rules

BINS_PER_TEN = 8  # bins of length for a factor of ten
QUANTILES = {"p1": 0.01, "p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99}
Parts = list[tuple[str, str]]  # ("same" | "gone" | "new", text): how a text was changed

SHOWN_KEPT, SHOWN_REJECTED, SHOWN_CHARS = 5, 3, 300  # texts; texts of each reason; characters of each
PLACE = pl.format("{} row {}", "source_file", "source_row").alias("place")


def describe(folder: Path, sample: pl.DataFrame, counts: dict, rules: Rules, about: dict) -> dict:
    """All facts of a cleaned corpus.

    folder: holds the documents and rejects. sample: before, text, source_file, source_row: texts drawn at random, before and
    after the text rules. counts: what report.json says, and nulls. about: corpus, title, licence, and source (the identity of
    the raw data); no path of this machine, nothing secret.
    """
    documents, rejects = (pl.scan_parquet(folder / kind, glob=False) for kind in ("documents", "rejects"))
    module = corpora.find(about["corpus"])
    funnel = _funnel(counts, getattr(module, "REASONS", {}), rules)
    reasons = {rule.name: rule.reason for rule in text_rules(getattr(module, "RULES", ()), rules)}
    return {
        **about,
        "settings": {name: value for name, value in asdict(rules).items() if value != getattr(Rules(), name)},
        "figures": counts,
        "funnel": funnel,
        "changed": [{"rule": name, "texts": n, "why": reasons[name]} for name, n in counts["changed"].items() if n],
        "lengths": {"kept": _lengths(documents), "rejected": _lengths(rejects)},
        "measures": quantiles(pl.concat([documents.select(*COLUMNS), rejects.select(*COLUMNS)]), rules),
        "languages": languages(sample["text"]),
        "kept": kept(sample, rules),
        "rejected": rejected(rejects, [row["reason"] for row in funnel if row["texts"]], rules),
    }


def _funnel(counts: dict, own: dict[str, str], rules: Rules) -> list[dict]:
    """One row per reason to reject, in the order in which texts are rejected."""
    bounds = {rule.name: limits(rule.limits, rules) for rule in DROP_RULES}
    reasons = {"malformed": OTHER_REASONS["malformed"]} | own | {rule.name: rule.reason for rule in DROP_RULES}
    reasons |= {name: why for name, why in OTHER_REASONS.items() if name not in reasons}
    total = max(1, counts["documents"] + counts["rejects"])
    return [
        {"reason": name, "texts": texts, "share": texts / total, "limit": bounds.get(name, ""), "why": why}
        for name, why in reasons.items()
        if (texts := counts["rejected"].get(name)) is not None
    ]


def _lengths(texts: pl.LazyFrame) -> dict[int, int]:
    """How many texts by floor(BINS_PER_TEN * log10(characters))."""
    place = ((pl.col("n_chars").clip(1).log10() + 1e-9) * BINS_PER_TEN).floor().cast(pl.Int64).alias("place")
    return dict(texts.select(place).drop_nulls().group_by("place").len().sort("place").collect().iter_rows())


def quantiles(texts: pl.LazyFrame, rules: Rules) -> list[dict]:
    """One row per measure: its quantiles over all texts that have it, and the limits that the rules set."""
    rows = []
    for name, what in MEANINGS.items():
        column = texts.select(name).collect().to_series()  # one column in memory at a time
        found = {label: _short(column.quantile(share, "nearest") or 0) for label, share in QUANTILES.items()}
        settings = [f"{side}_{name.removeprefix('n_')}" for side in ("min", "max")]
        rows.append({"measure": name, **found, "limit": limits(settings, rules), "what": what})
    return rows


def limits(names: Iterable[str], rules: Rules) -> str:
    """`min_words=50`: those of these settings that are set."""
    return ", ".join(f"{name}={value}" for name in names if (value := getattr(rules, name, None)))


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def changes(old: str, new: str, chars: int) -> Parts:
    """The difference of two texts, word by word, in about `chars` characters of their beginnings."""
    before, after = (re.findall(r"\s+|\w+|[^\w\s]", text[: 4 * chars]) for text in (old, new))
    parts: Parts = []
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


def rejected(rejects: pl.LazyFrame, reasons: list[str], rules: Rules) -> list[dict]:
    """A few texts of each reason."""
    columns, rows = (PLACE, pl.col("text").str.slice(0, SAMPLE_CHARS)), []
    for reason in reasons:
        few = rejects.filter(reason=reason).select(columns).head(SHOWN_REJECTED).collect()
        for place, text in few.select("place", veil(pl.col("text"), rules)).iter_rows():
            shown = visible(text[:SHOWN_CHARS]) + "…" * (len(text) > SHOWN_CHARS)
            rows.append({"reason": reason, "place": place, "text": shown})
    return rows


def visible(text: str, line_end: str = "\n") -> str:
    """Invisible characters as signs: often they are all that changed. No control sequence reaches a terminal."""
    return "".join(
        line_end if char == "\n" else char if char.isprintable() or char in "\t\u200d" else f"⟨U+{ord(char):04X}⟩"
        for char in text
    )
