"""Readers: which rows come out of which bytes, and how each kind of bad file or record is reported."""

import json
import subprocess
import sys

import polars as pl
import pytest

from data_contracts import DataError, readers
from data_contracts.corpora import own
from data_contracts.readers import csv_files, json_files
from data_contracts.readers.rows import UNDERSTOOD
from tests.conftest import ROOT
from tests.data_contracts.rows import read

CSV = 'id,Body \n1,"two\nlines"\n2,\n3,"a, b"\n'


def rows(folder, **options) -> list[tuple]:
    return read(own, folder, **options)[0].select("source_file", "source_row", "text").rows()


def malformed(folder, **options) -> str:
    return "\n".join(read(own, folder, **options)[1])


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
    here = folder({"a.csv": "source_row,malformed,source_file,text\n7,y,x,hi\n"})
    assert rows(here) == [("a.csv", 0, "hi")]
    assert malformed(here) == ""


def test_blank_lines_and_columns_without_a_name(folder):
    here = folder({"a.csv": "\n\n,text,\n\n1,hi,\r\n  \n2,ho,\n\n"})
    assert rows(here) == [("a.csv", 0, "hi"), ("a.csv", 1, "ho")]


def test_one_very_long_field(folder):
    assert rows(folder({"a.csv": "text\n" + "x" * 200_000 + "\n"}))[0][2] == "x" * 200_000


def test_another_encoding_when_it_is_named(folder):
    here = folder({"a.csv": "text\ncaf\xe9\n".encode("cp1252"), "b.txt": "na\xefve".encode("cp1252")})
    assert [text for *_, text in rows(here, encoding="cp1252")] == ["caf\xe9", "na\xefve"]
    with pytest.raises(DataError, match=r"options.encoding 'cp12520' is no encoding of text that Python knows"):
        read(own, here, encoding="cp12520")
    with pytest.raises(DataError, match=r"options.encoding 'rot13' is no encoding of text"):
        read(own, here, encoding="rot13")
    with pytest.raises(DataError, match=r"a.csv is not ascii: byte 0xe9 at offset 8 \(line 2\)\n.*name its encoding"):
        read(own, here, encoding="ascii")


@pytest.mark.parametrize(
    ("content", "message", "left"),
    [
        ("text,b\n1,2\n3\n4,5\n", "line 3: 1 fields where the header has 2: 3", ["1", "4"]),
        ("text,b\n1,2,3\n4,5\n", "line 2: 3 fields where the header has 2: 1,2,3", ["4"]),
        ('text,b\n1,2\n\n3,"cut\nhere', "line 4: unexpected end of data", ["1"]),
        (
            'text,b\n"1"x,2\n3,4\n',
            "line 2: ',' expected after '\"'",
            ["3"],
        ),
        (
            'id,text\n1,"He said "hi" and\n12 apples, many pears\n""so"" he said\nend"\n2,fine\n"3","x"\n',
            "line 2: ',' expected after '\"'",
            ["fine", "x"],
        ),
        (
            'id,text\n1,"5" screen"\n2,plain\n3,"two\nlines"\n',
            "line 2: ',' expected after '\"'",
            ["plain", "two\nlines"],
        ),
        ("text,b\n1\0,2\n3,4\n", "line 2: a NUL byte: 1\\0,2", ["3"]),
        ("text,b\n1," + "2," * 99 + "\n", "where the header has 2: 1," + "2," * 49 + "...", []),
    ],
    ids=[
        "cut short",
        "too long",
        "a quote not closed",
        "a quote not doubled",
        "a field of several lines",
        "a line alone",
        "NUL",
        "shown in short",
    ],
)
def test_a_bad_record_is_reported_and_the_others_are_read(folder, content, message, left):
    here = folder({"a.csv": content})
    assert malformed(here).endswith(message)
    assert [text for *_, text in rows(here)] == left


def test_lines_are_counted_behind_a_field_of_several_lines(folder):
    here = folder({"a.csv": 'sep=,\nid,text\n1,"a\nd\ne"\n2,x,y\n'})
    assert malformed(here).endswith("line 6: 3 fields where the header has 2: 2,x,y")


