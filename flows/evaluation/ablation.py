"""What an ablation of rules compares: each rule with and without, on texts that are fair to all, and what comes of it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import polars as pl

from data_contracts import corpora
from data_contracts.clean.change import apply_rules, text_rules
from data_contracts.clean.judge import PUBLISHED, judge
from data_contracts.clean.near_duplicates import BUCKET_NAMES, signatures
from data_contracts.rules import Rules
from flows import UserError
from flows.evaluation.comparison import interval_row
from flows.recipe import parse_override
from flows.stages.documents import read_documents

RECIPE, SEED = "recipe", "another seed"  # the models beside those of the rules
# Settings that decide how texts are cut and held out are no rules.
CHOICES = {
    name: get_args(kind) if get_origin(kind) is Literal else (kind(), *([True] if kind is bool else []))
    for name, kind in get_type_hints(Rules).items()
    if name not in ("split_chars", "max_malformed", "val_fraction", "test_fraction", "seed")
}
OFF = {name: choices[0] for name, choices in CHOICES.items()} | {"min_chars": 1}  # with which a rule does nothing


def other_values(rules: Rules, asked: list[str]) -> dict[str, object]:
    """For each rule the value to compare with the recipe's: the one with which it does nothing, or the usual one where the
    recipe does not use it. asked: `mentions` or `mentions=drop`; none: all rules that the recipe uses. Raises UserError."""
    found: dict[str, object] = {}
    for text in asked or [name for name, off in OFF.items() if getattr(rules, name) != off]:
        name, given, _ = text.partition("=")
        if name not in OFF:
            raise UserError(f"rule {name!r} is not known; known are {', '.join(OFF)}")
        usual = [*CHOICES[name][1:2], getattr(PUBLISHED, name)][0]
        used = getattr(rules, name) != OFF[name]
        found[name] = parse_override(text)[1] if given else OFF[name] if used else usual
        if not given and not used and usual == OFF[name]:
            raise UserError(
                f"the recipe does not use the rule {name}, which has no usual value: give one, {name}=VALUE"
            )
    return found


def untouched(corpus: str, texts: pl.Series, variants: Iterable[Rules]) -> np.ndarray:
    """Which texts no rule of any variant changes, or drops for what they are. texts: as the rules that are always on leave
    them."""
    own, found = getattr(corpora.find(corpus), "RULES", ()), np.ones(len(texts), bool)
    plain, _ = apply_rules(texts, text_rules(own, Rules(**OFF)))
    for rules in variants:
        after, _ = apply_rules(texts, text_rules(own, rules))
        found &= ((after == plain) & judge(after.to_frame("text"), rules)["reason"].is_null()).to_numpy()
    return found


def without_copies(documents: pl.DataFrame, trained: Iterable[Path]) -> pl.DataFrame:
    """The documents that have no copy, or nearly one, among the training texts of clean artifacts; of equal ones the first."""
    documents = documents.unique("text", keep="first", maintain_order=True)
    buckets, copied = signatures(documents["text"]), np.zeros(documents.height, bool)
    for folder in trained:
        for batch in read_documents(folder, "train"):
            others = signatures(batch["text"])
            for name in BUCKET_NAMES:
                copied |= buckets[name].is_in(others[name].implode()).to_numpy()
    return documents.filter(~pl.Series(copied))


def compare(
    rules: Rules, others: dict[str, object], nats: dict[str, np.ndarray], n_bytes: np.ndarray, fair: np.ndarray
) -> dict:
    """A row for each rule that has a model, as plain values, and the noise: what another seed makes of the recipe's model.

    nats: of each model on each document; fair: the documents that a verdict is on. difference: bits per byte without a rule
    less those with it (of two values of a rule: with the other less with the recipe's), on fair; on_all: on all.
    """

    def bits(name: str, nats: np.ndarray, where: np.ndarray) -> dict:
        return interval_row(name, nats[where], n_bytes[where])

    noise = abs(bits("noise", nats[SEED] - nats[RECIPE], fair)["noise"])
    rows = []
    for name, other in others.items():
        if name in nats:
            used = getattr(rules, name) != OFF[name]
            without, with_it = (nats[name], nats[RECIPE]) if used else (nats[RECIPE], nats[name])
            row = {"rule": name, "recipe": getattr(rules, name), "instead": other} | bits(
                "bits_per_byte", nats[name], fair
            )
            row |= bits("difference", without - with_it, fair)
            row |= bits("on_all", without - with_it, np.ones_like(fair))
            rows.append(
                row | {"verdict": _verdict(row["difference"], row["difference_low"], row["difference_high"], noise)}
            )
    return {"noise": noise, "rules": rows} | bits("bits_per_byte", nats[RECIPE], fair)


def _verdict(value: float, low: float | None, high: float | None, noise: float) -> str:
    if low is None or high is None:
        return "too few texts"
    if abs(value) <= noise or low <= 0 <= high:
        return "does not matter"
    return "helps" if value > 0 else "hurts"


def in_words(row: dict) -> dict[str, str]:
    """A row of `compare` for a table."""
    low, high = row["difference_low"], row["difference_high"]
    between = "no interval" if low is None or high is None else f"{low:+.4f} to {high:+.4f}"
    names = {"rule": row["rule"], "recipe": str(row["recipe"]), "instead": str(row["instead"])}
    numbers = {
        "difference": f"{row['difference']:+.4f}",
        "95 % interval": between,
        "on all texts": f"{row['on_all']:+.4f}",
    }
    return names | numbers | {"verdict": row["verdict"]}
