"""What people have: encodings, layouts of tables, documents and chats, and what is said of them."""

import io
import json
from pathlib import Path

import polars as pl
import pytest

from data_contracts import DataError
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
    assert line == f"1 txt file, 1 texts, {taken}"
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


PAGE = "<html><head><title>no</title><style>p {}</style></head>"
PAGE += "<body><h1>A &amp; B</h1><p>one <b>bold</b>\n word<script>no</script><br>two"


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.html", PAGE, "A & B\none bold word\ntwo"),
        ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\n<i>one</i>\ntwo\n\n2\n00:00:03,000 --> 00:00:04,000\n3\n", "one\ntwo\n\n"),
        ("a.vtt", "WEBVTT\n\n00:01.000 --> 00:02.000\none\n", "\none\n"),
    ],
)  # fmt: skip
def test_documents(written, name, content, text):
    assert written(name, content)[0] == [text]


TURNS = ["Ann: hello\nand more\nBob: 12:30 fits: yes", "Ann: next day"]
ANDROID = """\
12/30/23, 9:05 PM - Messages and calls are end-to-end encrypted.
12/30/23, 9:05 PM - Ann: hello
and more
12/30/23, 11:59 PM - Bob: <Media omitted>
12/31/23, 12:01 AM - Bob: 12:30 fits: yes
12/31/23, 12:02 AM - Bob: IMG-2023-WA0001.jpg (file attached)
12/31/23, 9:00 PM - Ann: next day
"""
IPHONE = """\
[30.12.23, 21:05:10] Family: \u200eMessages and calls are end-to-end encrypted.
[30.12.23, 21:05:10] Ann: hello
and more
\u200e[30.12.23, 23:59:00] Bob: \u200eimage omitted
[31.12.23, 00:01:00] Bob: 12:30 fits: yes
[31.12.23, 21:00:00] Ann: next day
"""
SIGNAL = "[2023-12-30 21:05] Ann: hello\nand more\n[2023-12-31 00:01] Bob: 12:30 fits: yes\n[2023-12-31 21:00] Ann: next day\n"


def telegram(*messages: tuple[str, str, object]) -> dict:
    made = [{"id": 1, "type": "message", "date": date, "from": name, "text": text} for date, name, text in messages]
    return {
        "name": "x",
        "type": "personal_chat",
        "messages": [{"id": 0, "type": "service", "date": made[0]["date"]}, *made],
    }


PIECES = ["hello", {"type": "bold", "text": "\nand more"}]
TELEGRAM = telegram(
    ("2023-12-30T21:05:00", "Ann", PIECES), ("2023-12-30T21:06:00", "Bob", ""),
    ("2023-12-31T00:01:00", "Bob", "12:30 fits: yes"), ("2023-12-31T21:00:00", "Ann", "next day"),
)  # fmt: skip
DISCORD = {
    "guild": {},
    "messages": [
        {"timestamp": f"2023-12-{time}+00:00", "content": text, "author": {"name": "x", "nickname": name}}
        for time, name, text in (
            ("30T21:05:00.1", "Ann", "hello\nand more"),
            ("31T00:01:00", "Bob", "12:30 fits: yes"),
            ("31T21:00:00", "Ann", "next day"),
        )
    ],
}
SLACK = [
    {"type": "message", "ts": f"{time}.0001", "user": "U1", "user_profile": {"real_name": name}, "text": text}
    for time, name, text in (
        (100, "Ann", "hello\nand more"),
        (200, "Bob", "12:30 fits: yes"),
        (99_999, "Ann", "next day"),
    )
]


@pytest.mark.parametrize(
    ("name", "content", "kind", "messages"),
    [
        ("chat.txt", ANDROID, "WhatsApp", 5),
        ("_chat.txt", IPHONE, "WhatsApp", 4),
        ("chat.md", SIGNAL, "Signal", 3),
        ("result.json", json.dumps(TELEGRAM), "Telegram", 4),
        ("result.json", json.dumps({"chats": {"list": [TELEGRAM, {"name": "empty"}]}}), "Telegram", 4),
        ("channel.json", json.dumps(DISCORD, indent=1), "Discord", 3),
        ("2023-12-30.json", json.dumps(SLACK), "Slack", 3),
    ],
)
def test_chats(written, name, content, kind, messages):
    texts, said = written(name, content)
    assert texts == TURNS
    people = 3 if "Family" in content else 2
    assert said == [f"{kind} export, {people} people, {messages + (people == 3)} messages in 2 conversations, utf-8"]
    if people == 2:
        masked, _ = written(name, content, mask="names")
        assert masked == [text.replace("Ann:", "Person 1:").replace("Bob:", "Person 2:") for text in TURNS]


def test_a_twitter_archive(written):
    tweets = [{"tweet": {"full_text": text, "created_at": "x"}} for text in ("one", "two")]
    assert written("tweets.js", "window.YTD.tweets.part0 = " + json.dumps(tweets))[0] == ["one", "two"]


@pytest.mark.parametrize(
    "content",
    [
        "Some: prose\nand more: of it\n" * 9,
        "10/10/2020 was a day\n" * 9,
        "[2020-01-01 10:00] a log line without a name\n" * 9,
    ],
)
def test_what_is_no_chat(written, content):
    assert written("a.txt", content)[0] == [content]


def test_a_json_file_that_is_damaged_and_looks_like_a_chat(written):
    with pytest.raises(DataError, match=r"a.json line 1 is not JSON"):
        written("a.json", '{"messages": [{"from": "a"')
