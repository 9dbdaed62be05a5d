"""A reader of the documents: a home directory with texts, and a copy of the project."""

import csv
import io
import json
import random
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.flows.docs.reading import CONFIG, table


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> Path:
    """The home directory of a reader: notes, reviews, a download, and raw files in the form of each corpus."""
    folder = tmp_path_factory.mktemp("reader")
    draw = random.Random(0)
    syllables = [
        a + b for a in ("ba", "do", "gi", "lu", "me", "no", "ri", "sa", "te", "vu") for b in ("n", "r", "st", "")
    ]
    words = ["the", "of", "and", "to", "a", "in"] * 20 + [
        draw.choice(syllables) + draw.choice(syllables) for _ in range(400)
    ]
    texts = ["\n".join(" ".join(draw.choices(words, k=9)) + "." for _ in range(11)) for _ in range(80)]
    for name in ("notes", "Downloads", "raw/shakespeare", "raw/wsb", "raw/wiki", "raw/rick-and-morty"):
        (folder / name).mkdir(parents=True)
    for number, text in enumerate(texts):
        (folder / "notes" / f"{number:02}.txt").write_text(text)
    (folder / "reviews.csv").write_text(table({"id": "{}", "body": ""}, texts))
    speeches = "\n\n".join(f"SPEAKER {i % 7}:\n{text}" for i, text in enumerate(texts))
    (folder / "raw/shakespeare/input.txt").write_text(speeches)
    posts = {"title": "A post of some words {}", "score": "1", "id": "x{}", "url": "u", "comms_num": "0"}
    posts |= {"created": "1611862661.0", "body": "", "timestamp": "2021-01-28 21:37:41"}
    (folder / "raw/wsb/reddit_wsb.csv").write_text(table(posts, texts))
    articles = [{"id": str(i), "title": f"Article {i}", "text": text} for i, text in enumerate(texts)]
    (folder / "raw/wiki/articles.json").write_text(json.dumps(articles))
    script = {"": "{}", "season no.": "1", "episode no.": "{}", "episode name": "Pilot {}", "name": "Rick", "line": "-"}
    rows = [
        {**script, "": str(i), "episode no.": str(i // 5), "episode name": f"Pilot {i // 5}", "line": text}
        for i, text in enumerate(texts)
    ]
    file = io.StringIO()
    writer = csv.DictWriter(file, ["index", *list(script)[1:]])
    writer.writeheader()
    writer.writerows({("index" if name == "" else name): value for name, value in row.items()} for row in rows)
    with zipfile.ZipFile(folder / "Downloads" / "archive.zip", "w") as archive:
        archive.writestr("RickAndMortyScripts.csv", file.getvalue())
    return folder


@pytest.fixture
def project(tmp_path, empty_mlflow, reader) -> Path:
    """The project's folder, with a home of its own and room for what commands write."""
    folder = tmp_path / "project"
    (folder / ".gpt").mkdir(parents=True)
    shutil.copy(empty_mlflow, folder / ".gpt")
    for path in ROOT.iterdir():
        if path.name not in (".git", ".gpt"):
            (folder / path.name).symlink_to(path)
    (folder / "config.toml").write_text(CONFIG)
    (folder / "reviews.csv").symlink_to(reader / "reviews.csv")
    return folder
