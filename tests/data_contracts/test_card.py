"""The data card: its numbers are the data's, its bytes repeat, and no text of a corpus gets out of its place."""

import json
import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest

from data_contracts import card, corpora, pages, samples, thresholds
from data_contracts.clean import change, measures, shard
from data_contracts.clean.change import DROP_RULES, PUBLISHED, Rules
from data_contracts.clean.judge import apply
from tests.conftest import ROOT

MASKING = Rules(entities=True, normalize="NFC", urls="mask", emails="mask", mentions="mask", spaces=True, min_words=2)
FIGURES = ("funnel", "lengths", "characters")


def jsonl(*texts: str) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def make(raw: Path, out: Path, rules: Rules, corpus: str = "mine", **about) -> tuple[dict, Path]:
    """What the card says, and its folder."""
    about = {"corpus": corpus} | about
    shard.clean(corpus, raw, out, rules, describe=lambda *found: card.write(out, *found, rules, about))
    return json.loads((out / "card" / "card.json").read_text()), out / "card"


@pytest.fixture(scope="module")
def reddit(shared_data, tmp_path_factory) -> tuple[dict, Path]:
    """The card of a real corpus."""
    raw = shared_data / "kaggle" / "gpreda" / "reddit-vaccine-myths"
    return make(raw, tmp_path_factory.mktemp("reddit"), MASKING, "vaccine-myths", source={"version": 201})


def frames(folder: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    return pl.read_parquet(folder.parent / "documents/*.parquet"), pl.read_parquet(folder.parent / "rejects/*.parquet")


class TestRealData:
    def test_the_funnel_is_the_rejects_by_reason_and_explains_each(self, reddit):
        facts, folder = reddit
        documents, rejects = frames(folder)
        assert {row["reason"]: row["texts"] for row in facts["funnel"] if row["texts"]} == dict(
            rejects.group_by("reason").len().iter_rows()
        )
        assert len({row["reason"] for row in facts["funnel"]}) > 5
        assert all(row["why"] for row in facts["funnel"])
        for row in facts["funnel"]:
            assert row["share"] == pytest.approx(row["texts"] / (documents.height + rejects.height))
        assert next(row["limit"] for row in facts["funnel"] if row["reason"] == "few_words") == "min_words=2"

    def test_lengths_count_every_text(self, reddit):
        facts, folder = reddit
        for name, frame in zip(("kept", "rejected"), frames(folder), strict=True):
            assert sum(facts["lengths"][name].values()) == frame["n_chars"].is_not_null().sum()
        within = sum(n for place, n in facts["lengths"]["kept"].items() if card.BINS <= int(place) < 2 * card.BINS)
        assert within == frames(folder)[0]["n_chars"].is_between(10, 99).sum()

    def test_characters_words_and_languages(self, reddit):
        facts, folder = reddit
        documents, _ = frames(folder)
        # The corpus is small enough for the sample to be all of it, but for copies.
        text = "".join(documents["text"].str.slice(0, samples.LOOKED_AT))
        shares = {char: share for char, _, share in facts["characters"]["frequent"]}
        assert shares["e"] == pytest.approx(text.count("e") / len(text), rel=0.02)
        assert sum(row["share"] for row in facts["characters"]["groups"]) == pytest.approx(1)
        words = dict(facts["words"])
        assert words["vaccine"] == pytest.approx(len(re.findall(r"\bvaccine\b(?!['’])", text.lower())), rel=0.05)
        assert not {"the", "url", "user", "don't"} & words.keys()
        assert facts["languages"][0]["language"] == "en"
        assert facts["languages"][0]["share"] > 0.8
        assert sum(row["texts"] for row in facts["languages"]) <= 500

    def test_every_text_rule_that_changed_something_shows_how(self, reddit):
        facts, _ = reddit
        assert {row["rule"]: row["texts"] for row in facts["changed"]} == {
            rule: n for rule, n in facts["figures"]["changed"].items() if n
        }
        examples = {row["rule"]: row["example"] for row in facts["changed"]}
        assert ["new", "<url>"] in examples["urls"]
        assert any(kind == "gone" and "[" in text for kind, text in examples["links"])
        # A text rule of one text in a thousand may have its only text cut in the sample.
        assert sum(bool(example) for example in examples.values()) >= len(examples) - 1

    def test_samples_are_few_short_and_veiled(self, reddit):
        facts, folder = reddit
        assert len(facts["kept"]) == 5
        found = [row["reason"] for row in facts["rejected"]]
        assert set(found) == {row["reason"] for row in facts["funnel"] if row["texts"]}
        assert max(map(found.count, found)) <= 3
        assert all(len(row["text"]) <= 301 for row in facts["rejected"])
        for name in ("card.json", "card.md", "card.html"):
            assert not re.search(change.EMAIL, (folder / name).read_text())
        assert "@•••" in (folder / "card.md").read_text()

    def test_the_pages_show_the_numbers_and_the_figures(self, reddit):
        facts, folder = reddit
        for name in ("card.md", "card.html"):
            text = (folder / name).read_text()
            for value in ("vaccine-myths", "201", f"{facts['figures']['bytes']:,}", "Gopher", facts["licence"]):
                assert value in text, (name, value)
        assert (folder / "card.html").read_text().count("<svg") == len(FIGURES)
        for name in FIGURES:
            assert f"({name}.png)" in (folder / "card.md").read_text()
            assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")
            assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
        assert "min_words" not in (folder / "funnel.svg").read_text()
        assert "few_words" in (folder / "funnel.svg").read_text()


def test_equal_data_gives_equal_bytes(folder, tmp_path):
    raw = folder(
        {"a.jsonl": jsonl(*[f"Text {n} of ä few, with words & signs\n" for n in range(300)], "", "short", "short")}
    )
    code = (
        "import sys; from pathlib import Path; from data_contracts import card; "
        "from data_contracts.clean import change, shard; "
        "raw, out, rules = Path(sys.argv[1]), Path(sys.argv[2]), change.Rules(min_chars=4); "
        "describe = lambda *found: card.write(out, *found, rules, {'corpus': 'mine'}); "
        "shard.clean('mine', raw, out, rules, describe=describe)"
    )
    for number in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": number, "POLARS_MAX_THREADS": number}
        command = [sys.executable, "-c", code, str(raw), str(tmp_path / number)]
        subprocess.run(command, env=environment, cwd=ROOT, check=True)
    names = sorted(path.name for path in (tmp_path / "1" / "card").iterdir())
    assert len(names) == 3 + 2 * len(FIGURES)
    for name in names:
        assert (tmp_path / "1" / "card" / name).read_bytes() == (tmp_path / "2" / "card" / name).read_bytes(), name


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.text = set(), ""

    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)
        assert not [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data):
        self.text += data


