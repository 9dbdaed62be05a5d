"""Cleaning: each rule does what its name says, figures add up, splits last, bytes repeat."""

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_contracts import DataError, cleaning, report
from data_contracts.cleaning import Rules, clean, cleaned, held_out, short_sha256

ROOT = Path(__file__).parents[2]
OUTPUTS = ("documents.parquet", "rejects.parquet", "report.json")


def lines(*texts: str) -> str:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts)


def one(text: str, **rules) -> str:
    return pl.select(cleaned(pl.lit(text), Rules(**rules))).item()


def test_every_problem_of_the_rules_is_said_at_once():
    with pytest.raises(DataError) as error:
        Rules(min_chars=0, max_chars=-1, normalize="NFD", split_chars=5, val_fraction=1.0)
    for part in ("min_chars 0", "max_chars -1", "'NFD'", "split_chars 5", "val_fraction 1.0"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("dirty", "clean_text"),
    [
        ("a\r\nb\rc\n\nd", "a\nb\nc\n\nd"),
        ("\ufeffa\x00b\x07\x0c\x7f\x85c\td", "abc\td"),
        ("a\u2581b", "a_b"),
        ("\n \t\n    def f():\n        return 1  \n\n ", "    def f():\n        return 1"),
        (
            "two  spaces and \u00a0 no-break, \u200bzero width, e\u0301",
            "two  spaces and \u00a0 no-break, \u200bzero width, e\u0301",
        ),
    ],
)
def test_text_rules(dirty, clean_text):
    assert one(dirty) == clean_text


def test_nfc_is_a_choice():
    assert one("e\u0301", normalize="NFC") == "é"


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_cleaning_twice_changes_nothing_more(text):
    assert one(one(text)) == one(text)


def test_the_first_rule_that_holds_is_the_reason(folder, tmp_path):
    kept = [f"A text of fair length, number {number}" for number in range(60)]
    raw = folder({"a.jsonl": lines(" \n\t", "short", "x" * 101, kept[0], kept[0] + " \r\n", *kept[1:])})
    figures = clean("mine", raw, tmp_path / "out", Rules(min_chars=10, max_chars=100))
    rejects = pl.read_parquet(tmp_path / "out" / "rejects.parquet")
    assert rejects.select("source_row", "reason").rows() == [
        (0, "empty"),
        (1, "too_short"),
        (2, "too_long"),
        (4, "duplicate"),
    ]
    assert figures["rejected"] == {"empty": 1, "too_short": 1, "too_long": 1, "duplicate": 1}
    documents = pl.read_parquet(tmp_path / "out" / "documents.parquet")
    assert documents["text"].to_list() == kept
    assert documents["source_row"].to_list() == [3, *range(5, 64)]


def test_copies_can_be_kept_with_ids_of_their_own_on_one_side(folder, tmp_path):
    raw = folder({"a.jsonl": lines(*[f"text {number % 50}" for number in range(150)])})
    figures = clean("mine", raw, tmp_path, Rules(deduplicate=False, val_fraction=0.3))
    documents = pl.read_parquet(tmp_path / "documents.parquet")
    assert figures["documents"] == documents["doc_id"].n_unique() == 150
    assert documents.group_by("text").agg(pl.col("split").n_unique())["split"].to_list() == [1] * 50


def test_a_split_survives_the_growth_of_its_corpus(folder, tmp_path):
    texts = [f"text {number}" for number in range(400)]
    small = folder({"b.jsonl": lines(*texts[:200])}, "small")
    large = folder({"a.jsonl": lines(*reversed(texts[200:])), "b.jsonl": lines(*texts[:200])}, "large")
    frames = []
    for raw in (small, large):
        clean("mine", raw, tmp_path / raw.name, Rules())
        frames.append(pl.read_parquet(tmp_path / raw.name / "documents.parquet", columns=["doc_id", "split"]))
    joined = frames[0].join(frames[1], on="doc_id", how="left", validate="1:1")
    assert joined["split"].equals(joined["split_right"], check_names=False)


def test_val_fraction_is_the_share_and_the_seed_the_choice():
    ids = pl.DataFrame({"text": [f"text {number}" for number in range(20_000)]}).select(id=short_sha256(pl.col("text")))
    val = ids.select(
        half=held_out(pl.col("id"), Rules(val_fraction=0.5)),
        few=held_out(pl.col("id"), Rules(val_fraction=0.05)),
        other=held_out(pl.col("id"), Rules(val_fraction=0.05, seed=1)),
    )
    assert abs(val["half"].mean() - 0.5) < 0.02
    assert abs(val["few"].mean() - 0.05) < 0.01
    assert (val["few"] & ~val["half"]).sum() == 0  # a larger share holds the smaller one
    assert (val["few"] & val["other"]).mean() < 0.01


