"""The facts of a data card: they are the data's, and nobody's address is among them."""

import json
import re
from dataclasses import fields
from pathlib import Path

import polars as pl
import pytest

from data_contracts import facts
from data_contracts.clean import clean_corpus, personal
from data_contracts.clean.change import apply_rules, text_rules
from data_contracts.clean.judge import DROP_RULES
from data_contracts.contracts import COLUMNS, MEANINGS
from data_contracts.rules import Rules

MASKING = Rules(entities=True, normalize="NFC", urls="mask", emails="mask", mentions="mask", spaces=True, min_words=2)


def jsonl(*texts: str) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def make(raw: Path, out: Path, rules: Rules, corpus: str = "mine", **about) -> tuple[dict, Path]:
    """The facts as card.json holds them, and the folder of documents and rejects."""
    about, described = {"corpus": corpus, "title": "", "licence": "", "source": {}} | about, {}

    def describe(sample: pl.DataFrame, counts: dict) -> None:
        described.update(facts.describe(out, sample, counts, rules, about))

    clean_corpus(corpus, raw, out, rules, describe=describe)
    return json.loads(json.dumps(described)), out


@pytest.fixture(scope="module")
def reddit(shared_data, tmp_path_factory) -> tuple[dict, Path]:
    """The facts of a real corpus."""
    raw = shared_data / "kaggle" / "gpreda" / "reddit-vaccine-myths"
    return make(raw, tmp_path_factory.mktemp("reddit"), MASKING, "vaccine-myths", source={"version": 201})


def frames(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    return pl.read_parquet(folder / "documents/*.parquet"), pl.read_parquet(folder / "rejects/*.parquet")


class TestRealData:
    def test_the_funnel_is_the_rejects_by_reason_and_explains_each(self, reddit):
        card, folder = reddit
        documents, rejects = frames(folder)
        assert {row["reason"]: row["texts"] for row in card["funnel"] if row["texts"]} == dict(
            rejects.group_by("reason").len().iter_rows()
        )
        assert len({row["reason"] for row in card["funnel"]}) > 5
        assert all(row["why"] for row in card["funnel"])
        for row in card["funnel"]:
            assert row["share"] == pytest.approx(row["texts"] / (documents.height + rejects.height))
        assert next(row["limit"] for row in card["funnel"] if row["reason"] == "few_words") == "min_words=2"

    def test_lengths_count_every_text(self, reddit):
        card, folder = reddit
        for name, frame in zip(("kept", "rejected"), frames(folder), strict=True):
            assert sum(card["lengths"][name].values()) == frame["n_chars"].is_not_null().sum()
        within = sum(
            n
            for place, n in card["lengths"]["kept"].items()
            if facts.BINS_PER_TEN <= int(place) < 2 * facts.BINS_PER_TEN
        )
        assert within == frames(folder)[0]["n_chars"].is_between(10, 99).sum()

    def test_languages(self, reddit):
        card, _ = reddit
        assert card["languages"][0]["language"] == "en"
        assert card["languages"][0]["share"] > 0.8
        assert sum(row["texts"] for row in card["languages"]) <= 500

    def test_every_text_rule_that_changed_something_says_why(self, reddit):
        card, _ = reddit
        assert {row["rule"]: row["texts"] for row in card["changed"]} == {
            rule: n for rule, n in card["figures"]["changed"].items() if n
        }
        assert all(row["why"] for row in card["changed"])

    def test_samples_are_few_short_and_veiled(self, reddit):
        card, _ = reddit
        assert len(card["kept"]) == 5
        found = [row["reason"] for row in card["rejected"]]
        assert set(found) == {row["reason"] for row in card["funnel"] if row["texts"]}
        assert max(map(found.count, found)) <= 3
        assert all(len(row["text"]) <= 301 for row in card["rejected"])
        shown = json.dumps(card, ensure_ascii=False)
        assert personal.veiled([shown], MASKING) == [shown]


def test_what_leads_to_a_person_is_veiled_before_and_after_the_rules():
    old, new = "ask .@somebody or a@b.org, 202-456-1111, 8.8.8.8", "ask .<user> or <email>, 202-456-1111, 8.8.8.8"
    sample = pl.DataFrame({"before": [old], "text": [new], "source_file": ["a"], "source_row": [0]})
    shown = json.dumps(facts.kept(sample, MASKING), ensure_ascii=False)
    assert "@•••" in shown
    assert not re.search("somebody|b.org|456|8.8", shown)


def test_what_was_only_known_at_the_end_is_sampled_too(folder, tmp_path):
    long = "the very same words stand here again and again in nearly the same order as before " * 3
    texts = [
        f"text number {n} has words of its own: {' '.join(chr(97 + n // 10) + chr(97 + n % 10) + w for w in 'abcdef')}"
        for n in range(50)
    ]
    raw = folder({"a.jsonl": jsonl(*texts, texts[0], long + "once", long + "twice")})
    card, _ = make(raw, tmp_path / "out", Rules(near_duplicates="drop"))
    assert {row["reason"] for row in card["rejected"]} == {"duplicate", "near_duplicate"}
    assert card["figures"]["rejected"]["near_duplicate"] == 1


def test_quantiles_stand_beside_the_limits_that_are_set(folder, tmp_path):
    card, _ = make(
        folder({"a.jsonl": jsonl(*["a" * n for n in range(1, 102)])}), tmp_path, Rules(min_chars=9, max_chars=99)
    )
    row = card["measures"][0]
    assert row | {"p1": "2", "p50": "51", "p99": "100", "limit": "min_chars=9, max_chars=99"} == row


def test_every_measure_has_a_meaning_and_every_drop_rule_its_limits():
    assert list(MEANINGS) == list(COLUMNS)
    known = {field.name for field in fields(Rules)}
    for rule in DROP_RULES:
        assert set(rule.limits) <= known
        if rule.name != "empty":
            assert rule.limits


def test_the_text_rules_leave_the_texts_they_are_given():
    before = pl.Series("text", ["a\rb", "c", "d\u2581"])
    after, changed = apply_rules(before, text_rules((), Rules()))
    assert before.to_list() == ["a\rb", "c", "d\u2581"]
    assert after.to_list() == ["a\nb", "c", "d\u2581"]
    assert changed["line_ends"] == 1