HOSTILE = (
    "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\n# heading | cell | `code`\n"
    "```\n[link](javascript:alert(3)) ![image](http://example.org/track.png) &lt;b&gt; $x^2$ \\alpha </td></table>"
)


def test_a_hostile_text_stays_text(folder, tmp_path):
    texts = [f"{HOSTILE} {n}  \n\n\n\n" for n in range(60)]
    short = ["<s>", "$|", "\x1b[31m"]  # the last is seen before any rule has changed it
    (tmp_path / "raw <b>").mkdir()
    raw = folder({"<i>|a.jsonl": jsonl(*texts, *short, "<b>" * 200)}, "raw <b>")
    rules = Rules(min_chars=10, spaces=True, near_duplicates="keep")
    facts, out = make(raw, tmp_path / "out", rules, source={"files": {"<i>|a": "0" * 64}})
    tags = Tags()
    tags.feed((out / "card.html").read_text())
    assert not tags.seen & {"script", "img", "s", "b", "i", "a"}
    assert "pre" in tags.seen
    assert HOSTILE.split("\n")[0] in tags.text
    for line in (out / "card.md").read_text().splitlines():
        if not line.startswith("    ") and not line.startswith("!["):
            assert not re.search(r"(?<!\\)[<`\[]", line), line
    for name in FIGURES:
        ElementTree.parse(out / f"{name}.svg")
    assert "\x1b" not in "".join(row["text"] for row in facts["rejected"])


def test_nothing_rejected_and_nothing_changed(folder, tmp_path):
    facts, out = make(folder({"a.jsonl": jsonl(*[f"text number {n}" for n in range(50)])}), tmp_path / "out", Rules())
    assert (facts["rejected"], facts["changed"]) == ([], [])
    assert facts["lengths"]["rejected"] == {}
    assert "Nothing was rejected." in (out / "card.md").read_text()