def test_ids_never_change():
    assert pl.select(short_sha256(pl.lit("hello"))).item() == "2cf24dba5fb0a30e26e83b2ac5b9e29e"


@pytest.mark.parametrize(
    ("texts", "rules", "said"),
    [
        (
            ["one book. " * 300],
            Rules(),
            "1 documents are too few for val_fraction 0.1: none fell to val\n.*split_chars 100 ",
        ),
        (["a", "b"], Rules(min_chars=5), r"no document is left of 2 rows \(too_short 2\)"),
    ],
)
def test_too_few_documents(folder, tmp_path, texts, rules, said):
    with pytest.raises(DataError, match=said):
        clean("mine", folder({"a.jsonl": lines(*texts)}), tmp_path / "out", rules)


def test_one_book_can_be_split_when_it_is_cut(folder, tmp_path):
    book = "".join(f"Line {number} of a long book.\n" for number in range(2000))
    figures = clean("mine", folder({"book.txt": book}), tmp_path, Rules(split_chars=500))
    assert (figures["rows"], figures["texts"]) == (1, 1)
    assert figures["documents"] == figures["pieces"] > 100
    assert figures["bytes"] == len(book) - 1  # the last line end is an edge
    assert pl.read_parquet(tmp_path / "documents.parquet")["text"].str.join().item() + "\n" == book


def test_an_option_that_a_corpus_does_not_take(folder, tmp_path):
    with pytest.raises(DataError, match="corpus 'shakespeare' takes no option text_column; it takes none"):
        clean("shakespeare", folder({"a.txt": "A:\nb"}), tmp_path, Rules(), text_column="x")


def test_the_report_is_what_clean_returns_and_adds_up(folder, tmp_path):
    raw = folder({"a.jsonl": lines(*[f"Grüße {number % 90}\nline two" for number in range(100)])})
    figures = clean("mine", raw, tmp_path, Rules())
    documents, rejects = (pl.read_parquet(tmp_path / name) for name in OUTPUTS[:2])
    assert json.loads((tmp_path / "report.json").read_text()) == figures
    assert figures["rows"] == 100 == documents.height + rejects.height
    assert figures["bytes"] == sum(len(text.encode()) for text in documents["text"])
    assert figures["train_bytes"] + figures["val_bytes"] == figures["bytes"]
    assert figures["chars"]["total"] == sum(map(len, documents["text"]))


def test_a_broken_law_stops_the_pipeline(folder, tmp_path, monkeypatch):
    raw = folder({"a.jsonl": lines(*[f"text {number}" for number in range(100)])})
    monkeypatch.setattr(cleaning.parts, "cut", lambda pieces, limit: pieces.head(99))
    with pytest.raises(AssertionError, match="bytes of texts = bytes of pieces"):
        clean("mine", raw, tmp_path / "out", Rules())
    monkeypatch.undo()
    monkeypatch.setattr(
        cleaning.corpora.find("mine"), "documents", lambda raw: raw.head(99).with_columns(metadata=pl.lit("{}"))
    )
    with pytest.raises(AssertionError, match="rows = sum of the rows of texts"):
        clean("mine", raw, tmp_path / "out", Rules())
    with pytest.raises(AssertionError, match="'a': 1 is not 2"):
        report._hold("a", 1, 2)
    assert not (tmp_path / "out").exists()


def test_the_same_bytes_whatever_the_number_of_threads(folder, tmp_path):
    texts = [f"text {number % 9000}\n" + "line of it\n" * (number % 50) for number in range(10_000)]
    raw = folder({"a.jsonl": lines(*texts[:5000]), "b.csv": "text\n" + "".join(f'"{text}"\n' for text in texts[5000:])})
    code = "import sys; from pathlib import Path; from data_contracts.cleaning import Rules, clean; "
    code += "clean('mine', Path(sys.argv[1]), Path(sys.argv[2]), Rules(split_chars=200))"
    for threads in ("1", "2"):
        environment = os.environ | {"POLARS_MAX_THREADS": threads}
        subprocess.run(
            [sys.executable, "-c", code, str(raw), str(tmp_path / threads)], env=environment, cwd=ROOT, check=True
        )
    for name in OUTPUTS:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes(), name
