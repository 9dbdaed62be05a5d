"""What people have: encodings, layouts of tables, documents and chats, and what is said of them."""

import io
from pathlib import Path

import polars as pl
import pytest

from data_contracts.readers.kinds import describe, probe, read
from data_contracts.readers.rows import UNDERSTOOD


def rows(path: Path, **options: str) -> tuple[list[str], list[str]]:
    """The texts of a file, and what it is taken for."""
    probe(path, path.name, **options)
    found = read(path, path.name, **options).lazy().collect()
    return found["text"].to_list(), describe(dict(found[UNDERSTOOD].value_counts().iter_rows()))


@pytest.fixture
def written(folder):
    """written(name, content, **options) -> `rows` of a file of that content."""
    return lambda name, content, **options: rows(folder({name: content}) / name, **options)


RUSSIAN = "Всем привет, это мой дневник. Сегодня шёл дождь, и мы сидели дома.\n"
FRENCH = "Un café au lait s'il vous plaît, déjà vu à l'hôtel où nous étions.\n"
GERMAN = "Grüße aus München, schöne Straßen und große Häuser: „Ärger“ über Öl.\n"
JAPANESE = "これは日本語の日記です。今日は雨が降りました。川は古い橋のところで曲がります。\n"
CHINESE = "今天下雨了，我们坐在家里。河流在老桥处转弯，磨坊主数着他的麻袋。\n"


@pytest.mark.parametrize(
    ("content", "encoding", "taken"),
    [
        (RUSSIAN, "cp1251", "cp1251"), (RUSSIAN, "koi8_r", "koi8_r"), (FRENCH, "cp1252", "cp1252"),
        (GERMAN, "latin_1", "cp1252"), (JAPANESE, "shift_jis", "cp932"), (CHINESE, "gb18030", "gb18030"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("times", [1, 3000])
def test_an_encoding_is_guessed_and_said(written, content, encoding, taken, times):
    content = content.replace("„", '"').replace("“", '"') if encoding == "latin_1" else content
    texts, (line, guess) = written("a.txt", (content * times).encode(encoding))
    assert texts == [content * times]
    assert line == f"1 texts of txt files in {taken}"
    assert guess.startswith(f"a.txt is taken for {taken} (confidence 0.")
    assert guess.endswith(f": {content.strip()[:60]}")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", RUSSIAN),
        ("a.csv", f"id,text\n1,{RUSSIAN}"),
        ("a.jsonl", '{"text": "д\\nб"}\n'),
        ("a.json", '[{"text": "д"}]'),
    ],
)
def test_unicode_with_a_mark_or_without(written, name, content, encoding):
    plain, _ = written(f"plain-{name}", content)
    texts, said = written(name, content.encode(encoding))
    assert texts == plain
    assert len(said) == 1


def test_files_of_one_folder_in_several_encodings(folder):
    here = folder({f"{name}.txt": RUSSIAN.encode(name) for name in ("utf-8", "cp1251", "utf-16")})
    assert {rows(path)[0][0] for path in here.iterdir()} == {RUSSIAN}


@pytest.mark.parametrize(
    ("content", "options", "texts"),
    [
        ("id;text\n1;a, b\n2;c\n", {}, ["a, b", "c"]),
        ("sep=;\nid;text\n1;a\n", {}, ["a"]),
        ("id\ttext\n1\ta, b\n", {}, ["a, b"]),
        ("id|text\n1|a, b\n", {}, ["a, b"]),
        ('id,text;more\n1,"a;b"\n', {"text_column": "text;more"}, ["a;b"]),
        ('id,text\n1,"he said \\"hi\\", and left"\n2,b\n', {}, ['he said "hi", and left', "b"]),
        ("'id','text'\n'1','a, \"b\"'\n", {}, ['a, "b"']),
        ("id,text\r1,a\r2,b\r", {}, ["a", "b"]),
        ("1,first line\n2,second\n", {"header": "false", "text_column": "column 1"}, ["first line", "second"]),
        ("id#text\n1#a\n", {"delimiter": "#"}, ["a"]),
        ("text,b,text\na,2,c\n", {}, ["a"]),
    ],
)
def test_layouts_of_csv(written, content, options, texts):
    assert written("a.csv", content, **options)[0] == texts


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.jsonl", '{\n  "id": 1,\n  "text": "a"\n}\n{\n  "text": "b"\n}\n', ["a", "b"]),
        ("a.jsonl", '[{"text": "a"},\n {"text": "b"}]', ["a", "b"]),
        ("a.jsonl", '{"text": "a"},\n{"text": "b"},\n', ["a", "b"]),
        ("a.jsonl", '{"text": "a"}\r{"text": "b"}\r', ["a", "b"]),
        ("a.jsonl", '{"id": 1}\n{"id": 2, "text": "late"}\n', [None, "late"]),
        ("a.jsonl", '{"text": 1.50}\n{"text": null}\n{"text": "b", "n": NaN}\n', ["1.50", None, "b"]),
        ("a.jsonl", '{"text": "a\\ud83d b"}\n{"text": "\\ud83d\\ude00"}\n', ["a\ufffd b", "😀"]),
        ("a.json", '{"version": 1, "data": [{"text": "a"}, {"text": "b"}]}', ["a", "b"]),
        ("a.json", '[{"text": "a", "n": NaN}]', ["a"]),
        ("a.jsonl", '{"messages": [{"role": "me", "content": "hi"}, {"role": "bot", "content": "ho"}]}', ["me: hi\nbot: ho"]),
        ("a.json", '[{"conversations": [{"from": "human", "value": "hi"}]}]', ["human: hi"]),
        ("a.jsonl", '{"text": ["one", "two"]}', ["one\ntwo"]),
        ("tweets.js", 'window.YTD.tweets.part0 = [ {"tweet": {"full_text": "one", "id": "1"}} ]', ["one"]),
        ("a.jsonl", '{"text": "' + "long " * 500_000 + '"}\n{"text": "b"}', ["long " * 500_000, "b"]),
    ],
)  # fmt: skip
def test_layouts_of_json(written, name, content, texts):
    assert written(name, content)[0] == texts


