"""What is done to texts alone, whatever shard they are in: changed by rules, measured and judged, named, drawn for a split."""

import hashlib
from types import ModuleType

import polars as pl

from data_contracts.clean.change import Rules, reason, text_rules
from data_contracts.clean.language import language
from data_contracts.clean.measures import measure


def apply(texts: pl.Series, module: ModuleType, rules: Rules) -> tuple[pl.Series, dict[str, int]]:
    """The texts after every text rule, and how many of them each rule changed."""
    active = text_rules(getattr(module, "RULES", ()), rules)
    odd = texts.str.contains("|".join(rule.only for rule in active if rule.rare)).arg_true()
    changed = {}
    for rule in active:
        places = odd if rule.rare else None
        some = texts if places is None else texts.gather(places)
        if rule.only:
            held = some.str.contains(rule.only).arg_true()
            places, some = held if places is None else places.gather(held), some.gather(held)
        new = some.to_frame("text").select(rule.change(pl.col("text"), rules)).to_series() if len(some) else some
        changed[rule.name] = int((new != some).sum())
        if changed[rule.name]:
            # `scatter` writes into its Series: the caller's stays as it was.
            texts = new if places is None else texts.clone().scatter(places, new)
    return texts, changed


def judge(pieces: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """Each piece with its measures, and the reason to reject it (null: kept)."""
    measured = pl.concat([pieces, measure(pieces["text"])], how="horizontal")
    if rules.languages:
        measured = measured.with_columns(language=language(measured["text"]))
    return measured.with_columns(reason=reason(rules)).drop("language", strict=False)


def identify(kept: pl.DataFrame, rules: Rules) -> pl.DataFrame:
    """With text_id (of the text alone), doc_id (unique) and split (by text_id: copies stay together)."""
    kept = kept.with_columns(text_id=short_sha256(kept["text"]))
    where = pl.format("{}:{}:{}:{}", "text_id", "source_file", "source_row", "metadata")
    return kept.with_columns(
        doc_id="text_id" if rules.deduplicate else short_sha256(kept.select(where).to_series()),
        split=pl.when(held_out(kept["text_id"], rules)).then(pl.lit("val")).otherwise(pl.lit("train")),
    )


def short_sha256(texts: pl.Series) -> pl.Series:
    """The first 32 hex digits of each text's sha256: polars has no hash that stays the same from one version to the next."""
    return pl.Series([hashlib.sha256(text).hexdigest()[:32] for text in texts.cast(pl.Binary)], dtype=pl.String)


def held_out(text_ids: pl.Series, rules: Rules) -> pl.Series:
    """Whether a text belongs to val: a draw from [0, 1) made of the seed and the text's own hash, nothing else."""
    draws = short_sha256(pl.Series([f"{rules.seed}:{text_id}" for text_id in text_ids], dtype=pl.String))
    return draws.str.slice(0, 8).str.to_integer(base=16) / 2**32 < rules.val_fraction


def key(text_id: pl.Expr) -> pl.Expr:
    """60 bits of an id, to find copies by: among ten million texts two others share them with a chance of 1 in 20,000."""
    return text_id.str.slice(0, 15).str.to_integer(base=16, dtype=pl.Int64)
