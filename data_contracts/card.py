"""The data card of a cleaned corpus: what it is, what became of its texts, how it looks, what to beware of.

    card.json             the facts, as plain values; `gpt clean --explain` prints them
    card.md, card.html    the same to read: the HTML stands alone, the Markdown shows the figures beside it
    <figure>.svg .png

Texts are looked at in a sample of a few thousand, numbers are read from columns, so the card of a large corpus costs little
more than that of a small one. Equal documents give equal bytes.
"""

from dataclasses import asdict
from pathlib import Path

import polars as pl

from data_contracts import corpora, samples, thresholds
from data_contracts.clean.change import DROP_RULES, OTHER_REASONS, Rules, text_rules
from data_contracts.pages import Figure, Quote, Sections, Table, publish, table

COUNTED = "rows texts documents rejects bytes train_documents train_bytes val_documents val_bytes"
BINS = 8  # of length, for a factor of ten

BEWARE = (
    "Samples are few, short and drawn at random; e-mail addresses and @names are veiled. Where a corpus is what people wrote, "
    "they may be ugly or false: they show the data, and no view of those who clean it."
)
COPIES = "Exact copies, and texts of nearly the same words, never stand on both sides of the split, unless the rules keep them."
ALONE = (
    "What each published threshold would turn away, set alone beside the rules as they are, and how many of these "
    "texts are kept today."
)


def write(folder: Path, sample: pl.DataFrame, figures: dict, rules: Rules, about: dict) -> None:
    """Fill `folder`/card.

    folder: where shards.clean has put documents and rejects. sample: before, text, source_file, source_row, reason; where
    reason is null, a text drawn at random before and after the text rules, else a rejected one. figures: of report.json. about:
    corpus, and where known title, licence and source (the identity of the raw data): plain values, no path, nothing secret.
    """
    from data_contracts import figures as drawing  # processes that clean shards never draw

    documents, rejects = (pl.scan_parquet(folder / kind / "*.parquet") for kind in ("documents", "rejects"))
    module = corpora.find(about["corpus"])
    drawn = sample.filter(pl.col("reason").is_null())
    measured = thresholds.judged(documents, rejects)
    facts = {
        "corpus": about["corpus"],
        "title": about.get("title") or module.TITLE,
        "licence": about.get("licence") or module.LICENCE,
        "source": about.get("source", {}),
        "settings": {name: value for name, value in asdict(rules).items() if value != getattr(Rules(), name)},
        "figures": figures,
        "funnel": _funnel(figures, getattr(module, "REASONS", {}), rules),
        "changed": samples.changed(
            drawn["before"], text_rules(getattr(module, "RULES", ()), rules), figures["changed"], rules
        ),
        "lengths": {"kept": _lengths(documents), "rejected": _lengths(rejects)},
        "measures": thresholds.quantiles(measured, rules),
        "published": thresholds.published(measured, rules),
        "characters": samples.characters(drawn["text"]),
        "languages": samples.languages(drawn["text"]),
        "words": samples.words(drawn["text"]),
        "kept": samples.kept(drawn, rules),
        "rejected": samples.rejected(sample, rejects, rules),
    }
    folder = folder / "card"
    folder.mkdir(exist_ok=True)
    steps = [(row["reason"], row["texts"]) for row in facts["funnel"] if row["texts"]]
    plots = {
        "funnel": drawing.draw(folder / "funnel", drawing.funnel, steps, figures["documents"]),
        "lengths": drawing.draw(folder / "lengths", drawing.lengths, facts["lengths"], BINS, "characters", "texts"),
        "characters": drawing.draw(folder / "characters", drawing.characters, facts["characters"]["frequent"]),
    }
    publish(folder, f"Data card: {facts['corpus']}", _sections(facts, plots), facts)


