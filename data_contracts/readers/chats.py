"""Exports of chats, known by their content: a message is a turn, `NAME: text`, and a silence ends a conversation."""

import re
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from data_contracts import DataError
from data_contracts.readers.json_files import objects

SILENCE_SECONDS = 4 * 3600
FIRST = 30  # lines, or objects, by which a chat is known
# [31/12/2023, 21:05:33] Ann: hello, or 12/31/23, 9:05 PM - Ann: hello. With seconds and no comma, it is the log of a program.
LINE = re.compile(
    r"[\u200e\u200f\ufeff]*\[?(\d{1,4})[./-] ?(\d{1,2})[./-] ?(\d{1,4})\.?(?P<comma>[,،])?(?: klo)? "
    r"(?P<first>[上下]午|午[前後]|오[전후])? ?(\d{1,2})[:.](\d\d)(?(comma)(?:[:.]\d\d)?|(?(first)(?:[:.]\d\d)?))"
    r"(?:[\s\u202f]?(?P<half>[AaPp]\.?\s?[Mm]\.?|[صم]))?"
    r"(?:\]| [-–]) (?:(?P<name>[^:]{1,60}): )?(?P<text>.*)"
)
# What stands for a picture or for a message that is gone, and what follows one that was changed.
NO_TEXT = re.compile(r"(?s)\u200e.*|<[^<>]+>|\S+\.\w{3,4} \([^()]+\)|(?:This message was|You) deleted.*|null|\s*")
CHANGED = re.compile(r"[\s\u200e]*<This message was edited>$")
# The keys of a message: its time, who wrote it and the text; and others, without which it is another kind of table.
EXPORTS = {
    "Telegram": "date from text from_id",
    "Discord": "timestamp author content isPinned",
    "Slack": "ts user text type",
}
# Of people and channels, beside the messages of Slack.
SLACK_LISTS = [f"{x}.json" for x in ("users", "channels", "groups", "dms", "mpims", "canvases", "integration_logs")]

Message = tuple[float, str, str]  # when, in seconds; who wrote it; its text


def written(content: str) -> tuple[str, list[Message]]:
    """Which app exported a text, and the messages in it. Other texts have none."""
    first = [LINE.fullmatch(line) for line in content[: 1 << 16].splitlines()[:FIRST] if line.strip()]
    days = [line for line in first if line]
    if len([day for day in days if day["name"]]) < max(2, len(first) / 4) or not first[0]:
        return "", []
    # Which of the two is the month matters only for the length of a silence.
    month_first = bool(days[0]["half"]) or any(int(day[2]) > 12 for day in days)
    messages = list[Message]()
    for line in content.splitlines():
        found = LINE.fullmatch(line)
        if found and found["name"]:
            messages.append((_seconds(found, month_first), found["name"], found["text"]))
        elif not found and messages:  # without a name it tells of a call or of who came
            messages[-1] = (*messages[-1][:2], f"{messages[-1][2]}\n{line}")
    return "WhatsApp" if days[0]["comma"] or days[0]["first"] or days[0][0][0] != "[" else "Signal", messages


def exported(path: Path, name: str, encoding: str) -> tuple[str, list[Message]]:
    """The same of a JSON file. Raises DataError for one that is damaged."""
    if path.name in SLACK_LISTS and path.with_name("channels.json").exists():
        return "Slack", []
    first = [record for _, record in islice(objects(path, name, encoding), FIRST)]
    chats = [chat for one in first if isinstance(one.get("chats"), dict) for chat in one["chats"]["list"]]
    known = [message for chat in chats for message in chat.get("messages", [])] or first
    for kind, keys in EXPORTS.items():
        time, writer, content = keys.split()[:3]
        if any(record.keys() >= {*keys.split()} for record in known):
            records = known if chats else (record for _, record in objects(path, name, encoding))
            ours = (record for record in records if record.get(writer) and content in record)
            return kind, [_message(record, time, writer, content) for record in ours]
    return "", []


def conversations(messages: list[Message], masked: bool) -> list[str]:
    """Each as a text. masked: names become Person 1, 2, ... as they first speak."""
    people = dict.fromkeys(name for _, name, _ in messages)
    names = {name: f"Person {number}" if masked else name for number, name in enumerate(people, 1)}
    found, last = list[list[str]](), float("-inf")
    for seconds, name, text in messages:
        if abs(seconds - last) > SILENCE_SECONDS:
            found.append([])
        last = seconds
        found[-1].append(f"{names[name]}: {CHANGED.sub('', text).strip()}")
    return ["\n".join(turns) for turns in found]


def _seconds(line: re.Match, month_first: bool) -> float:
    one, two, three, hour, minute = map(int, line.group(1, 2, 3, 6, 7))
    year, month, day = (one, two, three) if one > 31 else (three, one, two) if month_first else (three, two, one)
    if half := line["half"] or line["first"]:
        hour = hour % 12 + 12 * bool(re.search("[Ppم下後후]", half))
    try:
        return datetime(year % 100 + 2000, month, day, hour, minute, tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def _message(record: dict, time: str, writer: str, content: str) -> Message:
    try:
        at, who, pieces = record[time], record.get("user_profile") or record[writer], record[content]
        seconds = float(at) if time == "ts" else datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()
        name = who if isinstance(who, str) else who.get("real_name") or who.get("nickname") or who["name"]
        text = "".join(piece if isinstance(piece, str) else piece["text"] for piece in pieces)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DataError(f"a message of this chat cannot be read ({error!r}): {str(record)[:100]}") from None
    return seconds, name, text
