"""What an ablation of rules compares: each rule with and without, on texts that are fair to all, and what comes of it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import polars as pl

from data_contracts import corpora
from data_contracts.clean.change import apply_rules, text_rules
from data_contracts.clean.judge import judge
from data_contracts.clean.near_duplicates import BUCKET_NAMES, signatures
from data_contracts.rules import Rules
from flows import UserError
from flows.evaluation.comparison import interval_row
from flows.recipe import parse_override
from flows.stages.documents import read_documents

RECIPE, SEED = "recipe", "another seed"  # the models beside those of the rules
SMALL = 0.01  # of the recipe's bits per byte: a smaller difference does not matter
# The value with which each rule does nothing. Settings that decide how texts are cut and held out are no rules.
OFF = {
    name: get_args(kind)[0] if get_origin(kind) is Literal else kind()
    for name, kind in get_type_hints(Rules).items()
    if name not in ("split_chars", "max_malformed", "val_fraction", "test_fraction", "seed")
} | {"min_chars": 1}


def other_values(rules: Rules, asked: list[str]) -> dict[str, object]:
    """For each rule the value to compare with the recipe's. asked: `mentions=drop`, or `mentions` for the value with which it
    does nothing; none: all rules that the recipe uses. Raises UserError."""
    found: dict[str, object] = {}
    for text in asked or [name for name, off in OFF.items() if getattr(rules, name) != off]:
        name, given, _ = text.partition("=")
        if name not in OFF:
            raise UserError(f"rule {name!r} is not known; known are {', '.join(OFF)}")
        if not given and getattr(rules, name) == OFF[name]:
            raise UserError(f"the recipe does not use the rule {name}; give a value to compare with, {name}=VALUE")
        found[name] = parse_override(text)[1] if given else OFF[name]
    return found


def untouched(corpus: str, texts: pl.Series, common: Rules, variants: Iterable[Rules]) -> np.ndarray:
    """Which texts no rule of any variant changes, or drops for what they are. texts: after the common ones."""
    own, found = getattr(corpora.find(corpus), "RULES", ()), np.ones(len(texts), bool)
    plain, _ = apply_rules(texts, text_rules(own, common))
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


def compare(nats: dict[str, np.ndarray], used: dict[str, bool], n_bytes: np.ndarray, fair: np.ndarray) -> dict:
    """What each rule makes of bits per byte, as plain values: a row a rule, and the noise, which is what another seed makes.

    nats: of each model on each document. used: of each rule with a model, whether the recipe uses it. fair: the documents that
    a verdict is on. difference: bits per byte without a rule (or with its other value) less those with it, on fair. on_all: the
    same on all documents. verdict: helps or hurts, if the interval leaves out 0 and the difference is beyond the noise; does
    not matter, if the interval ends within the noise, or SMALL; else not known.
    """

    def bits(name: str, nats: np.ndarray, where: np.ndarray) -> dict[str, Any]:
        return interval_row(name, nats[where], n_bytes[where])

    found = bits("bits_per_byte", nats[RECIPE], fair) | bits("noise", nats[SEED] - nats[RECIPE], fair)
    noise, margin, rows = abs(found["noise"]), max(abs(found["noise"]), SMALL * found["bits_per_byte"]), []
    for rule, by_recipe in used.items():
        change = (nats[rule] - nats[RECIPE]) * (1 if by_recipe else -1)
        row = {"rule": rule} | bits("difference", change, fair) | bits("on_all", change, np.ones_like(fair))
        value, low, high = (row[f"difference{end}"] for end in ("", "_low", "_high"))
        if low is None or high is None:
            verdict = "not known"
        elif abs(value) > noise and not low <= 0 <= high:
            verdict = "helps" if value > 0 else "hurts"
        else:
            verdict = "does not matter" if max(-low, high) <= margin else "not known"
        rows.append(row | {"verdict": verdict})
    return found | {"noise": noise, "margin": margin, "rules": rows}