def test_lines_are_counted_behind_a_broken_field(folder):
    here = folder({"a.csv": 'id,text\n1,"a "b" c\nd\ne"\n2,x,y\n'})
    assert malformed(here).endswith("line 5: 3 fields where the header has 2: 2,x,y")


def test_jsonl_with_a_byte_order_mark(folder):
    assert rows(folder({"a.jsonl": '\ufeff{"text": "a"}\n{"text": "b"}\n'})) == [
        ("a.jsonl", 0, "a"),
        ("a.jsonl", 1, "b"),
    ]


def test_jsonl_numbers_stay_as_they_are_written(folder):
    here = folder({"a.jsonl": '{"text": 1.50}\n{"text": 1e999}\n{"text": true}\n{"text": "b"}\n'})
    assert [text for *_, text in rows(here)] == ["1.50", "1e999", "true", "b"]


def test_records_keep_their_numbers_beside_bad_ones(folder):
    frame = own.read(folder({"a.csv": "text,b\n1,2\n3\n4,5\n"}) / "a.csv", "a.csv").collect()
    assert frame.drop("b", "malformed", UNDERSTOOD).rows() == [("1", "a.csv", 0), (None, "a.csv", 1), ("4", "a.csv", 2)]


def test_batches_are_one_table(folder, monkeypatch):
    here = folder({"a.csv": "text,b\n" + "".join(f"{number},\n" for number in range(10)) + "x\n"})
    whole = own.read(here / "a.csv", "a.csv").collect()
    monkeypatch.setattr(csv_files, "BATCH_ROWS", 3)
    assert own.read(here / "a.csv", "a.csv").collect().equals(whole)
    assert whole.height == 11


CUT_PARQUET = b"PAR1" + b"x" * 100


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "caf\xe9".encode() * 16 + b"\n\xe9\n", r"a.txt is not UTF-8: byte 0xe9 at offset 81 \(line 2\)"),
        ("a.txt", b"PK\x03\x04rest", "a.txt is a zip archive or an Excel file"),
        ("a.txt", b"\x89PNG\r\n", "a.txt is a PNG image, not UTF-8 txt"),
        ("a.txt", b"SQLite format 3\0", "a.txt is an SQLite database"),
        ("a.txt", bytes(257) + b"ustar", "a.txt is a tar archive"),
        ("a.txt", b"\xfd7zXZ\0", "a.txt is an xz file"),
        ("a.md", rb"{\rtf1\ansi", "a.md is an RTF document"),
        ("a.txt", bytes([0, 1, 2, 0, 255]) * 9, "a.txt holds binary data, no text"),
        ("a.txt", bytes(range(1, 256)) * 9, "a.txt is no text in a known encoding: name one with --set"),
        ("a.txt", b"", "a.txt is empty"),
        (
            "a.csv",
            "text\ncaf\xe9\n".encode() * 16 + b"\xe9",
            r"a.csv is not UTF-8: byte 0xe9 at offset 176 \(line 33\)\nsave it as UTF-8",
        ),
        ("a.csv", "id,words\n1,2\n", "which column holds the text.*text_column=NAME; it has 'id', 'words'$"),
        ("a.csv", "0,1\n5,a line\n", "it has '0', '1': these look like data, is the first line a header"),
        ("a.csv", "\n\n", "a.csv has an empty header: its first line must name the columns"),
        ("a.csv", ",,\n1,2,3\n", "a.csv has an empty header"),
        ("a.csv", '"text\nx\n', "a.csv line 1 is no CSV header: unexpected end of data"),
        ("a.csv", "\0" * 2000, "a.csv holds binary data"),
        ("a.csv", b"PK\x03\x04xl/", "a.csv is a zip archive or an Excel file, not UTF-8 csv: convert it"),
        ("a.csv", b"PAR1xxxx", "a.csv is a parquet file, not UTF-8 csv"),
        ("a.csv", b"\n <!DOCTYPE html><html>", "a.csv is an HTML page"),
        ("a.csv", b"", "a.csv is empty"),
        ("a.jsonl", '{"text": "a"}\n{"text": "cu', "a.jsonl line 2 is not JSON .* is the file cut"),
        ("a.jsonl", '{"text": "a"}\n["b"]\n', "a.jsonl line 2 is not an object"),
        ("a.jsonl", '{"text": "a"}\n\x0b\n', "a.jsonl line 2 is not JSON"),
        ("a.jsonl", '{"text": "a"}\n{"text": ["x", {}]}\n', "a.jsonl line 2: 'text' holds a list, not text"),
        ("a.jsonl", '{"text": {"a": "b"}}\n', "a.jsonl line 1: 'text' holds a dict, not text"),
        ("a.jsonl", "[" * 100_000, "a.jsonl line 1 is not JSON .*is the file cut"),
        (
            "a.jsonl",
            '{"text": "caf\xe9"}\n'.encode() * 16 + b'{"text": "caf\xe9"}\n',
            "a.jsonl is not UTF-8: byte 0xe9 .*line 17",
        ),
        ("a.jsonl", "text,b\n1,2\n", "a.jsonl line 1 is not JSON"),
        ("a.jsonl", '{"n": 1}\n', "which column holds the text.* it has 'n'"),
        ("a.parquet", "text\nhello\n", "a.parquet is not a parquet file"),
        ("a.parquet", CUT_PARQUET, "a.parquet cannot be read: .*must end with PAR1.*: is the file cut"),
        ("a.parquet", CUT_PARQUET + b"PAR1", "a.parquet cannot be read: .*: is the file cut"),
        ("a.xlsx", b"x", "no .* file among the 1 files: a.xlsx"),
    ],
)
def test_a_bad_file_is_named_with_the_place(folder, name, content, message):
    with pytest.raises(DataError, match=message) as error:
        read(own, folder({name: content}))
    assert len(str(error.value).splitlines()) <= 2


