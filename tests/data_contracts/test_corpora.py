"""The corpora: real files where there are any, small ones with the same quirks everywhere."""

import json
import re

import polars as pl
import pytest

from data_contracts import DataError
from data_contracts.cleaning import Rules, clean
from data_contracts.corpora import python_docs, rick_and_morty, shakespeare
from data_contracts.documents import check
from data_contracts.sources import Source, fetch

RICK = "index,season no.,episode no.,episode name,name,line\r\n"


def script(*rows: str) -> bytes:
    return ("\ufeff" + RICK + "".join(row + "\r\n" for row in rows)).encode()


def test_an_episode_is_a_document_of_spoken_lines(folder):
    raw = folder(
        {
            "s.csv": script(
                "0,1,1,The  Pilot,Rick,It’s  “on”…", '1,1,1,The  Pilot,Morty,"Oh\u00a0, no"', "9,1,2,Two,Beth,Hi"
            )
        }
    )
    texts = rick_and_morty.read(raw).pipe(check, rick_and_morty.Raw).pipe(rick_and_morty.documents).collect()
    assert texts["text"].to_list() == ['Rick: It\'s "on"...\nMorty: Oh , no', "Beth: Hi"]
    assert texts["n_rows"].to_list() == [2, 1]
    assert texts["source_row"].to_list() == [0, 2]
    assert json.loads(texts["metadata"][0]) == {"season": 1, "episode": 1, "title": "The Pilot"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            script().replace(b"name,line", b"name,words") + b"0,1,1,P,R,x\r\n",
            "no column 'line'; found 'index', 'season no.'",
        ),
        (script("0,1,1,Pilot,Rick,"), "s.csv row 0  line = None"),
        (script("0,1,1,Pilot,Rick,x", "1,one,1,Pilot,Rick,x"), "s.csv row 1  season no. = 'one'"),
        (script("0,1,1,Pilot,Rick,x", "1,1,1,Pi")[:-2], "s.csv row 1 has 4 fields where the header has 6"),
    ],
    ids=["another header", "no line", "a season in words", "cut"],
)
def test_a_script_that_breaks_its_contract(folder, tmp_path, content, said):
    with pytest.raises(DataError, match=said):
        clean("rick-and-morty", folder({"s.csv": content}), tmp_path / "out", Rules())


def test_more_columns_in_another_order_do_no_harm(folder):
    raw = folder({"s.csv": "line,name,extra,episode name,season no.,episode no.\nHi,Rick,x,Pilot,1,1\n"})
    texts = rick_and_morty.read(raw).pipe(check, rick_and_morty.Raw).pipe(rick_and_morty.documents).collect()
    assert texts["text"].to_list() == ["Rick: Hi"]


def test_speeches(folder):
    raw = folder({"input.txt": "First:\nOne.\nTwo.\n\nSecond:\nThree.\n\n\nNo speaker here: at all\n"})
    texts = shakespeare.read(raw).pipe(check, shakespeare.Raw).pipe(shakespeare.documents).collect()
    assert texts["text"].to_list() == ["First:\nOne.\nTwo.", "Second:\nThree.", "No speaker here: at all"]
    assert [json.loads(about)["speaker"] for about in texts["metadata"]] == ["First", "Second", None]


def test_the_real_rick_and_morty(shared_data, tmp_path):
    source = Source("local", path=str(shared_data / "kaggle" / "andradaolteanu" / "rickmorty-scripts"))
    (tmp_path / "raw").mkdir()
    fetch(source, "rick-and-morty", tmp_path / "raw")
    figures = clean("rick-and-morty", tmp_path / "raw", tmp_path, Rules(split_chars=2000))
    assert (figures["rows"], figures["texts"], figures["rejects"]) == (1905, 11, 0)
    documents = pl.read_parquet(tmp_path / "documents.parquet")
    whole = documents.group_by("source_row", maintain_order=True).agg(pl.col("text").str.join())
    assert whole["text"].str.split("\n").list.len().sum() == 1905
    assert whole.height == 11
    assert documents["text"].str.contains("[\u00a0\u2018\u2019\u201c\u201d\u2026\ufeff\r]|  ").sum() == 0


def test_the_real_shakespeare(shared_data, tmp_path):
    figures = clean("shakespeare", shared_data / "tinyshakespeare", tmp_path, Rules(deduplicate=False))
    assert figures["rows"] == figures["documents"] == 7222
    texts = pl.read_parquet(tmp_path / "documents.parquet")["text"].to_list()
    play = (shared_data / "tinyshakespeare" / "input.txt").read_text()
    assert "\n\n".join(texts) + "\n" == re.sub(r"\n{3,}", "\n\n", play)
    assert clean("shakespeare", shared_data / "tinyshakespeare", tmp_path, Rules())["rejected"]["duplicate"] == 74


@pytest.mark.slow
def test_the_documentation_of_this_python(tmp_path):
    built = [tmp_path / name for name in ("once", "twice")]
    for folder in built:
        folder.mkdir()
        fetch(Source("builtin"), "python-docs", folder)
    assert (built[0] / "python_docs.jsonl").read_bytes() == (built[1] / "python_docs.jsonl").read_bytes()
    figures = clean("python-docs", built[0], tmp_path, Rules())
    assert figures["documents"] > 5000
    assert 1_500_000 < figures["bytes"] < 6_000_000
    documents = pl.read_parquet(tmp_path / "documents.parquet")
    [text] = documents.filter(pl.col("metadata") == '{"name":"json.dumps","kind":"function"}')["text"]
    assert text.startswith("json.dumps\n\nSerialize ``obj`` to a JSON formatted ``str``.")
    assert documents["metadata"].str.contains('"kind":"topic"').sum() > 70
    assert documents["metadata"].str.contains(r'"name":"(test|idlelib|lib2to3)\.').sum() == 0


def test_docstrings_without_importing(tmp_path):
    (tmp_path / "pkg" / "tests").mkdir(parents=True)
    (tmp_path / "pkg" / "__init__.py").write_text(
        '"""A package."""\nraise SystemExit\nclass A:\n  "Class."\n  def m(self):\n    "Method."\n'
    )
    (tmp_path / "pkg" / "tests" / "test_a.py").write_text('"""Not this."""')
    (tmp_path / "broken.py").write_text("def (")
    found = list(python_docs._docstrings(tmp_path))
    assert found == [("pkg", "module", "A package."), ("pkg.A", "class", "Class."), ("pkg.A.m", "function", "Method.")]
