"""The data card: it shows the facts, its bytes repeat, and no text of a corpus gets out of its place."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from data_contracts import facts
from data_contracts.clean import clean_corpus, personal
from data_contracts.rules import Rules
from flows.pages.figures import write_data_card
from tests.conftest import ROOT, spelled

MASKING = Rules(entities=True, normalize="NFC", urls="mask", emails="mask", mentions="mask", spaces=True, min_words=2)
FIGURES = ("lengths",)


@pytest.fixture
def raw(tmp_path) -> Callable[..., Path]:
    """write({"a.jsonl": texts}) -> the folder that holds them."""

    def write(files: dict[str, list[str]], name: str = "raw") -> Path:
        (tmp_path / name).mkdir()
        for file, texts in files.items():
            (tmp_path / name / file).write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        return tmp_path / name

    return write


def make(raw: Path, out: Path, rules: Rules, corpus: str = "mine", **about) -> tuple[dict, Path]:
    """What the card says, and its folder."""
    about = {"corpus": corpus, "title": "", "licence": "not known", "source": {}} | about

    def describe(sample, counts: dict) -> None:
        write_data_card(out / "card", facts.describe(out, sample, counts, rules, about))

    clean_corpus(corpus, raw, out, rules, describe=describe)
    return json.loads((out / "card" / "card.json").read_text()), out / "card"


def test_the_pages_show_the_numbers_and_the_figures(shared_data, tmp_path):
    raw = shared_data / "kaggle" / "gpreda" / "reddit-vaccine-myths"
    card, folder = make(raw, tmp_path, MASKING, "vaccine-myths", source={"version": 201})
    for name in ("card.md", "card.html"):
        text = (folder / name).read_text()
        for value in ("vaccine-myths", "201", f"{card['figures']['bytes']:,}", card["licence"]):
            assert value in text, (name, value)
    assert (folder / "card.html").read_text().count("<svg") == len(FIGURES)
    for name in FIGURES:
        assert f"({name}.png)" in (folder / "card.md").read_text()
        assert ElementTree.parse(folder / f"{name}.svg").getroot().tag.endswith("svg")
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    for name in ("card.json", "card.md", "card.html"):
        assert not re.search(personal.EMAIL, (folder / name).read_text())


def test_equal_data_gives_equal_bytes(raw, tmp_path):
    texts = [f"Text {spelled(n)} of ä few, with words & signs\n" for n in range(300)]
    source = raw({"a.jsonl": [*texts, "", "short", "short"]})
    code = (
        "import sys; from pathlib import Path; from data_contracts.rules import Rules; "
        "from tests.flows.pages.test_data_card import make; "
        "make(Path(sys.argv[1]), Path(sys.argv[2]), Rules(min_chars=4))"
    )
    for number in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": number, "POLARS_MAX_THREADS": number}
        command = [sys.executable, "-c", code, str(source), str(tmp_path / number)]
        subprocess.run(command, env=environment, cwd=ROOT, check=True)
    names = sorted(path.name for path in (tmp_path / "1" / "card").iterdir())
    assert len(names) == 3 + 2 * len(FIGURES)
    for name in names:
        assert (tmp_path / "1" / "card" / name).read_bytes() == (tmp_path / "2" / "card" / name).read_bytes(), name


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.text = set(), ""

    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)
        assert not [name for name, _ in attributes if name.startswith("on")]

    def handle_data(self, data):
        self.text += data


HOSTILE = (
    "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\n# heading | cell | `code`\n"
    "```\n[link](javascript:alert(3)) ![image](http://example.org/track.png) &lt;b&gt; $x^2$ \\alpha </td></table>"
)


def test_a_hostile_text_stays_text(raw, tmp_path):
    texts = [f"{HOSTILE} {spelled(n)}  \n\n\n\n" for n in range(60)]
    short = ["<s>", "$|", "\x1b[31m"]  # the last is seen before any rule has changed it
    source = raw({"<i>|a.jsonl": [*texts, *short, "<b>" * 200]}, "raw <b>")
    rules = Rules(min_chars=10, spaces=True, near_duplicates="keep")
    card, out = make(source, tmp_path / "out", rules, source={"files": {"<i>|a": "0" * 64}})
    tags = Tags()
    tags.feed((out / "card.html").read_text())
    assert not tags.seen & {"script", "img", "s", "b", "i", "a"}
    assert "pre" in tags.seen
    assert HOSTILE.split("\n")[0] in tags.text
    for line in (out / "card.md").read_text().splitlines():
        if not line.startswith("    ") and not line.startswith("!["):
            assert not re.search(r"(?<!\\)[<`\[]", line), line
    for name in FIGURES:
        ElementTree.parse(out / f"{name}.svg")
    assert "\x1b" not in "".join(row["text"] for row in card["rejected"])


def test_nothing_rejected_and_nothing_changed(raw, tmp_path):
    card, out = make(raw({"a.jsonl": [f"text number {n}" for n in range(50)]}), tmp_path / "out", Rules())
    assert (card["rejected"], card["changed"]) == ([], [])
    assert card["lengths"]["rejected"] == {}
    assert "Nothing was rejected." in (out / "card.md").read_text()
    assert "Nothing was changed." in (out / "card.md").read_text()