def test_text_that_is_a_number_in_parquet(folder):
    here = folder({})
    here.mkdir()
    pl.DataFrame({"text": [1, 2]}).write_parquet(here / "a.parquet")
    with pytest.raises(DataError, match="column 'text' holds Int64, not text"):
        read(own, here)


def test_the_wanted_column_is_missing(folder):
    with pytest.raises(DataError, match=r"a.csv has no column 'story'; it has 'text', 'b'"):
        read(own, folder({"a.csv": "text,b\n1,2\n"}), text_column="story")


ARTICLE = '{"id": "7", "text": "a\\u00e9", "title": "T"}'


def array(folder, content: str | bytes) -> pl.DataFrame:
    return readers.json_rows(folder({"a.json": content}) / "a.json", "a.json", ("id", "title", "text"))


@pytest.mark.parametrize(
    "content",
    [
        f"[{ARTICLE}]",
        f"\ufeff\r\n[\r\n{ARTICLE}\r\n]\r\n".replace(",", ",\r\n"),
        '[{"title": "T", "more": {"x": [1]}, "text": "a\xe9", "id": 7}]',
        f'{{"none": [], "all": [{ARTICLE}]}}',
    ],
    ids=["plain", "CRLF and a BOM", "another order, more keys, a number", "inside an object"],
)
@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_a_json_array_is_rows(folder, monkeypatch, content, block):
    monkeypatch.setattr(json_files, "BLOCK_CHARS", block)
    assert array(folder, content).rows() == [("7", "T", "a\xe9", "a.json", 0)]


def test_an_array_inside_an_object_and_a_key_that_is_missing(folder):
    frame = array(folder, '{"version": 2, "all": [{"id": 7, "text": null}, {"title": true}]}')
    assert frame.rows() == [("7", None, None, "a.json", 0), (None, "true", None, "a.json", 1)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"[{ARTICLE},\n{ARTICLE}", "a.json line 2 is not JSON .*: is the file cut"),
        (f"[{ARTICLE},\n{ARTICLE[:20]}", "a.json line 2 is not JSON .*: is the file cut"),
        (f"[{ARTICLE},\n {ARTICLE[:20]}, {ARTICLE}]", "a.json line 2 is not JSON"),
        ("3", r"a.json line 1 is not an object \{...\}"),
        (f"[{ARTICLE}, 3]", r"a.json line 1 is not an object \{...\}"),
        ('[{"id": "1", "text": {}}]', "a.json line 1: 'text' holds a dict, not text"),
        (f"[{ARTICLE}\0, {ARTICLE}]", "a.json line 1 is not JSON"),
        ("\0" * 5000, "a.json line 1 is not JSON"),
        (f"[{ARTICLE}\n, ".encode() + b'{"text": "caf\xe9"}]', r"a.json is not UTF-8: byte 0xe9 at offset 61 \(line 2\)"),
        ("[]", r"a.json holds no object \{...\} of named values: is it another file"),
        ('{"text": ' + "[" * 100_000, "a.json line 1 is not JSON .*recursion"),
    ],
    ids=["array cut", "record cut", "broken", "number", "no object", "nested", "NUL", "all NUL", "latin1", "empty", "deep"],
)  # fmt: skip
@pytest.mark.parametrize("block", [9, 1 << 20])
def test_a_bad_json_array_is_reported_where(folder, monkeypatch, content, message, block):
    monkeypatch.setattr(json_files, "BLOCK_CHARS", block)
    with pytest.raises(DataError, match=message) as error:
        array(folder, content)
    assert len(str(error.value).splitlines()) <= 2