def _funnel(figures: dict, own: dict[str, str], rules: Rules) -> list[dict]:
    """A row a reason, in the order in which texts are turned away."""
    late = {name: OTHER_REASONS[name] for name in samples.AT_THE_END}
    judging = {rule.name: rule.reason for rule in DROP_RULES}
    limits = {rule.name: thresholds.limits(rule.limits, rules) for rule in DROP_RULES}
    total = max(1, figures["documents"] + figures["rejects"])
    return [
        {"reason": name, "texts": texts, "share": texts / total, "limit": limits.get(name, ""), "why": why}
        for name, why in ({"malformed": OTHER_REASONS["malformed"]} | own | judging | late).items()
        if (texts := figures["rejected"].get(name)) is not None
    ]


def _lengths(texts: pl.LazyFrame) -> dict[int, int]:
    """How many texts by floor(BINS * log10(characters))."""
    place = ((pl.col("n_chars").clip(1).log10() + 1e-9) * BINS).floor().cast(pl.Int64).alias("place")
    return dict(texts.select(place).drop_nulls().group_by("place").len().sort("place").collect().iter_rows())


def _sections(facts: dict, plots: dict[str, str]) -> Sections:
    """The facts, in the order in which a reader asks."""
    figures = facts["figures"]
    settings = ", ".join(f"{name}={value}" for name, value in facts["settings"].items()) or "none"
    lengths = ", ".join(f"{name} {size:,}" for name, size in figures["chars"].items())
    return [
        ("", [facts["title"], Table(("about", ""), [("licence", facts["licence"]), *_source(facts["source"])])]),
        (
            "In numbers",
            [table([figures], *COUNTED.split()), f"Rules that are not the default: {settings}."],
        ),
        (
            "What became of the texts",
            [
                Figure("funnel", "texts turned away, by reason, and kept", plots["funnel"]),
                table(facts["funnel"], "reason", "texts", "share", "limit", "why"),
                COPIES,
            ],
        ),
        ("What was changed in them", [table(facts["changed"], "rule", "texts", "example", "why")]),
        (
            "Lengths",
            [
                Figure("lengths", "texts by length, kept and rejected", plots["lengths"]),
                f"Characters of a document: {lengths}.",
            ],
        ),
        (
            "Measures and thresholds",
            [
                "Quantiles over all texts that were measured, kept or not, and the limits that are set.",
                table(facts["measures"], "measure", *thresholds.SHARES, "limit", "what"),
                ALONE,
                table(facts["published"], "rule", "texts", "share", "kept_today", "published", "set"),
                "; ".join(sorted({row["source"] for row in facts["published"]})),
            ],
        ),
        (
            "Characters",
            [
                Figure("characters", "the most frequent characters", plots["characters"]),
                table(facts["characters"]["groups"], "group", "share", "most_frequent"),
            ],
        ),
        (
            "Languages",
            [
                "By py3langid, of up to 500 sampled texts; a text of a few words is a guess.",
                table(facts["languages"][:8], "language", "texts", "share"),
            ],
        ),
        ("Most frequent words", [", ".join(f"{word} {count:,}" for word, count in facts["words"])]),
        ("Samples of what was kept", [BEWARE, *(Quote(row["place"], row["text"]) for row in facts["kept"])]),
        (
            "Samples of what was rejected",
            [
                Quote(f"{row['reason']}: {row['place']}", [("same", row["text"].strip() or "(blank)")])
                for row in facts["rejected"]
            ]
            or ["Nothing was rejected."],
        ),
    ]


def _source(source: dict) -> list[tuple[str, str]]:
    """The identity of the raw data, a line a part; of many files the first three."""
    rows = []
    for name, value in source.items():
        if isinstance(value, dict):
            value = [f"{file} (sha256 {sha256[:12]})" for file, sha256 in value.items()]
        if isinstance(value, list):
            value = ", ".join(value[:3]) + f" and {len(value) - 3} more" * (len(value) > 3)
        rows += [(name, str(value))] if value else []
    return rows