def test_what_was_only_known_at_the_end_is_sampled_too(folder, tmp_path):
    long = "the very same words stand here again and again in nearly the same order as before " * 3
    texts = [f"text number {n} has words of its own: {n * n} and {n**3}" for n in range(50)]
    raw = folder({"a.jsonl": jsonl(*texts, texts[0], long + "once", long + "twice")})
    facts, _ = make(raw, tmp_path / "out", Rules(near_duplicates="drop"))
    assert {row["reason"] for row in facts["rejected"]} == {"duplicate", "near_duplicate"}
    assert facts["figures"]["rejected"]["near_duplicate"] == 1


@pytest.mark.parametrize("base", [Rules(), Rules(min_words=5, max_symbols=0.3, min_chars=9, deduplicate=False)])
@pytest.mark.parametrize("rule", [rule for rule in DROP_RULES if rule.source], ids=lambda rule: rule.name)
def test_what_a_threshold_would_do_is_what_it_does(shared_data, tmp_path, monkeypatch, rule, base):
    raw = shared_data / "kaggle" / "gpreda" / "reddit-vaccine-myths"
    monkeypatch.setattr(card, "write", lambda *_: None)
    before = shard.clean("vaccine-myths", raw, tmp_path / "before", base)
    after = shard.clean(
        "vaccine-myths",
        raw,
        tmp_path / "after",
        replace(base, **{name: getattr(PUBLISHED, name) for name in rule.limits}),
    )
    written = [pl.scan_parquet(tmp_path / "before" / kind / "*.parquet") for kind in ("documents", "rejects")]
    found = {row["rule"]: row for row in thresholds.published(thresholds.judged(*written), base)}[rule.name]
    assert found["texts"] == after["rejected"][rule.name] > 0
    assert found["kept_today"] == before["documents"] - after["documents"]


def test_quantiles_stand_beside_the_limits_that_are_set(folder, tmp_path):
    facts, _ = make(
        folder({"a.jsonl": jsonl(*["a" * n for n in range(1, 102)])}), tmp_path, Rules(min_chars=9, max_chars=99)
    )
    row = facts["measures"][0]
    assert row | {"p1": "2", "p50": "51", "p99": "100", "limit": "min_chars=9, max_chars=99"} == row


def test_every_measure_has_a_meaning_and_every_drop_rule_its_limits():
    assert list(thresholds.MEANINGS) == list(measures.COLUMNS)
    known = {field.name for field in fields(Rules)}
    for rule in DROP_RULES:
        assert set(rule.limits) <= known
        if rule.source:
            assert all(getattr(PUBLISHED, name) != getattr(Rules(), name) for name in rule.limits)
        if rule.name != "empty":
            assert rule.limits


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("a b c", "a b c", "a b c"),
        ("a  b", "a b", "a[-  -]{+ +}b"),
        ("one\ntwo", "one two", "one[-⏎-]{+ +}two"),
        ("a\u200bb", "ab", "[-a⟨U+200B⟩b-]{+ab+}"),
        ("", "x", "{+x+}"),
    ],
)
def test_changes_are_shown_as_git_does(old, new, shown):
    assert pages.plain(samples.changes(old, new, chars=100)) == shown


def test_a_change_far_in_is_shown_with_what_stands_around_it():
    old, new = "word " * 100 + "GONE " + "more " * 100, "word " * 100 + "more " * 100
    shown = pages.plain(samples.changes(old, new, chars=80, around=True))
    assert shown.startswith("…")
    assert "word word[- GONE-] more more" in shown
    assert len(shown) < 100


@pytest.mark.parametrize(
    ("char", "group"),
    [
        ("a", "letters"),
        ("7", "digits"),
        ("\n", "white space"),
        ("\u00a0", "white space"),
        ("#", "punctuation"),
        ("é", "Latin letters beyond ASCII"),
        ("Ж", "Cyrillic letters beyond ASCII"),
        ("漢", "Cjk letters beyond ASCII"),
        ("’", "punctuation beyond ASCII"),
        ("😀", "symbols"),
        ("\u0301", "combining marks"),
        ("\ue000", "other"),
    ],
)
def test_groups_of_characters(char, group):
    assert samples.group(char) == group


def test_the_text_rules_leave_the_texts_they_are_given():
    before = pl.Series("text", ["a\rb", "c", "d\u2581"])
    after, changed = apply(before, corpora.find("mine"), Rules())
    assert before.to_list() == ["a\rb", "c", "d\u2581"]
    assert after.to_list() == ["a\nb", "c", "d_"]
    assert changed["line_ends"] == changed["low_block"] == 1
