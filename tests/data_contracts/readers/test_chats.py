"""Exports of chats become conversations, whichever app wrote them, and no other text is taken for one."""

import json
import re

import pytest

from data_contracts import DataError
from data_contracts.corpora import require_options
from tests.data_contracts.readers.test_kinds import rows

TURNS = "Ann: hello\nBob: hi: how are you?\nfine?"


@pytest.fixture
def written(folder):
    """written(name, content, **options) -> `rows` of a file of that content."""
    return lambda name, content, **options: rows(folder({name: content}) / name, **options)


IPHONE = """\
[31/12/2023, 21:05:33] Us: \u200eMessages and calls are end-to-end encrypted.
[31/12/2023, 21:05:33] Ann: hello
[31/12/2023, 21:06:01] Bob: hi: how are you?
fine?
[31/12/2023, 21:06:09] Bob: \u200eimage omitted
[01/01/2024, 11:00:00] Ann: a new day
[01/01/2024, 11:00:30] Bob: yes \u200e<This message was edited>
"""
ANDROID = """\
12/31/23, 9:05 PM - Messages and calls are end-to-end encrypted.
12/31/23, 9:05 PM - Ann: hello
12/31/23, 9:06 PM - Bob: hi: how are you?
fine?
12/31/23, 9:06 PM - Bob: <Media omitted>
12/31/23, 9:07 PM - Ann added Cy
1/1/24, 11:00 AM - Ann: a new day
1/1/24, 11:00 AM - Bob: yes <This message was edited>
1/1/24, 11:01 AM - Bob: This message was deleted
"""
GERMAN = """\
31.12.23, 21:05 - Ann: hello
31.12.23, 21:06 - Bob: hi: how are you?
fine?
31.12.23, 21:06 - Bob: IMG-1.jpg (Datei angehängt)
01.01.24, 11:00 - Ann: a new day
01.01.24, 11:00 - Bob: yes
"""
FINNISH = GERMAN.replace(", 21:", " klo 21.").replace(", 11:", " klo 11.")
ARABIC = GERMAN.replace(", 21:", "، 9:").replace(", 11:", "، 11:").replace(" - ", " م - ")
KOREAN = """\
2023. 12. 31. 오후 9:05 - Ann: hello
2023. 12. 31. 오후 9:06 - Bob: hi: how are you?
fine?
2023. 12. 31. 오후 9:07 - Bob: <사진 및 동영상 제외됨>
2024. 1. 1. 오전 11:00 - Ann: a new day
2024. 1. 1. 오전 11:00 - Bob: yes
"""
KOREAN_IPHONE = re.sub(r"(?m)^(\d.*?:\d\d) - ", r"[\1:07] ", KOREAN)
CHINESE = KOREAN.replace(". ", "/").replace("/오후 ", " 下午").replace("/오전 ", " 上午")
SIGNAL = """\
[2023-12-31 21:05] Ann: hello
[2023-12-31 21:06] Bob: hi: how are you?
fine?
[2024-01-01 11:00] Ann: a new day
[2024-01-01 11:00] Bob: yes
"""
TELEGRAM = {
    "name": "Us",
    "type": "personal_chat",
    "id": 1,
    "messages": [
        {"id": 1, "type": "service", "date": "2023-12-31T21:00:00", "actor": "Ann", "action": "create", "text": ""},
        {"id": 2, "type": "message", "date": "2023-12-31T21:05:33", "from": "Ann", "from_id": "user1", "text": "hello"},
        {
            "id": 3,
            "type": "message",
            "date": "2023-12-31T21:06:00",
            "from": "Bob",
            "from_id": "user1",
            "text": ["hi: how ", {"type": "bold", "text": "are"}, " you?\nfine?"],
        },
        {
            "id": 4,
            "type": "message",
            "date": "2023-12-31T21:06:09",
            "from": "Bob",
            "from_id": "user1",
            "photo": "a.jpg",
            "text": "",
        },
        {
            "id": 5,
            "type": "message",
            "date": "2024-01-01T11:00:00",
            "from": "Ann",
            "from_id": "user1",
            "text": "a new day",
        },
        {"id": 6, "type": "message", "date": "2024-01-01T11:00:30", "from": "Bob", "from_id": "user1", "text": "yes"},
    ],
}
WHOLE_TELEGRAM = {
    "about": "what this is",
    "personal_information": {"first_name": "Ann"},
    "contacts": {"about": "x", "list": [{"first_name": "Bob"}]},
    "chats": {"about": "y", "list": [TELEGRAM]},
}


def discord(number: int, time: str, name: str, text: str) -> dict:
    author = {"id": str(number % 2), "name": name.lower(), "nickname": name}
    return {
        "id": str(number),
        "isPinned": False,
        "timestamp": time,
        "content": text,
        "author": author,
        "attachments": [],
    }


DISCORD = {
    "guild": {"name": "g"},
    "channel": {"name": "c"},
    "messages": [
        discord(1, "2023-12-31T21:05:33.123+00:00", "Ann", "hello"),
        discord(2, "2023-12-31T21:06:00+00:00", "Bob", "hi: how are you?\nfine?"),
        discord(3, "2023-12-31T21:06:09+00:00", "Bob", ""),
        discord(4, "2024-01-01T11:00:00+00:00", "Ann", "a new day"),
        discord(5, "2024-01-01T11:00:30+00:00", "Bob", "yes"),
    ],
    "messageCount": 5,
}