@pytest.mark.parametrize(
    ("values", "kind", "texts"),
    [
        (["a", "b"], pl.Categorical, ["a", "b"]),
        (["a", "b"], pl.Enum(["a", "b"]), ["a", "b"]),
        (["é".encode()], pl.Binary, ["é"]),
        ([["one", "two"], None], pl.List(pl.String), ["one\ntwo", None]),
        (
            [[{"role": "user", "content": "hi"}, {"role": "bot", "content": "ho"}]],
            pl.List(pl.Struct({"content": pl.String, "role": pl.String})),
            ["user: hi\nbot: ho"],
        ),
    ],
)
def test_kinds_of_parquet(folder, values, kind, texts):
    file = io.BytesIO()
    pl.DataFrame({"text": pl.Series(values, dtype=kind)}).write_parquet(file)
    assert rows(folder({"[1]*.parquet": file.getvalue()}) / "[1]*.parquet")[0] == texts


KOREAN = "오늘은 비가 왔다. 우리는 집에 앉아 있었다. 강은 오래된 다리에서 굽어진다.\n"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("content", [CHINESE, JAPANESE, KOREAN, "一" + CHINESE.strip(), CHINESE * 3000])
def test_utf_16_of_nearly_only_chinese_japanese_or_korean(written, content, encoding):
    texts, said = written("a.txt", content.encode(encoding))
    assert texts == [content]
    assert said == [f"1 texts of txt files in {encoding}"]


@pytest.mark.parametrize("encoding", ["gb18030", "shift_jis", "utf-8", "euc_jp"])
def test_other_encodings_are_not_taken_for_it(written, encoding):
    content = CHINESE if encoding == "gb18030" else JAPANESE
    assert written("a.txt", (content * 20).encode(encoding))[0] == [content * 20]


def test_comments_and_posts_of_reddit(written):
    comments = '{"body": "one", "id": "x"}\n{"body": "[deleted]"}\n{"body": "[removed]"}\n'
    assert written("RC.jsonl", comments)[0] == ["one", None, None]
    posts = (
        '{"title": "A", "selftext": "one"}\n{"title": "B", "selftext": "[removed]"}\n{"title": "C", "selftext": ""}\n'
    )
    texts = written("RS.jsonl", posts)[0]
    assert [text.strip() for text in texts] == ["A\n\none", "B", "C"]