LONG = """
import resource, sys
from pathlib import Path
from data_contracts import DataError, readers
from data_contracts.sources import files
from data_contracts.corpora import own
from data_contracts.readers import csv_files
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = files.require(Path(sys.argv[1]), ("*.*",))
[(name, path)] = found.items()
try:
    rows = readers.json_rows(path, name, ("text",)) if name == "a.json" else own.read(path, name).lazy().collect()
    found = rows["malformed"].drop_nulls() if "malformed" in rows.columns else rows["text"].str.len_chars()
    report = found.to_list()
except DataError as error:
    report = error
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, report)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "begin", "middle", "end", "message"),
    [
        ("a.txt", "", "word ", "", "[50000000]"),
        ("a.csv", "id,text\n1,", "word ", "\n2,b\n", "line 2: field larger than field limit (16777216)"),
        ("a.csv", "id,text\n1,", ",,,,,", "\n2,b\n", "fields where the header has 2: 1,,,"),
        ("a.csv", "", "word ", "", "a.csv line 1 is no CSV header"),
        ("a.jsonl", '{"text": "', "word ", '"}\n', "[50000000]"),
        ("a.json", '[{"text": "', "word ", '"}]\n', "[50000000]"),
        (
            "a.json",
            '[{}, {"text": "',
            "word ",
            "",
            "a.json line 1 is not JSON (Unterminated string starting at",
        ),
    ],
    ids=["text", "a field", "fields", "a header", "jsonl", "json", "json that is cut"],
)
def test_a_line_of_50_MB_neither_hangs_nor_explodes(folder, name, begin, middle, end, message):
    here = folder({name: begin + middle * 10_000_000 + end})
    child = subprocess.run([sys.executable, "-c", LONG, here], cwd=ROOT, capture_output=True, text=True, timeout=120)
    kilobytes, reported = child.stdout.split(" ", 1)
    assert message in reported, child.stderr
    assert int(kilobytes) < 600_000


@pytest.mark.slow
def test_68_MB_of_tweets(shared_data, tmp_path):
    head, _, tweets = (shared_data / "kaggle/gpreda/covid19-tweets/covid19_tweets.csv").read_bytes().partition(b"\n")
    (tmp_path / "big.csv").write_bytes(head + b"\n" + tweets * 20)
    frame = readers.csv_rows(tmp_path / "big.csv", "big.csv", ("text",))
    assert (frame.height, frame["malformed"].null_count()) == (180_620, 180_620)


def test_real_files_are_read_as_polars_reads_them(shared_data):
    paths = sorted((shared_data / "kaggle").rglob("*.csv"))
    assert len(paths) == 5
    for path in paths:
        ours = readers.csv_rows(path, path.name)
        theirs = pl.read_csv(path, infer_schema=False).with_columns(pl.all().replace("", None))
        assert ours.drop("source_file", "source_row", "malformed").equals(theirs)
        assert ours["malformed"].null_count() == ours.height


def test_a_real_array_is_read_as_the_standard_library_reads_it(shared_data):
    [path, *_] = sorted((shared_data / "kaggle/ltcmdrdata/plain-text-wikipedia-202011/enwiki20201020").glob("*.json"))
    frame = readers.json_rows(path, path.name, ("id", "title", "text"))
    assert frame.select("id", "text", "title").to_dicts() == json.loads(path.read_text(encoding="utf-8"))
