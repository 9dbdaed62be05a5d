"""Exports of chats, known by their content: a message is a turn, `NAME: text`, and a silence ends a conversation."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from data_contracts import DataError
from data_contracts.readers.json_files import objects

ENDINGS = (".js", ".json", ".md", ".txt")
SILENCE_SECONDS = 4 * 3600
HEAD_CHARS, HEAD_LINES = 1 << 16, 30  # by which a chat is known
# [31/12/2023, 21:05:33] Ann: hello, or 12/31/23, 9:05 PM - Ann: hello
LINE = re.compile(
    r"[\u200e\u200f\ufeff]*\[?(\d{1,4})[./-](\d{1,2})[./-](\d{1,4})(,?) (\d{1,2})[:.](\d\d)(?:[:.]\d\d)?"
    r"(?:[\s\u202f]?(?P<half>[AaPp])\.?\s?[Mm]\.?)?(?:\]| [-–])? (?:(?P<name>[^:]{1,60}): )?(?P<text>.*)"
)
MEDIA = re.compile(r"\u200e.*|<[^<>]+>|\S+\.\w{3,4} \([^()]+\)|(?:This message was|You) deleted.*|null|\s*", re.DOTALL)
# By kind: the keys of time, name and text.
EXPORTS = {"Telegram": "date from text", "Discord": "timestamp author content", "Slack": "ts user text"}
Messages = list[tuple[float, str, str]]  # seconds, name, text


def find(content: str, ending: str) -> tuple[str, Messages]:
    """What a chat, or a Twitter archive, is called, and its messages; "" for any other text."""
    head = content[:HEAD_CHARS]
    if ending == ".js":
        tweets = [one.get("tweet", one) for one in objects(content.partition("=")[2], "the archive")]
        return "tweets", [(number * 1e9, "", one.get("full_text") or "") for number, one in enumerate(tweets)]
    if ending != ".json":
        found = [LINE.fullmatch(line) for line in head.splitlines()[:HEAD_LINES] if line.strip()]
        named = sum(bool(one and one["name"]) for one in found)
        return _written(content) if named >= max(2, len(found) / 4) and found[0] else ("", [])
    if not re.search(r'"(?:messages|chats|ts)"\s*:', head):
        return "", []
    try:
        records = objects(content, "")
        lists = [chat.get("messages", []) for one in records if "chats" in one for chat in one["chats"]["list"]]
        exports = [_exported(messages) for messages in lists or [records]]
        return max(kind for kind, _ in exports), [message for _, messages in exports for message in messages]
    except (DataError, TypeError, ValueError, KeyError, AttributeError):
        return "", []  # the reader of tables says what is wrong with it


def conversations(messages: Messages, mask: bool) -> Iterator[str]:
    """Each as a text, without the lines that stand for media. mask: names become Person 1, 2, ... as they first speak."""
    people = dict.fromkeys(name for _, name, _ in messages)
    names = {name: f"Person {number}" if mask else name for number, name in enumerate(people, 1)}
    turns, last = list[str](), 0.0
    for seconds, name, text in [*messages, (float("inf"), "", "")]:
        if turns and abs(seconds - last) > SILENCE_SECONDS:
            yield "\n".join(turns)
            turns = []
        last = seconds
        turns += [f"{names[name]}: {text.strip()}" if name else text] if not MEDIA.fullmatch(text) else []


def _written(content: str) -> tuple[str, Messages]:
    found = [LINE.fullmatch(line) or line for line in content.splitlines()]
    days = [one for one in found if isinstance(one, re.Match)]
    american = bool(days[0]["half"]) and all(int(one[1]) <= 12 for one in days)
    month_first = american or any(int(one[2]) > 12 for one in days)
    messages: Messages = []
    for one in found:
        if isinstance(one, str):
            if messages:
                messages[-1] = (*messages[-1][:2], f"{messages[-1][2]}\n{one}")
        elif one["name"]:
            messages.append((_seconds(one, month_first), one["name"], one["text"]))
    return "WhatsApp" if days[0][4] or days[0][0][0] != "[" else "Signal", messages


def _seconds(line: re.Match, month_first: bool) -> float:
    one, two, three, hour, minute = (int(line[number]) for number in (1, 2, 3, 5, 6))
    year, month, day = (one, two, three) if one > 31 else (three, one, two) if month_first else (three, two, one)
    hour = hour % 12 + 12 * (line["half"] in "Pp") if line["half"] else hour
    try:
        return datetime(year % 100 + 2000, month, day, hour, minute, tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def _exported(records: list[dict]) -> tuple[str, Messages]:
    for kind, keys in EXPORTS.items():
        time, user, content = keys.split()
        ours = [one for one in records if one.keys() >= {time, user, content}]
        if ours and 2 * len(ours) >= len(records):
            return kind, sorted(_message(one[time], one.get("user_profile") or one[user], one[content]) for one in ours)
    return "", []


def _message(time: str, user: str | dict, pieces: str | list) -> tuple[float, str, str]:
    seconds = float(time) if time[4] != "-" else datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp()
    name = user if isinstance(user, str) else user.get("real_name") or user.get("nickname") or user["name"]
    return seconds, name, "".join(piece if isinstance(piece, str) else piece["text"] for piece in pieces)
