"""The corpora of plays and of documentation: real files where there are any, small ones with the same quirks everywhere."""

import json
import re

import pytest

from data_contracts import DataError
from data_contracts.corpora import python_docs, rick_and_morty, shakespeare
from data_contracts.rules import Rules
from tests.data_contracts.rows import documents, read, texts

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
    found = documents(rick_and_morty, raw, Rules())
    assert found["text"].to_list() == ['Rick: It\'s "on"...\nMorty: Oh , no', "Beth: Hi"]
    assert found["n_rows"].to_list() == [2, 1]
    assert found["source_row"].to_list() == [0, 2]
    assert json.loads(found["metadata"][0]) == {"season": 1, "episode": 1, "title": "The Pilot"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            script().replace(b"name,line", b"name,words") + b"0,1,1,P,R,x\r\n",
            "s.csv has no column 'line'; it has 'index', 'season no.'",
        ),
        (script("0,1,1,Pilot,Rick,"), "s.csv row 0  line = None"),
        (script("0,1,1,Pilot,Rick,x", "1,one,1,Pilot,Rick,x"), "s.csv row 1  season no. = 'one'"),
        (
            script("0,1,1,Pilot,Rick,x")[len("\ufeff" + RICK) + 2 :],
            "has no column 'season no.', .*: these look like data, is the first line a header",
        ),
    ],
    ids=["another header", "no line", "a season in words", "no header"],
)
def test_a_script_that_breaks_its_contract(folder, content, said):
    with pytest.raises(DataError, match=said):
        read(rick_and_morty, folder({"s.csv": content}))


def test_a_script_that_is_cut(folder):
    lines, malformed = read(rick_and_morty, folder({"s.csv": script("0,1,1,Pilot,Rick,x", "1,1,1,Pi")[:-2]}))
    assert (lines.height, malformed) == (1, ["line 3: 4 fields where the header has 6: 1,1,1,Pi"])


def test_more_columns_in_another_order_do_no_harm(folder):
    raw = folder({"s.csv": "line,name,extra,episode name,season no.,episode no.\nHi,Rick,x,Pilot,1,1\n"})
    assert texts(rick_and_morty, raw) == ["Rick: Hi"]


def test_speeches(folder):
    raw = folder({"input.txt": "First:\nOne.\nTwo.\n\nSecond:\nThree.\n\n\nNo speaker here: at all\n"})
    found = documents(shakespeare, raw)
    assert found["text"].to_list() == ["First:\nOne.\nTwo.", "Second:\nThree.", "No speaker here: at all"]
    assert [json.loads(about)["speaker"] for about in found["metadata"]] == ["First", "Second", None]


def test_the_real_rick_and_morty(shared_data):
    found = documents(rick_and_morty, shared_data / "kaggle" / "andradaolteanu" / "rickmorty-scripts", Rules())
    assert (found.height, found["n_rows"].sum()) == (11, 1905)
    assert found["text"].str.split("\n").list.len().to_list() == found["n_rows"].to_list()
    assert found["text"].str.contains("[\u00a0\u2018\u2019\u201c\u201d\u2026\ufeff\r]|  ").sum() == 0


def test_the_real_shakespeare(shared_data):
    speeches = texts(shakespeare, shared_data / "tinyshakespeare", Rules())
    assert (len(speeches), len(speeches) - len(set(speeches))) == (7222, 74)
    play = (shared_data / "tinyshakespeare" / "input.txt").read_text()
    assert "\n\n".join(speeches) + "\n" == re.sub(r"\n{3,}", "\n\n", play)


@pytest.mark.slow
def test_the_documentation_of_this_python(tmp_path):
    built = [tmp_path / name for name in ("once", "twice")]
    for folder in built:
        folder.mkdir()
        python_docs.build(folder)
    assert (built[0] / "python_docs.jsonl").read_bytes() == (built[1] / "python_docs.jsonl").read_bytes()
    found = documents(python_docs, built[0], Rules())
    assert found.height > 5000
    assert 1_500_000 < found["text"].str.len_bytes().sum() < 6_000_000
    about = found["metadata"]
    [text] = found.filter(about.str.contains(r'"name":"json.dumps","kind":"function"'))["text"]
    assert text.startswith("json.dumps\n\nSerialize ``obj`` to a JSON formatted ``str``.")
    assert about.str.contains('"kind":"topic"').sum() > 70
    assert about.str.contains(r'"name":"(test|idlelib|lib2to3)\.').sum() == 0
    paragraphs = found["text"].str.split("\n\n").list.unique().explode()  # a document may repeat its own
    assert paragraphs.filter(paragraphs.str.len_chars() >= 100).is_duplicated().sum() == 0
    assert (found["reason"] == "repeated").sum() > 100


def test_a_paragraph_is_kept_where_it_stands_first(tmp_path):
    """Spelled with other spaces it is the same; a short one belongs to what follows; what has nothing of its own goes."""
    long, other = "The first of several sentences that stand twice.", "A sentence of which there is but one."
    rows = [
        ("b", "topic", f"{long}\n\nExample:\n\n    1"),
        ("a.f", "function", f"Own words.\n\n{long.replace(' ', chr(10), 3)}\n\nExample:\n\n{other}\n\n{other}"),
        ("a.g", "function", long),
        ("c", "topic", long),
    ]
    lines = [json.dumps(dict(zip(("name", "kind", "text"), row, strict=True))) + "\n" for row in rows]
    (tmp_path / "python_docs.jsonl").write_text("".join(lines))
    found = documents(python_docs, tmp_path, Rules())
    assert found["text"].to_list()[:2] == [
        rows[0][2],
        f"a.f\n\nOwn words.\n\nExample:\n\n{other}\n\n{other}",
    ]
    assert found["reason"].to_list() == [None, None, "repeated", "repeated"]
    assert [json.loads(about)["left_out"] for about in found["metadata"]] == [0, 1, 1, 1]
    assert found["source_row"].to_list() == [0, 1, 2, 3]


def test_docstrings_without_importing(tmp_path):
    (tmp_path / "pkg" / "tests").mkdir(parents=True)
    (tmp_path / "pkg" / "__init__.py").write_text(
        '"""A package."""\nraise SystemExit\nclass A:\n  "Class."\n  def m(self):\n    "Method."\n'
    )
    (tmp_path / "pkg" / "tests" / "test_a.py").write_text('"""Not this."""')
    (tmp_path / "broken.py").write_text("def (")
    found = list(python_docs._docstrings(tmp_path))
    assert found == [("pkg", "module", "A package."), ("pkg.A", "class", "Class."), ("pkg.A.m", "function", "Method.")]
