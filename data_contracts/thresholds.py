"""Each measure beside its threshold: what there is, what is set, and what the published thresholds would turn away.

The measures stand beside every text, kept or rejected, so all of this is read from columns of numbers; no text is looked at.
"""

from collections.abc import Iterable

import polars as pl

from data_contracts.clean.change import DROP_RULES, PUBLISHED, Rules
from data_contracts.clean.measures import COLUMNS, MEANINGS

SHARES = {"p1": 0.01, "p10": 0.1, "p50": 0.5, "p90": 0.9, "p99": 0.99}


def judged(documents: pl.LazyFrame, rejects: pl.LazyFrame) -> pl.LazyFrame:
    """The measures of every text that has them, and why it was rejected ("": kept)."""
    kept = documents.select(*COLUMNS, reason=pl.lit(""))
    return pl.concat([kept, rejects.select(*COLUMNS, "reason")]).filter(pl.col("n_chars").is_not_null())


def quantiles(texts: pl.LazyFrame, rules: Rules) -> list[dict]:
    """A row a measure: its quantiles over all judged texts, and the limits that the rules set."""
    rows = []
    for name, what in MEANINGS.items():
        column = texts.select(name).collect().to_series()  # one at a time, so that one is in memory
        found = {label: _short(column.quantile(share, "nearest") or 0) for label, share in SHARES.items()}
        known = [f"{side}_{name.removeprefix('n_')}" for side in ("min", "max")]
        rows.append({"measure": name, **found, "limit": limits(known, rules), "what": what})
    return rows


def published(texts: pl.LazyFrame, rules: Rules) -> list[dict]:
    """A row a published threshold: how many texts it would turn away, set alone beside the rules as they are.

    texts: as many as report.json would count: not those that an earlier rule turns away, but those that a later one does.
    kept_today: how many of them are documents now.
    """
    known = [rule for rule in DROP_RULES if rule.source]
    names = [rule.name for rule in DROP_RULES]
    wanted = [pl.len().alias("all")]
    for rule in known:
        holds = rule.holds(PUBLISHED)
        reached = ~pl.col("reason").is_in(names[: names.index(rule.name)])
        wanted += [
            (holds & reached).sum().alias(rule.name),
            (holds & (pl.col("reason") == "")).sum().alias(f"{rule.name} kept"),
        ]
    found = texts.select(wanted).collect().row(0, named=True)
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
