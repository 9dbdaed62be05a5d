"""The facts of a data card: what a cleaned corpus is, what became of its texts, what it looks like.

Plain values, as card.json holds them. Texts are read in a sample of a few thousand, numbers from columns, so the facts of a
large corpus cost little more than those of a small one. Equal documents give equal facts.
"""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import polars as pl

from data_contracts import corpora
from data_contracts.clean.change import text_rules
from data_contracts.clean.judge import DROP_RULES, GOPHER, OTHER_REASONS, PUBLISHED
from data_contracts.clean.measures import COLUMNS, MEANINGS
from data_contracts.facts import samples
from data_contracts.rules import Rules

BINS_PER_TEN = 8  # bins of length for a factor of ten
QUANTILES = {"p1": 0.01, "p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99}


def describe(folder: Path, sample: pl.DataFrame, counts: dict, rules: Rules, about: dict) -> dict:
    """All facts of a cleaned corpus.

    folder: holds the documents and rejects. sample: before, text, source_file, source_row, reason; where reason is null, a
    text drawn at random before and after the text rules, else a rejected one. counts: what report.json says, and nulls. about:
    corpus, and where known title, licence and source (the identity of the raw data); no path of this machine, nothing secret.
    """
    documents, rejects = (pl.scan_parquet(folder / kind / "*.parquet") for kind in ("documents", "rejects"))
    module = corpora.find(about["corpus"])
    drawn = sample.filter(pl.col("reason").is_null())
    texts = measured(documents, rejects)
    active = text_rules(getattr(module, "RULES", ()), rules)
    return {
        "corpus": about["corpus"],
        "title": about.get("title") or module.TITLE,
        "licence": about.get("licence") or module.LICENCE,
        "source": about.get("source", {}),
        "settings": {name: value for name, value in asdict(rules).items() if value != getattr(Rules(), name)},
        "figures": counts,
        "funnel": _funnel(counts, getattr(module, "REASONS", {}), rules),
        "changed": samples.changed(drawn["before"], active, counts["changed"], rules),
        "lengths": {"kept": _lengths(documents), "rejected": _lengths(rejects)},
        "measures": quantiles(texts, rules),
        "published": published(texts, rules),
        "characters": samples.characters(drawn["text"]),
        "languages": samples.languages(drawn["text"]),
        "words": samples.words(drawn["text"]),
        "kept": samples.kept(drawn, rules),
        "rejected": samples.rejected(sample, rejects, rules),
    }


def _funnel(counts: dict, own: dict[str, str], rules: Rules) -> list[dict]:
    """One row per reason to reject, in the order in which texts are rejected."""
    bounds = {rule.name: limits(rule.limits, rules) for rule in DROP_RULES}
    reasons = {"malformed": OTHER_REASONS["malformed"]} | own | {rule.name: rule.reason for rule in DROP_RULES}
    reasons |= {name: OTHER_REASONS[name] for name in samples.LATE_REASONS}
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


def measured(documents: pl.LazyFrame, rejects: pl.LazyFrame) -> pl.LazyFrame:
    """The measures of every text that has them, and why it was rejected ("": it was kept)."""
    kept = documents.select(*COLUMNS, reason=pl.lit(""))
    return pl.concat([kept, rejects.select(*COLUMNS, "reason")]).filter(pl.col("n_chars").is_not_null())


def quantiles(texts: pl.LazyFrame, rules: Rules) -> list[dict]:
    """One row per measure: its quantiles over all measured texts, and the limits that the rules set."""
    rows = []
    for name, what in MEANINGS.items():
        column = texts.select(name).collect().to_series()  # one column in memory at a time
        found = {label: _short(column.quantile(share, "nearest") or 0) for label, share in QUANTILES.items()}
        settings = [f"{side}_{name.removeprefix('n_')}" for side in ("min", "max")]
        rows.append({"measure": name, **found, "limit": limits(settings, rules), "what": what})
    return rows


def published(texts: pl.LazyFrame, rules: Rules) -> list[dict]:
    """One row per published limit: how many texts it would reject, if it alone were added to the rules that are set.

    texts: as many as report.json would count: without those that an earlier rule rejects, with those that a later one does.
    kept_today: how many of them are documents now.
    """
    known = [rule for rule in DROP_RULES if any(rule.limits.values())]
    names = [rule.name for rule in DROP_RULES]
    counts = [pl.len().alias("all")]
    for rule in known:
        rejects = rule.rejects(PUBLISHED)
        reached = ~pl.col("reason").is_in(names[: names.index(rule.name)])
        counts.append((rejects & reached).sum().alias(rule.name))
        counts.append((rejects & (pl.col("reason") == "")).sum().alias(f"{rule.name} kept"))
    found = texts.select(counts).collect().row(0, named=True)
    return [
        {
            "rule": rule.name,
            "texts": found[rule.name],
            "share": found[rule.name] / max(1, found["all"]),
            "kept_today": found[f"{rule.name} kept"],
            "published": limits(rule.limits, PUBLISHED),
            "set": limits(rule.limits, rules) or "off",
            "source": GOPHER,
        }
        for rule in known
    ]


def limits(names: Iterable[str], rules: Rules) -> str:
    """`min_words=50`: those of these settings that are set."""
    return ", ".join(f"{name}={value}" for name in names if (value := getattr(rules, name, None)))


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
