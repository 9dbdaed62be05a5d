"""The facts of a data card: what a cleaned corpus is, what became of its texts, what it looks like.

Plain values, as card.json holds them; flows/pages draws them. Texts are read in a sample of a few thousand, numbers from
columns, so the facts of a large corpus cost little more than those of a small one. Equal documents give equal facts.
"""

from dataclasses import asdict
from pathlib import Path

import polars as pl

from data_contracts import corpora
from data_contracts.clean.change import text_rules
from data_contracts.clean.judge import DROP_RULES, OTHER_REASONS
from data_contracts.facts import samples, thresholds
from data_contracts.rules import Rules

BINS_PER_TEN = 8  # bins of length for a factor of ten


def describe(folder: Path, sample: pl.DataFrame, counts: dict, rules: Rules, about: dict) -> dict:
    """All facts of a cleaned corpus.

    folder: holds the documents and rejects. sample: before, text, source_file, source_row, reason; where reason is null, a
    text drawn at random before and after the text rules, else a rejected one. counts: what report.json says. about: corpus,
    and where known title, licence and source (the identity of the raw data); no path of this machine, nothing secret.
    """
    documents, rejects = (pl.scan_parquet(folder / kind / "*.parquet") for kind in ("documents", "rejects"))
    module = corpora.find(about["corpus"])
    drawn = sample.filter(pl.col("reason").is_null())
    measured = thresholds.measured(documents, rejects)
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
        "measures": thresholds.quantiles(measured, rules),
        "published": thresholds.published(measured, rules),
        "characters": samples.characters(drawn["text"]),
        "languages": samples.languages(drawn["text"]),
        "words": samples.words(drawn["text"]),
        "kept": samples.kept(drawn, rules),
        "rejected": samples.rejected(sample, rejects, rules),
    }


def _funnel(counts: dict, own: dict[str, str], rules: Rules) -> list[dict]:
    """One row per reason to reject, in the order in which texts are rejected."""
    limits = {rule.name: thresholds.limits(rule.limits, rules) for rule in DROP_RULES}
    reasons = {"malformed": OTHER_REASONS["malformed"]} | own | {rule.name: rule.reason for rule in DROP_RULES}
    reasons |= {name: OTHER_REASONS[name] for name in samples.LATE_REASONS}
    total = max(1, counts["documents"] + counts["rejects"])
    return [
        {"reason": name, "texts": texts, "share": texts / total, "limit": limits.get(name, ""), "why": why}
        for name, why in reasons.items()
        if (texts := counts["rejected"].get(name)) is not None
    ]


def _lengths(texts: pl.LazyFrame) -> dict[int, int]:
    """How many texts by floor(BINS_PER_TEN * log10(characters))."""
    place = ((pl.col("n_chars").clip(1).log10() + 1e-9) * BINS_PER_TEN).floor().cast(pl.Int64).alias("place")
    return dict(texts.select(place).drop_nulls().group_by("place").len().sort("place").collect().iter_rows())
