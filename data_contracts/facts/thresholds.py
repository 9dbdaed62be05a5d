"""Each measure beside its limits: its quantiles, the limits that are set, and what published limits would reject.

The measures are columns of numbers beside every text, kept or rejected; no text is read here.
"""

from collections.abc import Iterable

import polars as pl

from data_contracts.clean.judge import DROP_RULES, PUBLISHED
from data_contracts.clean.measures import COLUMNS, MEANINGS
from data_contracts.rules import Rules

QUANTILES = {"p1": 0.01, "p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99}


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
    known = [rule for rule in DROP_RULES if rule.source]
    names = [rule.name for rule in DROP_RULES]
    counts = [pl.len().alias("all")]
    for rule in known:
        rejects = rule.rejects(PUBLISHED)
        reached = ~pl.col("reason").is_in(names[: names.index(rule.name)])
        counts += [
            (rejects & reached).sum().alias(rule.name),
            (rejects & (pl.col("reason") == "")).sum().alias(f"{rule.name} kept"),
        ]
    found = texts.select(counts).collect().row(0, named=True)
    return [
        {
            "rule": rule.name,
            "texts": found[rule.name],
            "share": found[rule.name] / max(1, found["all"]),
            "kept_today": found[f"{rule.name} kept"],
            "published": limits(rule.limits, PUBLISHED),
            "set": limits(rule.limits, rules) or "off",
            "source": rule.source,
        }
        for rule in known
    ]


def limits(names: Iterable[str], rules: Rules) -> str:
    """`min_words=50`: those of these settings that are set."""
    return ", ".join(f"{name}={value}" for name in names if (value := getattr(rules, name, None)))


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