def slack(time: float, name: str, text: str) -> dict:
    return {
        "type": "message",
        "user": f"U{name}",
        "ts": f"{time}.0001",
        "text": text,
        "user_profile": {"real_name": name},
    }


SLACK = [
    {"type": "message", "subtype": "bot_message", "ts": "1704056700.0001", "text": "joined", "bot_id": "B1"},
    slack(1704056733, "Ann", "hello"),
    slack(1704056760, "Bob", "hi: how are you?\nfine?"),
    slack(1704106800, "Ann", "a new day"),
    slack(1704106830, "Bob", "yes"),
]


@pytest.mark.parametrize(
    ("app", "name", "content"),
    [
        ("WhatsApp", "_chat.txt", IPHONE), ("WhatsApp", "WhatsApp Chat with Bob.txt", ANDROID),
        ("WhatsApp", "c.txt", GERMAN), ("WhatsApp", "c.txt", FINNISH), ("WhatsApp", "c.txt", ARABIC),
        ("WhatsApp", "c.txt", KOREAN), ("WhatsApp", "c.txt", KOREAN_IPHONE), ("WhatsApp", "c.txt", CHINESE),
        ("WhatsApp", "c.txt", IPHONE.replace("\n", "\r\n")), ("Signal", "c.md", SIGNAL),
        ("Telegram", "result.json", TELEGRAM), ("Telegram", "result.json", WHOLE_TELEGRAM), ("Discord", "c.json", DISCORD),
        ("Slack", "2023-12-31.json", SLACK),
    ],
)  # fmt: skip
def test_a_chat_is_its_conversations(written, app, name, content):
    texts, (line,) = written(name, content if isinstance(content, str) else json.dumps(content, ensure_ascii=False))
    assert texts == [TURNS, "Ann: a new day\nBob: yes"]
    assert line == f"2 texts of {app} files in utf-8: 4 messages of 2 people"


def test_names_are_masked_when_asked_for(written):
    texts, (line,) = written("c.txt", GERMAN, names="mask")
    assert texts[0] == "Person 1: hello\nPerson 2: hi: how are you?\nfine?"
    assert line == "2 texts of WhatsApp files in utf-8: 4 messages of 2 people"
    with pytest.raises(DataError, match=r"options\.names 'masked' is not mask"):
        require_options("mine", {"names": "masked"})


@pytest.mark.parametrize(
    "content",
    [
        "31.12.23, 21:05 - Ann: hello\nA diary, not a chat.\n" + "And more of it.\n" * 20,
        "ANN: hello\nBOB: hi\n",
        "[12:05] Ann: hello\n[12:06] Bob: hi\n",
        "2023-12-31 21:05:33 server: started\n2023-12-31 21:05:34 server: up\n",
        "[2023-12-31 21:05:33] prod.ERROR: failed\n[2023-12-31 21:05:34] prod.INFO: fine\n",
        "2023-12-31 21:05:33,123 - root - ERROR: failed\n2023-12-31 21:05:34,123 - root - INFO: fine\n",
        "",
    ],
)
def test_other_texts_are_no_chats(written, content):
    texts, _ = written("a.txt", content or " ")
    assert texts == [content or " "]


@pytest.mark.parametrize(
    "record",
    [
        {"id": 1, "type": "mail", "date": "2023-12-31", "from": "a@b.example", "text": "a mail"},
        {"id": 1, "type": "news", "timestamp": "2023-12-31", "author": "Ann", "content": "an article"},
        {"chats": {"list": [{"id": 1}]}, "text": "no messages"},
        {"ts": "2023-12-31", "user": "ann", "text": "a post"},
    ],
)
def test_other_tables_are_no_chats(written, record):
    texts, (line,) = written("a.json", json.dumps([record]))
    assert texts == [record.get("text") or record["content"]]
    assert line == "1 texts of json files in utf-8"


def test_a_damaged_message_is_told(written):
    with pytest.raises(DataError, match=r"a message of this chat cannot be read .*'date': 'yesterday'"):
        written("c.json", json.dumps(TELEGRAM).replace("2024-01-01T11:00:30", "yesterday"))


def test_the_lists_of_slack_hold_no_message(folder):
    people, channels = (
        '[{"id": "U1", "profile": {"real_name": "Ann"}}]',
        '[{"id": "C1", "name": "us", "members": ["U1"]}]',
    )
    here = folder({"users.json": people, "channels.json": channels, "us/2023-12-31.json": json.dumps(SLACK)})
    assert rows(here / "us" / "2023-12-31.json")[0] == [TURNS, "Ann: a new day\nBob: yes"]
    for name in ("users.json", "channels.json"):
        assert rows(here / name)[0] == [""]
    with pytest.raises(DataError, match="which column holds the text"):
        rows(folder({"users.json": people}, "other") / "users.json")


def test_of_a_chat_of_pictures_nothing_is_trained_on(written):
    for name, content in (("c.txt", ANDROID), ("c.json", json.dumps({"messages": TELEGRAM["messages"][3:4] * 2}))):
        media = "\n".join(line for line in content.splitlines() if "Media" in line) + "\n"
        texts, _ = written(name, media * 3 if name == "c.txt" else content)
        assert texts == [""]
