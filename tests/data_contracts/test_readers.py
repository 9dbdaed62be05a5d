"""Users' own folders: what is read, and what each kind of bad file is told."""

import polars as pl
import pytest

from data_contracts import DataError
from data_contracts.corpora import own

CSV = 'id,Body \n1,"two\nlines"\n2,\n3,"a, b"\n'


def rows(folder, **options) -> list[tuple]:
    frame = own.read(folder, **options).select("source_file", "source_row", "text").collect()
    return frame.rows()


def test_a_mixed_and_nested_folder(folder):
    here = folder(
        {
            "b/one.txt": "\ufeffa book\r\n",
            "a.csv": "\ufeff" + CSV.replace("\n1", "\r\n1"),
            "C.JSONL": '\n{"Text": "x"}\n{"n": 1}\n',
        }
    )
    pl.DataFrame({"comment": ["p", None], "body": ["no", "q"]}).write_parquet(here / "d.parquet")
    assert rows(here) == [
        ("C.JSONL", 0, "x"),
        ("C.JSONL", 1, None),
        ("a.csv", 0, "two\nlines"),
        ("a.csv", 1, None),
        ("a.csv", 2, "a, b"),
        ("b/one.txt", 0, "a book\r\n"),
        ("d.parquet", 0, "no"),
        ("d.parquet", 1, "q"),
    ]


def test_text_column_chooses_another(folder):
    assert rows(folder({"a.csv": "text,said\nno,yes\n"}), text_column="SAID") == [("a.csv", 0, "yes")]


def test_columns_named_like_ours_do_no_harm(folder):
    assert rows(folder({"a.csv": "source_row,source_file,text\n7,x,hi\n"})) == [("a.csv", 0, "hi")]


def test_one_very_long_field(folder):
    assert rows(folder({"a.csv": "text\n" + "x" * 200_000 + "\n"}))[0][2] == "x" * 200_000


CUT_PARQUET = b"PAR1" + b"x" * 100


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "caf\xe9\n".encode("latin1"), r"a.txt is not UTF-8: byte 0xe9 at offset 3 \(line 1\)"),
        ("a.txt", b"PK\x03\x04rest", "a.txt is a zip archive or an Excel file"),
        ("a.txt", "hello".encode("utf-16"), "a.txt is UTF-16 text"),
        ("a.txt", b"", "a.txt is empty"),
        ("a.csv", "text\nok\ncaf\xe9\n".encode("latin1"), r"a.csv is not UTF-8: byte 0xe9 at offset 11 \(line 3\)"),
        ("a.csv", "text,b\n1,2\n3\n", "a.csv row 1 has 1 fields where the header has 2: is the file cut"),
        ("a.csv", "text,b\n1,2,3\n", "a.csv row 0 has 3 fields where the header has 2"),
        ("a.csv", 'text,b\n1,2\n3,"cut', r"a.csv line 3 is not CSV \(unexpected end of data\): is the file cut"),
        ("a.csv", 'text,b\n"1"x,2\n', "a.csv line 2 is not CSV .* or a quote not doubled"),
        ("a.csv", "text,text\n1,2\n", "a.csv has the column 'text' more than once"),
        ("a.csv", "id,words\n1,2\n", "which column holds the text.* there are 'id', 'words'"),
        ("a.csv", b"PAR1xxxx", "a.csv is a parquet file, not UTF-8 csv"),
        ("a.csv", b"\n <!DOCTYPE html><html>", "a.csv is an HTML page"),
        ("a.csv", b"", "a.csv is empty"),
        ("a.csv", "text\n", "hold no row"),
        ("a.jsonl", '{"text": "a"}\n{"text": "cu', "a.jsonl line 2 is not JSON .* is the file cut"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', "a.jsonl line 2 is a JSON list, not an object"),
        (
            "a.jsonl",
            '{"text": "a"}\n{"text": "caf\xe9"}\n'.encode("latin1"),
            "a.jsonl is not UTF-8: byte 0xe9 .*line 2",
        ),
        ("a.jsonl", "text,b\n1,2\n", "a.jsonl line 1 is not JSON"),
        ("a.jsonl", '{"n": 1}\n', "which column holds the text.* there are 'n'"),
        ("a.parquet", "text\nhello\n", "a.parquet is not a parquet file"),
        ("a.parquet", CUT_PARQUET, "a.parquet is a parquet file cut short at 104 bytes"),
        ("a.parquet", CUT_PARQUET + b"PAR1", "a.parquet cannot be read as parquet"),
        ("a.docx", b"x", r"no \*.txt or \*.jsonl or \*.csv or \*.parquet file among the 1 files: a.docx"),
    ],
)
def test_a_bad_file_is_named_with_the_place(folder, tmp_path, name, content, said):
    from data_contracts.cleaning import Rules, clean

    with pytest.raises(DataError, match=said) as error:
        clean("mine", folder({name: content}), tmp_path / "out", Rules())
    assert len(str(error.value).splitlines()) <= 2
    assert not (tmp_path / "out").exists()


def test_text_that_is_a_number_in_parquet(folder):
    here = folder({})
    here.mkdir()
    pl.DataFrame({"text": [1, 2]}).write_parquet(here / "a.parquet")
    with pytest.raises(DataError, match="column 'text' holds Int64, not text"):
        own.read(here)


def test_the_wanted_column_is_missing(folder):
    with pytest.raises(DataError, match=r"a.csv has no column 'story'; it has 'text', 'b'"):
        own.read(folder({"a.csv": "text,b\n1,2\n"}), text_column="story")
